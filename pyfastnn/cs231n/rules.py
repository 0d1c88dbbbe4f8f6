"""The lectures' update rules, as an optimizer of native steps and as NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import optim

Array = NDArray[Any]

UPDATES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
EPS = 1e-7
"""Beside the root in AdaGrad, RMSProp and Adam, as on the lecture's slides."""
RHO = 0.99
BETA1, BETA2 = 0.9, 0.999

_LEAST_SHARE = 1e-12
"""Of the first rate: where the last one is less, a velocity in units of it may leave the range of float32."""


@dataclass(frozen=True)
class Rule:
    """An update rule with its numbers.

    Attributes
    ----------
    update : str
        One of `UPDATES`.
    momentum : float
        Of ``"momentum"`` and ``"nesterov"``, which without it are plain SGD.
    """

    update: str
    momentum: float

    @property
    def kind(self) -> str:
        """The rule that is left where the momentum is 0."""
        return "sgd" if self.update in ("momentum", "nesterov") and self.momentum == 0.0 else self.update

    def is_native(self, decay: float, epochs: int) -> bool:
        """Return whether native steps follow it.

        Their velocity is the sum of gradients, which the rate multiplies later; the lectures' is the sum of steps. One becomes the other
        by the rate, unless the rate falls to nothing.
        """
        return self.kind not in ("momentum", "nesterov") or float(decay) ** epochs >= _LEAST_SHARE

    def optimizer(self, rate: float, reg: float) -> optim.Optimizer:
        """Return the optimizer of native steps."""
        if self.kind == "adagrad":
            return optim.AdaGrad(rate, eps=EPS, weight_decay=reg)
        if self.kind == "rmsprop":
            return optim.RMSProp(rate, rho=RHO, eps=EPS, weight_decay=reg)
        if self.kind == "adam":
            return optim.Adam(rate, beta1=BETA1, beta2=BETA2, eps=EPS, weight_decay=reg)
        momentum = 0.0 if self.kind == "sgd" else self.momentum
        return optim.SGD(rate, momentum=momentum, nesterov=self.kind == "nesterov", weight_decay=reg)


class Changes:
    """What a rule adds to parameters, in NumPy, with the arrays it keeps.

    Parameters
    ----------
    rule : Rule
        Its name and numbers.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.cache: dict[str, Array] = {}
        self.step: dict[str, int] = {}

    def change(self, name: str, g: Array, rate: float) -> Array:
        """Return what to add to a parameter for its gradient ``g``."""
        kind, momentum = self.rule.kind, self.rule.momentum
        if kind == "sgd":
            return -rate * g
        if kind == "adagrad":
            squares = self._keep(name, self._kept(name, g) + g * g)
            return -rate * g / (np.sqrt(squares) + EPS)
        if kind == "rmsprop":
            squares = self._keep(name, RHO * self._kept(name, g) + (1 - RHO) * g * g)
            return -rate * g / (np.sqrt(squares) + EPS)
        if kind == "adam":
            t = self.step[name] = self.step.get(name, 0) + 1
            m = self._keep(f"{name}.m", BETA1 * self._kept(f"{name}.m", g) + (1 - BETA1) * g)
            v = self._keep(f"{name}.v", BETA2 * self._kept(f"{name}.v", g) + (1 - BETA2) * g * g)
            return -rate * (m / (1 - BETA1**t)) / (np.sqrt(v / (1 - BETA2**t)) + EPS)
        before = self._kept(name, g)
        velocity = self._keep(name, momentum * before - rate * g)
        return velocity if kind == "momentum" else velocity + momentum * (velocity - before)

    def _kept(self, name: str, like: Array) -> Array:
        return self.cache[name] if name in self.cache else np.zeros_like(like)

    def _keep(self, name: str, array: Array) -> Array:
        self.cache[name] = array
        return array
