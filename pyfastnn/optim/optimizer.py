"""SGD (plain, momentum, Nesterov), Adam and AdamW.

An optimizer object holds numbers only. It names the op that updates one parameter and the slots (arrays of the parameter's shape) the
op keeps, and writes its numbers into the hyper rows of a run; so any number may be changed between two fits.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn.nn.layer import number

_INF = float("inf")


class Optimizer:
    """Base of all update rules.

    Parameters
    ----------
    learning_rate : float
        Step size, 0 or more.
    weight_decay : float
        L2 coefficient, 0 or more. Biases and the parameters of normalization layers are exempt.
    """

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Let the constructor of every update rule answer unknown keywords helpfully."""
        if "__init__" in cls.__dict__:
            cls.__init__ = helpful_keywords(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        owner = type(self).__name__
        self.learning_rate = number(owner, "learning_rate", learning_rate, 0.0, _INF)
        self.weight_decay = number(owner, "weight_decay", weight_decay, 0.0, _INF)

    @property
    def op(self) -> str:
        """Name of the op that updates one parameter."""
        raise NotImplementedError

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the arrays the op keeps per parameter, in op order; they start at 0."""
        return ()

    @property
    def penalized(self) -> bool:
        """Whether the decay is the gradient of ``0.5 * weight_decay * sum(w * w)``, a penalty on the loss."""
        return self.weight_decay > 0

    def fields(self) -> dict[str, float]:
        """Return the numbers the op reads from its hyper row, except those that follow the step number."""
        return {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay}

    def following(self, step: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the fields that follow the step number (counted from 1), one item per step."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the settings: what the constructor takes."""
        return {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay}

    def __repr__(self) -> str:
        """Show the call that makes the optimizer."""
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's form of it, as PyTorch writes them.

    ``g = dp + weight_decay * p``; plain: ``p -= learning_rate * g``; momentum: ``v = momentum * v + g``, ``p -= learning_rate * v``;
    Nesterov: the same ``v``, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        Step size, 0 or more.
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Nesterov (1983) as in Sutskever et al. (2013); needs momentum.
    weight_decay : float, default 0
        Coupled L2: the gradient of ``0.5 * weight_decay * sum(w * w)``. Biases and normalization parameters are exempt.
    """

    kind = "sgd"

    def __init__(
        self, learning_rate: float = 0.01, *, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate, weight_decay)
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
        """Return rate, decay and momentum."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
        }

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Adam with coupled weight decay. Kingma and Ba (2015), algorithm 1; ``eps`` outside the root, as PyTorch.

    ``g = dp + weight_decay * p``, ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g * g``,
    ``p -= learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)`` at step t = 1, 2, ...

    Parameters
    ----------
    learning_rate : float, default 1e-3
        Step size, 0 or more.
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    weight_decay : float, default 0
        Coupled L2; biases and normalization parameters are exempt.
    """

    kind = "adam"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        owner = type(self).__name__
        self.beta1 = number(owner, "beta1", beta1, 0.0, 1.0)
        self.beta2 = number(owner, "beta2", beta2, 0.0, 1.0)
        self.eps = number(owner, "eps", eps, 0.0, _INF, open_low=True)

    @property
    def op(self) -> str:
        """``adam_step`` or ``adamw_step``."""
        return f"{self.kind}_step"

    @property
    def slots(self) -> tuple[str, ...]:
        """The two moments."""
        return ("m", "v")

    def fields(self) -> dict[str, float]:
        """Return rate, decay, betas and eps."""
        return {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "eps": self.eps,
        }

    def following(self, step: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the bias corrections ``1 - beta**t``."""
        return {"correction1": 1.0 - self.beta1**step, "correction2": 1.0 - self.beta2**step}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {**super().config(), "beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - learning_rate * weight_decay`` first. Loshchilov and Hutter (2019).

    Parameters
    ----------
    learning_rate : float, default 1e-3
        Step size, 0 or more.
    beta1, beta2 : float, default 0.9 and 0.999
        In [0, 1).
    eps : float, default 1e-8
        Above 0.
    weight_decay : float, default 0.01
        Decoupled; biases and normalization parameters are exempt.
    """

    kind = "adamw"

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(learning_rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)

    @property
    def penalized(self) -> bool:
        """Decoupled decay is no penalty on the loss."""
        return False


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {c.kind: c for c in (SGD, Adam, AdamW)}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer for an object or a name (``"sgd"``, ``"adam"``, ``"adamw"``, or ``"momentum"``/``"nesterov"`` at 0.9).

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
        raise ValueError(unknown("optimizer", optimizer, [*OPTIMIZERS, "momentum", "nesterov"]))
    return OPTIMIZERS[optimizer]()


def from_config(kind: str, config: dict[str, Any]) -> Optimizer:
    """Build an optimizer from a checkpoint.

    Raises
    ------
    ValueError
        If the kind or a setting is unknown.
    """
    if kind not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", kind, OPTIMIZERS))
    known = OPTIMIZERS[kind]().config()
    for key in config:
        if key not in known:
            raise ValueError(unknown(f"setting of {kind}", key, known))
    return OPTIMIZERS[kind](**config)
