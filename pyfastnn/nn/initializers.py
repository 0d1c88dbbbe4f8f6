"""First values of weights, by name or as an object.

Normal distributions are not truncated. The same seed gives the same bits on any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords, unknown

if TYPE_CHECKING:
    from pyfastnn.nn.lsuv import lsuv

__all__ = [
    "BY_NAME",
    "Constant",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "LeCunUniform",
    "Normal",
    "Ones",
    "Orthogonal",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "check",
    "draw",
    "fans",
    "from_config",
    "lsuv",
    "to_config",
]

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, ...]

MODES = ("fan_in", "fan_out")


def fans(shape: Shape) -> tuple[int, int]:
    """Return how many inputs feed one output of a weight, and how many outputs one input feeds.

    Parameters
    ----------
    shape : tuple of int
        ``(in, out)`` of a linear layer, or ``(kernel_h, kernel_w, in, out)`` of a convolution, where ``in`` counts the channels of one
        group: ``fan_in = kernel_h * kernel_w * in`` and ``fan_out = kernel_h * kernel_w * out``.

    Returns
    -------
    tuple of int
        ``(fan_in, fan_out)``, each at least 1.
    """
    if not shape:
        return 1, 1
    return max(1, math.prod(shape[:-1])), max(1, math.prod(shape[:-2]) * shape[-1])


class Initializer:
    """Base of all initializers: settings, and ``initializer(rng, shape) -> ndarray of float64``."""

    kind: ClassVar[str] = ""
    """Its name, as in ``nn.Linear(10, init="he_normal")`` and in model files."""

    def __init_subclass__(cls) -> None:
        """Let constructors answer unknown keywords helpfully."""
        if "__init__" in cls.__dict__:
            cls.__init__ = helpful_keywords(cls.__init__)  # type: ignore[method-assign]

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Return the first values of an array of one shape."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON: what the constructor takes."""
        return dict(vars(self))

    def __eq__(self, other: object) -> bool:
        """Compare kind and settings."""
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.kind, *vars(self).values()))

    def __repr__(self) -> str:
        """Show the call that makes it."""
        args = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({args})"


def _number(owner: object, name: str, value: object, low: float = -math.inf) -> float:
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "__float__")):
        raise TypeError(f"{type(owner).__name__}: {name!r} is {value!r}, expected a number")
    found = float(value)
    if not (math.isfinite(found) and found >= low):
        raise ValueError(
            f"{type(owner).__name__}: {name!r} is {found:g}, expected {f'{low:g} or more' if low > -math.inf else 'a finite number'}"
        )
    return found


class Zeros(Initializer):
    """All 0: for biases. Weights that start equal stay equal."""

    kind = "zeros"

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Return zeros."""
        return np.zeros(shape)


class Ones(Initializer):
    """All 1: for scales."""

    kind = "ones"

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Return ones."""
        return np.ones(shape)


class Constant(Initializer):
    """All the same value.

    Parameters
    ----------
    value : float
        Any finite number.
    """

    kind = "constant"

    def __init__(self, value: float) -> None:
        self.value = _number(self, "value", value)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Return the value everywhere."""
        return np.full(shape, self.value)


class Normal(Initializer):
    """Normally distributed values of any standard deviation, the lectures' "small random numbers".

    Parameters
    ----------
    std : float
        Standard deviation, 0 or more.
    """

    kind = "normal"

    def __init__(self, std: float) -> None:
        self.std = _number(self, "std", std, 0.0)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw ``std * N(0, 1)``."""
        return rng.standard_normal(shape) * self.std


class Uniform(Initializer):
    """Values spread evenly over an interval.

    Parameters
    ----------
    low, high : float
        The interval; ``low`` is at most ``high``.
    """

    kind = "uniform"

    def __init__(self, low: float, high: float) -> None:
        self.low = _number(self, "low", low)
        self.high = _number(self, "high", high, self.low)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from U(low, high)."""
        return rng.uniform(self.low, self.high, shape)


class XavierNormal(Initializer):
    """N(0, gain**2 * 2 / (fan_in + fan_out)): for tanh and sigmoid layers. Glorot and Bengio (2010).

    Parameters
    ----------
    gain : float, default 1
        Factor, 0 or more; 5/3 is usual before tanh.
    """

    kind = "xavier_normal"

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = _number(self, "gain", gain, 0.0)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the normal distribution."""
        return rng.standard_normal(shape) * (self.gain * math.sqrt(2.0 / sum(fans(shape))))


class XavierUniform(Initializer):
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)). Glorot and Bengio (2010), equation 16.

    Parameters
    ----------
    gain : float, default 1
        Factor, 0 or more; 5/3 is usual before tanh.
    """

    kind = "xavier_uniform"

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = _number(self, "gain", gain, 0.0)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the uniform distribution."""
        limit = self.gain * math.sqrt(6.0 / sum(fans(shape)))
        return rng.uniform(-limit, limit, shape)


def _check_mode(owner: object, mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"{type(owner).__name__}: {unknown('mode', mode, MODES)}")
    return mode


def _he_variance(shape: Shape, mode: str, negative_slope: float) -> float:
    """Return ``2 / ((1 + negative_slope**2) * fan)``."""
    return 2.0 / ((1.0 + negative_slope**2) * fans(shape)[MODES.index(mode)])


class HeNormal(Initializer):
    """N(0, 2 / ((1 + negative_slope**2) * fan)): keeps the variance through ReLU layers. He et al. (2015), equations 10 and 15.

    Parameters
    ----------
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether the variance is kept on the way forward or backward.
    negative_slope : float, default 0
        That of the `nn.LeakyReLU` after the layer.
    """

    kind = "he_normal"

    def __init__(self, mode: str = "fan_in", negative_slope: float = 0.0) -> None:
        self.mode = _check_mode(self, mode)
        self.negative_slope = _number(self, "negative_slope", negative_slope)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the normal distribution."""
        return rng.standard_normal(shape) * math.sqrt(_he_variance(shape, self.mode, self.negative_slope))


class HeUniform(Initializer):
    """U(-a, a) of the variance of `HeNormal`: a = sqrt(6 / ((1 + negative_slope**2) * fan)). He et al. (2015).

    Parameters
    ----------
    mode : {"fan_in", "fan_out"}, default "fan_in"
        Whether the variance is kept on the way forward or backward.
    negative_slope : float, default 0
        That of the `nn.LeakyReLU` after the layer.
    """

    kind = "he_uniform"

    def __init__(self, mode: str = "fan_in", negative_slope: float = 0.0) -> None:
        self.mode = _check_mode(self, mode)
        self.negative_slope = _number(self, "negative_slope", negative_slope)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the uniform distribution."""
        limit = math.sqrt(3.0 * _he_variance(shape, self.mode, self.negative_slope))
        return rng.uniform(-limit, limit, shape)


class LeCunNormal(Initializer):
    """N(0, 1 / fan_in): for SELU layers and scaled tanh. LeCun et al. (1998), section 4.6."""

    kind = "lecun_normal"

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the normal distribution."""
        return rng.standard_normal(shape) * math.sqrt(1.0 / fans(shape)[0])


class LeCunUniform(Initializer):
    """U(-a, a) with a = sqrt(3 / fan_in). LeCun et al. (1998), section 4.6."""

    kind = "lecun_uniform"

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Draw from the uniform distribution."""
        limit = math.sqrt(3.0 / fans(shape)[0])
        return rng.uniform(-limit, limit, shape)


class Orthogonal(Initializer):
    """A random orthogonal matrix: columns (rows, if there are fewer) of length ``gain`` at right angles. Saxe et al. (2014).

    Filters are read as a matrix of shape (fan_in, out).

    Parameters
    ----------
    gain : float, default 1
        Length of the columns, 0 or more; sqrt(2) before ReLU.
    """

    kind = "orthogonal"

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = _number(self, "gain", gain, 0.0)

    def __call__(self, rng: Rng, shape: Shape) -> Array:
        """Make a normal matrix orthogonal.

        Raises
        ------
        ValueError
            If the shape has fewer than two dimensions.
        """
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the shape is {shape}, expected a matrix or filters")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = rng.standard_normal((min(rows, columns), max(rows, columns)))
        found = _orthonormal(normal)
        return self.gain * (found.T if rows >= columns else found).reshape(shape)


def _orthonormal(a: Array) -> Array:
    """Return orthonormal rows that span those of ``a``, which are independent, by Gram-Schmidt, each row twice.

    Of a normal matrix the result is uniform over all orthonormal sets. Two passes keep the rows orthogonal to rounding (Giraud et al.
    2005). einsum sums in one order on any number of threads, which LAPACK does not promise.
    """
    q = np.empty_like(a)
    for k, row in enumerate(a):
        for _ in range(2):
            row = row - np.einsum("j,jr->r", np.einsum("jr,r->j", q[:k], row), q[:k])
        q[k] = row / math.sqrt(float(np.einsum("r,r->", row, row)))
    return q


_KINDS: dict[str, type[Initializer]] = {
    c.kind: c
    for c in (
        HeNormal,
        HeUniform,
        XavierNormal,
        XavierUniform,
        LeCunNormal,
        LeCunUniform,
        Orthogonal,
        Normal,
        Uniform,
        Constant,
        Zeros,
        Ones,
    )
}

BY_NAME: dict[str, Initializer] = {
    kind: make() for kind, make in _KINDS.items() if make not in (Normal, Uniform, Constant)
}
"""Initializers that a string names: those whose settings all have defaults."""


def to_config(init: str | Initializer) -> str | dict[str, Any]:
    """Return the initializer as JSON: its name, or its name and settings."""
    return {init.kind: init.config()} if isinstance(init, Initializer) else init


def from_config(config: Any) -> str | Initializer:
    """Return the initializer a model file describes; an initializer itself is returned too.

    Raises
    ------
    TypeError, ValueError
        If the file names one that does not exist, or settings that do not fit.
    """
    if not isinstance(config, Mapping):
        return check(config)
    if len(config) != 1:
        raise ValueError(f"init is {dict(config)!r}, expected one name with its settings")
    ((kind, settings),) = config.items()
    if kind not in _KINDS:
        raise ValueError(unknown("initializer", kind, _KINDS))
    if not isinstance(settings, Mapping):  # one number, as model files have it for a normal distribution
        return _KINDS[kind](settings)  # type: ignore[call-arg]
    return _KINDS[kind](**settings)


def check(init: object) -> str | Initializer:
    """Return ``init`` when it is a known name or an `Initializer`.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If the name is unknown, or stands for one that has no default settings.
    """
    if isinstance(init, Initializer):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init is {init!r}, expected a name or an initializer such as nn.initializers.Normal(std)")
    if init not in BY_NAME:
        if init in _KINDS:
            raise ValueError(
                f"init is {init!r}, which needs settings: write nn.initializers.{_KINDS[init].__name__}(...)"
            )
        raise ValueError(unknown("initializer", init, BY_NAME))
    return init


def draw(init: str | Initializer, rng: Rng, shape: Shape) -> Array:
    """Draw the first values of one parameter, in float64."""
    return (BY_NAME[init] if isinstance(init, str) else init)(rng, shape)


def __getattr__(name: str) -> Any:
    """Import `lsuv` on first use: it runs models, which import this file."""
    if name != "lsuv":
        raise AttributeError(unknown("name in pyfastnn.nn.initializers", name, __all__))
    from pyfastnn.nn.lsuv import lsuv

    return lsuv
