"""What every update rule has: its numbers, and what stands around it (clipping, penalties, bounds, running means).

An optimizer object holds numbers only. It names the op that updates one parameter and the slots (arrays of the parameter's shape) the
op keeps, and its numbers are written into the hyper rows of a run; so any number may be changed between two fits or steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfastnn._settings import Settings
from pyfastnn.nn.layer import number
from pyfastnn.optim import schedules
from pyfastnn.optim.schedule import Schedule

_INF = float("inf")


class Optimizer(Settings):
    """Base of all update rules.

    A step takes the gradients of all parameters, cuts them by value, scales them by their norm, adds the coupled penalties, updates, bounds
    the norms of weights, and moves the running means; what is not asked for costs nothing.

    Every setting may be set anew (``trainer.optimizer.learning_rate = 1e-4``): it is checked as when the object is made, and counts from
    the next fit or step on.

    Parameters
    ----------
    learning_rate : float, Schedule or str
        Step size, 0 or more; or a schedule of `pyfastnn.optim`, or the name of one, such as ``"cosine"``.
    weight_decay : float
        L2 coefficient, 0 or more. Biases and the parameters of normalization layers are exempt.
    l1 : float, default 0
        L1 coefficient, 0 or more: ``l1 * sign(p)`` is added to the gradient. The same parameters are exempt.
    clip_norm : float, optional
        The gradients are scaled down together so that the norm of all of them does not exceed this
        (``torch.nn.utils.clip_grad_norm_``).
    clip_value : float, optional
        Every item of a gradient is cut to ``[-clip_value, clip_value]``, before the norm is taken.
    max_norm : float, optional
        After each update the incoming weights of a unit (a column of a weight) are scaled back to this norm if theirs is larger.
        Srivastava et al. (2014). Parameters that weight decay spares are left alone.
    ema : float, optional
        In [0, 1): keep a running mean of every parameter, ``mean += (1 - ema) * (p - mean)`` after each update, beginning with the
        first weights. `Trainer.ema_model` gives the model with these weights.
    rate_factors : mapping of str to float, optional
        Multiplies the learning rate of a layer's or of one array's parameters: ``{"linear_1": 0.1, "linear_2.b": 2.0}``. The factor of
        an array stands in place of that of its layer; 0 keeps its values.
    """

    kind: ClassVar[str] = ""
    default_rate: ClassVar[float] = 0.01
    decoupled: ClassVar[bool] = False
    """Whether the weight decay shrinks the weights themselves and is no penalty on the loss."""
    version: int = 0
    """Counts the changes of the settings."""
    _structure: tuple[int, tuple[Any, ...]] = (-1, ())

    def __init__(
        self,
        learning_rate: float | Schedule | str,
        weight_decay: float,
        *,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        owner = type(self).__name__
        self.learning_rate: float | Schedule
        if isinstance(learning_rate, str):
            try:
                learning_rate = schedules.get(learning_rate)
            except ValueError as error:
                raise ValueError(f"{owner}: 'learning_rate': {error}") from None
        if isinstance(learning_rate, Schedule):
            self.learning_rate = learning_rate
        else:
            self.learning_rate = number(owner, "learning_rate", learning_rate, 0.0, _INF)
        self.weight_decay = number(owner, "weight_decay", weight_decay, 0.0, _INF)
        self.l1 = number(owner, "l1", l1, 0.0, _INF)
        self.clip_norm = _above_zero(owner, "clip_norm", clip_norm)
        self.clip_value = _above_zero(owner, "clip_value", clip_value)
        self.max_norm = _above_zero(owner, "max_norm", max_norm)
        self.ema = None if ema is None else number(owner, "ema", ema, 0.0, 1.0)
        if rate_factors is not None and not isinstance(rate_factors, Mapping):
            raise TypeError(f"{owner}: 'rate_factors' is {rate_factors!r}, expected a dict of names and factors")
        self.rate_factors = {
            str(name): number(owner, f"rate_factors[{name!r}]", factor, 0.0, _INF)
            for name, factor in (rate_factors or {}).items()
        }

    def __setattr__(self, name: str, value: object) -> None:
        """Check a setting and count the change, so that what was made of the numbers is known to be stale."""
        super().__setattr__(name, value)
        self.__dict__["version"] = self.version + 1

    def _changed(self, name: str, value: object) -> object:
        """Return the setting as the constructor makes it of this value beside the others."""
        if name == "learning_rate" and isinstance(value, float) and 0.0 <= value < _INF:
            return float(value)  # what loops of single steps set every time, checked without making another rule
        super()._changed(name, value)
        make: Any = type(self)
        settings = self._settings()
        if not _arguments(make) >= settings.keys():
            return value  # a rule of the user's, whose constructor takes other arguments
        return getattr(make(**{**settings, name: value}), name)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        del settings["version"]
        return settings

    @property
    def op(self) -> str:
        """Name of the op that updates one parameter."""
        return f"{self.kind}_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays the op keeps per parameter, in op order; they start at 0."""
        return ()

    @property
    def penalized(self) -> bool:
        """Whether the loss has a penalty: ``0.5 * weight_decay * sum(w * w)`` if the decay is coupled, and ``l1 * sum(abs(w))``."""
        return self.l1 > 0 or (self.weight_decay > 0 and not self.decoupled)

    @property
    def structure(self) -> tuple[Any, ...]:
        """What a compiled step depends on; all other numbers may change from run to run."""
        if self._structure[0] != self.version:
            parts = (self.clip_norm, self.clip_value, self.max_norm, self.ema)
            found = (self.op, self.l1 > 0, *(p is not None for p in parts))
            self.__dict__["_structure"] = (self.version, found)
        fixed = self._structure[1]
        return (*fixed, *self.rate_factors.items()) if self.rate_factors else fixed

    def rates(self, step: NDArray[np.float64], epoch: NDArray[np.float64], reductions: int) -> NDArray[np.float64]:
        """Return the learning rates of some steps, given the steps and epochs done before each."""
        if isinstance(self.learning_rate, Schedule):
            return self.learning_rate.rates(step, epoch, self.default_rate, reductions)
        return np.full(step.shape, self.learning_rate)

    def fields(self) -> dict[str, float]:
        """Return the numbers the ops read from their hyper row, except the learning rate and those that follow the step number."""
        found = {"weight_decay": self.weight_decay}
        if self.l1:
            found["l1"] = self.l1
        if self.clip_norm is not None:
            found["clip_norm"] = self.clip_norm
        if self.clip_value is not None:
            found["clip_value"] = self.clip_value
        if self.max_norm is not None:
            found["max_norm"] = self.max_norm
        if self.ema is not None:
            found["ema_decay"] = self.ema
        return found

    def following(self, step: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the fields that follow the step number (counted from 1), one item per step."""
        return {}

    def numbers(self) -> dict[str, Any]:
        """Return the settings of this rule alone, beside rate and decay."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON: what the constructor takes, without what is off."""
        rate = self.learning_rate
        found: dict[str, Any] = {
            "learning_rate": rate.config() if isinstance(rate, Schedule) else rate,
            "weight_decay": self.weight_decay,
            **self.numbers(),
        }
        if self.l1:
            found["l1"] = self.l1
        for name in ("clip_norm", "clip_value", "max_norm", "ema"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.rate_factors:
            found["rate_factors"] = dict(self.rate_factors)
        return found

    def __repr__(self) -> str:
        """Show the call that makes the optimizer."""
        settings = {**self.config(), "learning_rate": self.learning_rate}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


@cache
def _arguments(cls: type) -> frozenset[str]:
    """Return what a constructor takes."""
    return frozenset(inspect.signature(cls).parameters)


def _above_zero(owner: str, name: str, value: float | None) -> float | None:
    return None if value is None else number(owner, name, value, 0.0, _INF, open_low=True)
