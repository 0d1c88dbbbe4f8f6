"""First values of weights, by name or as an object."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, ...]


def he_normal(rng: Rng, shape: Shape) -> Array:
    """Draw from N(0, 2 / fan_in): keeps the variance of ReLU layers. He et al. (2015), equation 10."""
    return rng.standard_normal(shape) * math.sqrt(2.0 / max(1, math.prod(shape[:-1])))


def xavier_normal(rng: Rng, shape: Shape) -> Array:
    """Draw from N(0, 2 / (fan_in + fan_out)): for tanh layers. Glorot and Bengio (2010)."""
    return rng.standard_normal(shape) * math.sqrt(2.0 / (math.prod(shape[:-1]) + shape[-1]))


def xavier_uniform(rng: Rng, shape: Shape) -> Array:
    """Draw from U(-a, a), a = sqrt(6 / (fan_in + fan_out)). Glorot and Bengio (2010), equation 16."""
    limit = math.sqrt(6.0 / (math.prod(shape[:-1]) + shape[-1]))
    return rng.uniform(-limit, limit, shape)


def zeros(rng: Rng, shape: Shape) -> Array:
    """Return zeros."""
    return np.zeros(shape)


def ones(rng: Rng, shape: Shape) -> Array:
    """Return ones."""
    return np.ones(shape)


BY_NAME: dict[str, Callable[[Rng, Shape], Array]] = {
    "he_normal": he_normal,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "zeros": zeros,
    "ones": ones,
}


class Normal:
    """Normally distributed values of any standard deviation, the lectures' "small random numbers".

    Parameters
    ----------
    std : float
        Standard deviation, 0 or more.
    """

    def __init__(self, std: float) -> None:
        if not std >= 0:
            raise ValueError(f"Normal: 'std' is {std}, expected 0 or more")
        self.std = float(std)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw ``std * N(0, 1)``."""
        return rng.standard_normal(shape) * self.std


def to_config(init: str | Normal) -> str | dict[str, float]:
    """Return the initializer as JSON."""
    return {"normal": init.std} if isinstance(init, Normal) else init


def from_config(config: Any) -> str | Normal:
    """Return the initializer a model file describes.

    Raises
    ------
    ValueError
        If the file names one that does not exist.
    """
    if isinstance(config, dict) and list(config) == ["normal"]:
        return Normal(config["normal"])
    return check(config)


def check(init: object) -> str | Normal:
    """Return ``init`` when it is a known name or a `Normal`.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If the name is unknown.
    """
    if isinstance(init, Normal):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init is {init!r}, expected a name or nn.initializers.Normal(std)")
    if init not in BY_NAME:
        raise ValueError(unknown("initializer", init, BY_NAME))
    return init


def draw(init: str | Normal, rng: Rng, shape: Shape) -> Array:
    """Draw the first values of one parameter, in float64."""
    return init(rng, shape) if isinstance(init, Normal) else BY_NAME[init](rng, shape)
