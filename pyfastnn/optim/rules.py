"""The update rules: SGD (plain, momentum, Nesterov), AdaGrad, RMSProp, Adam and AdamW, each as PyTorch has it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.nn.layer import number
from pyfastnn.optim import schedules
from pyfastnn.optim.optimizer import Optimizer
from pyfastnn.optim.schedule import Schedule

_INF = float("inf")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's form of it, as PyTorch writes them.

    ``g = dp + weight_decay * p``; plain: ``p -= learning_rate * g``; momentum: ``v = momentum * v + g``, ``p -= learning_rate * v``;
    Nesterov: the same ``v``, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float, Schedule or str, default 0.01
        Step size, 0 or more, or how it goes (`Optimizer`).
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Nesterov (1983) as in Sutskever et al. (2013); needs momentum.
    weight_decay : float, default 0
        Coupled L2: the gradient of ``0.5 * weight_decay * sum(w * w)``. Biases and normalization parameters are exempt.
    l1, clip_norm, clip_value, max_norm, ema, rate_factors
        As for `Optimizer`.
    """

    kind = "sgd"
    default_rate = 0.01

    def __init__(
        self,
        learning_rate: float | Schedule | str = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            ema=ema,
            rate_factors=rate_factors,
        )
        self.momentum = number("SGD", "momentum", momentum, 0.0, 1.0)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0.0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0, such as 0.9")

    @property
    def op(self) -> str:
        """``sgd_step``, ``momentum_step`` or ``nesterov_step``."""
        return "sgd_step" if self.momentum == 0.0 else "nesterov_step" if self.nesterov else "momentum_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """The velocity, when there is momentum."""
        return () if self.momentum == 0.0 else ("velocity",)

    def fields(self) -> dict[str, float]:
        """Return decay, momentum and what is common."""
        return {**super().fields(), "momentum": self.momentum}

    def numbers(self) -> dict[str, Any]:
        """Return the momentum and its form."""
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class AdaGrad(Optimizer):
    """AdaGrad: each weight has a rate of its own, which only falls. Duchi, Hazan and Singer (2011); as PyTorch.

    With ``g = dp + weight_decay * p``: ``v = v + g * g``, ``p -= learning_rate * g / (sqrt(v) + eps)``.

    Parameters
    ----------
    learning_rate : float, Schedule or str, default 0.01
        Step size, 0 or more, or how it goes (`Optimizer`).
    eps : float, default 1e-10
        Above 0; outside the root.
    weight_decay : float, default 0
        Coupled L2; biases and normalization parameters are exempt.
    l1, clip_norm, clip_value, max_norm, ema, rate_factors
        As for `Optimizer`.
    """

    kind = "adagrad"
    default_rate = 0.01

    def __init__(
        self,
        learning_rate: float | Schedule | str = 0.01,
        *,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            ema=ema,
            rate_factors=rate_factors,
        )
        self.eps = number("AdaGrad", "eps", eps, 0.0, _INF, open_low=True)

    @property
    def slots(self) -> tuple[str, ...]:
        """The sum of the squared gradients."""
        return ("sum_of_squares",)

    def fields(self) -> dict[str, float]:
        """Return decay, eps and what is common."""
        return {**super().fields(), "eps": self.eps}

    def numbers(self) -> dict[str, Any]:
        """Return eps."""
        return {"eps": self.eps}


class RMSProp(Optimizer):
    """RMSProp: the gradient over its root mean square. Tieleman and Hinton (2012); as PyTorch, whose ``alpha`` is ``rho``.

    With ``g = dp + weight_decay * p``: ``v = rho * v + (1 - rho) * g * g``, ``d = g / (sqrt(v) + eps)``; then
    ``p -= learning_rate * d``, or with momentum ``u = momentum * u + d``, ``p -= learning_rate * u``.

    Parameters
    ----------
    learning_rate : float, Schedule or str, default 0.01
        Step size, 0 or more, or how it goes (`Optimizer`).
    rho : float, default 0.99
        Share of the mean of squares that is kept each step, in [0, 1).
    eps : float, default 1e-8
        Above 0; outside the root.
    momentum : float, default 0
        In [0, 1).
    weight_decay : float, default 0
        Coupled L2; biases and normalization parameters are exempt.
    l1, clip_norm, clip_value, max_norm, ema, rate_factors
        As for `Optimizer`.
    """

    kind = "rmsprop"
    default_rate = 0.01

    def __init__(
        self,
        learning_rate: float | Schedule | str = 0.01,
        *,
        rho: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            ema=ema,
            rate_factors=rate_factors,
        )
        self.rho = number("RMSProp", "rho", rho, 0.0, 1.0)
        self.eps = number("RMSProp", "eps", eps, 0.0, _INF, open_low=True)
        self.momentum = number("RMSProp", "momentum", momentum, 0.0, 1.0)

    @property
    def op(self) -> str:
        """``rmsprop_step`` or ``rmsprop_momentum_step``."""
        return "rmsprop_step" if self.momentum == 0.0 else "rmsprop_momentum_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """The mean of the squared gradients, and the velocity when there is momentum."""
        return ("mean_of_squares",) if self.momentum == 0.0 else ("mean_of_squares", "velocity")

    def fields(self) -> dict[str, float]:
        """Return decay, rho, eps, momentum and what is common."""
        return {**super().fields(), "rho": self.rho, "eps": self.eps, "momentum": self.momentum}

    def numbers(self) -> dict[str, Any]:
        """Return rho, eps and momentum."""
        return {"rho": self.rho, "eps": self.eps, "momentum": self.momentum}


class Adam(Optimizer):
    """Adam with coupled weight decay. Kingma and Ba (2015), algorithm 1; ``eps`` outside the root, as PyTorch.

    ``g = dp + weight_decay * p``, ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g * g``,
    ``p -= learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)`` at step t = 1, 2, ...

    Parameters
    ----------
    learning_rate : float, Schedule or str, default 1e-3
        Step size, 0 or more, or how it goes (`Optimizer`).
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    weight_decay : float, default 0
        Coupled L2; biases and normalization parameters are exempt.
    l1, clip_norm, clip_value, max_norm, ema, rate_factors
        As for `Optimizer`.
    """

    kind = "adam"
    default_rate = 1e-3

    def __init__(
        self,
        learning_rate: float | Schedule | str = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            ema=ema,
            rate_factors=rate_factors,
        )
        owner = type(self).__name__
        self.beta1 = number(owner, "beta1", beta1, 0.0, 1.0)
        self.beta2 = number(owner, "beta2", beta2, 0.0, 1.0)
        self.eps = number(owner, "eps", eps, 0.0, _INF, open_low=True)

    @property
    def slots(self) -> tuple[str, ...]:
        """The two moments."""
        return ("m", "v")

    def fields(self) -> dict[str, float]:
        """Return decay, betas, eps and what is common."""
        return {**super().fields(), "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}

    def following(self, step: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the bias corrections ``1 - beta**t``."""
        return {"correction1": 1.0 - self.beta1**step, "correction2": 1.0 - self.beta2**step}

    def numbers(self) -> dict[str, Any]:
        """Return betas and eps."""
        return {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}


class AdamW(Adam):
    """Adam with decoupled weight decay. Loshchilov and Hutter (2019).

    ``p *= 1 - learning_rate * weight_decay`` first, then a step of `Adam` without decay.

    Parameters
    ----------
    learning_rate : float, Schedule or str, default 1e-3
        Step size, 0 or more, or how it goes (`Optimizer`).
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    weight_decay : float, default 0.01
        Decoupled; biases and normalization parameters are exempt.
    l1, clip_norm, clip_value, max_norm, ema, rate_factors
        As for `Optimizer`.
    """

    kind = "adamw"
    default_rate = 1e-3
    decoupled = True

    def __init__(
        self,
        learning_rate: float | Schedule | str = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        l1: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        ema: float | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=weight_decay,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            l1=l1,
            clip_norm=clip_norm,
            clip_value=clip_value,
            max_norm=max_norm,
            ema=ema,
            rate_factors=rate_factors,
        )


OPTIMIZERS: dict[str, Any] = {c.kind: c for c in (SGD, AdaGrad, RMSProp, Adam, AdamW)}
_NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer for an object or a name: that of a rule, or ``"momentum"`` or ``"nesterov"`` at 0.9.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If the name is unknown.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer is {optimizer!r}, expected a name or an object of pyfastnn.optim")
    if optimizer in ("momentum", "nesterov"):
        return SGD(momentum=0.9, nesterov=optimizer == "nesterov")
    if optimizer not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", optimizer, _NAMES))
    made: Optimizer = OPTIMIZERS[optimizer]()
    return made


def from_config(kind: str, config: dict[str, Any]) -> Optimizer:
    """Build an optimizer from a checkpoint.

    Raises
    ------
    ValueError
        If the kind or a setting is unknown.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", kind, OPTIMIZERS))
    known = [p for p in inspect.signature(OPTIMIZERS[kind].__init__).parameters if p != "self"]
    for key in config:
        if key not in known:
            raise ValueError(unknown(f"setting of {kind}", key, known))
    settings = dict(config)
    if isinstance(settings.get("learning_rate"), dict):
        settings["learning_rate"] = schedules.from_config(settings["learning_rate"])
    made: Optimizer = OPTIMIZERS[kind](**settings)
    return made
