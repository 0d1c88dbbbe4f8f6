"""What a Trainer is made and called with: checked, also where it is set anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from pyfastnn import _core
from pyfastnn._names import unknown
from pyfastnn.diagnose.monitor import Monitor, checked_monitor
from pyfastnn.nn import losses
from pyfastnn.nn.layer import Layer, number
from pyfastnn.nn.losses import Loss
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer
from pyfastnn.optim import get as get_optimizer

GUARDS = ("nonfinite", "lecture", None)
METRICS = ("accuracy",)
PRECISIONS = ("float32", "bf16")


class Changeable:
    """The half of `Trainer` that may be set anew between fits; plans are compiled again where it matters."""

    model: Model
    _loss: Loss | dict[str, Loss]
    _loss_weights: dict[str, float]
    _optimizer: Optimizer
    _precision: str
    _monitor: Monitor | None
    _preflight: bool
    preflighted = False
    """Whether a fit has looked at its data."""

    @property
    def loss(self) -> Loss | Mapping[str, Loss]:
        """The loss, or those that outputs of a model with several have."""
        return self._loss if isinstance(self._loss, Loss) else MappingProxyType(self._loss)

    @loss.setter
    def loss(self, loss: str | Loss | Mapping[str, str | Loss]) -> None:
        found = checked_loss(loss, self.model)
        checked_loss_weights(self.__dict__.get("_loss_weights") or None, self.model, found)
        self._loss = found

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Parts of the losses of several outputs, where they were given."""
        return MappingProxyType(self._loss_weights)

    @loss_weights.setter
    def loss_weights(self, weights: Mapping[str, float] | None) -> None:
        self._loss_weights = checked_loss_weights(weights, self.model, self._loss)

    @property
    def optimizer(self) -> Optimizer:
        """The update rule."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: str | Optimizer) -> None:
        self._optimizer = get_optimizer(optimizer)

    @property
    def precision(self) -> str:
        """In what the matrix products of training steps are computed."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        check_precision(precision, self.model)
        self._precision = precision

    @property
    def _kinds(self) -> tuple[str, bool]:
        """What training steps are made in, beside the losses: their precision, and whether there are watched ones."""
        return self._precision, self._monitor is not None

    @property
    def monitor(self) -> Monitor | None:
        """What training is watched for, or None."""
        return self._monitor

    @monitor.setter
    def monitor(self, monitor: Monitor | bool | None) -> None:
        self._monitor = checked_monitor(monitor)

    @property
    def preflight(self) -> bool:
        """Whether the first fit looks at its data."""
        return self._preflight

    @preflight.setter
    def preflight(self, preflight: bool | None) -> None:
        if preflight is not None and not isinstance(preflight, bool):
            raise TypeError(f"Trainer: 'preflight' is {preflight!r}, expected True or False")
        self._preflight = bool(preflight)


def check_trainer(model: Any, metrics: str | Sequence[str], seed: int, guard: str | None, threads: int) -> None:
    """Raise an error unless a Trainer can be made with these."""
    if not isinstance(model, Model):
        raise TypeError(f"Trainer: 'model' is {model!r}, expected a model such as nn.Sequential(...)")
    if guard not in GUARDS:
        raise ValueError(f"Trainer: {unknown('guard', guard, ['nonfinite', 'lecture'])}, or None")
    if not isinstance(metrics, Iterable):
        raise TypeError(f"Trainer: 'metrics' is {metrics!r}, expected names such as 'accuracy'")
    for metric in (metrics,) if isinstance(metrics, str) else metrics:
        if metric not in METRICS:
            found = unknown("metric", metric, METRICS)
            raise ValueError(f"Trainer: {found}; others are found by trainer.evaluate(X, y, metrics=[...])")
    if not is_whole(seed) or not 0 <= seed < 2**53:
        raise ValueError(f"Trainer: 'seed' is {seed!r}, expected a whole number from 0 to 2**53 - 1")
    if not is_whole(threads) or not 0 <= threads < 2**15:
        raise ValueError(f"Trainer: 'threads' is {threads!r}, expected a whole number, 0 for the process-wide setting")


def check_fit(
    counts: Mapping[str, Any], max_seconds: float | None, verbose: int | None, X_val: Any = None, y_val: Any = None
) -> None:
    """Raise ValueError unless counts are 1 or more and the other settings of a fit make sense."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"fit: {name!r} is {value!r}, expected a whole number of 1 or more")
    if max_seconds is not None and number("fit", "max_seconds", max_seconds, 0.0, math.inf) <= 0:
        raise ValueError("fit: 'max_seconds' is 0, expected more")
    if verbose not in (None, 0, 1, 2):
        raise ValueError(f"fit: 'verbose' is {verbose!r}, expected 0 (nothing), 1 (lines), 2 (a bar) or None")
    if X_val is None and y_val is not None:
        raise ValueError("'y_val' was given without 'X_val'")


def checked_callbacks(callbacks: Any) -> list[Callable[..., object]]:
    """Return the callbacks of a fit as a list.

    Raises
    ------
    TypeError
        If this is no list of functions.
    """
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        shown = getattr(callbacks, "__name__", "function")
        hint = f": write callbacks=[{shown}]" if callable(callbacks) else ""
        raise TypeError(f"fit: 'callbacks' is {callbacks!r}, expected a list of functions{hint}")
    found = list(callbacks)
    for place, callback in enumerate(found):
        if not callable(callback):
            raise TypeError(f"fit: callbacks[{place}] is {callback!r}, expected a function of the trainer and a row")
    return found


def check_trainable(owner: str, model: Model, outputs: Iterable[str] | None = None) -> None:
    """Raise RuntimeError if training would change nothing: it takes as long, and nothing else tells.

    Parameters
    ----------
    owner : str
        Who is asked to train.
    model : Model
        Built or not.
    outputs : iterable of str, optional
        Those that have a loss; all by default.
    """
    if model.built:
        learned = list(dict.fromkeys(name.rsplit(".", 1)[0] for name, p in model.declared.items() if p.learned))
    else:
        learned = [name for name, layer in model.layers.items() if type(layer).parameters is not Layer.parameters]
    network = model.network
    values = {network.outputs[name] for name in (network.outputs if outputs is None else outputs)}
    layers: set[str] = set()
    for place, call in reversed([*enumerate(network.calls, len(network.inputs))]):
        if place in values:
            layers.add(call.layer)
            values.update(call.sources)
    learned = [name for name in learned if name in layers]
    if not learned:
        raise RuntimeError(f"{owner}: there are no parameters to train in the layers {', '.join(sorted(layers))}")
    if model.frozen.issuperset(learned):
        raise RuntimeError(
            f"{owner}: no parameter is trainable, as all layers with some that a loss depends on are frozen "
            f"({', '.join(learned)}): call model.unfreeze({learned[-1]!r}), or model.unfreeze() for all"
        )


def is_whole(value: object) -> bool:
    """Return whether ``value`` is a whole number, which True is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_precision(precision: str, model: Model) -> None:
    """Raise an error unless model and processor can compute in this precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"Trainer: {unknown('precision', precision, PRECISIONS)}")
    if precision == "float32":
        return
    if model.dtype != np.float32:
        raise ValueError(f"Trainer: precision='bf16' is for models of float32, this one is {model.dtype.name}")
    if not _core.multiplies_bf16():
        raise RuntimeError(
            "Trainer: precision='bf16' needs a processor with AVX512-BF16 (flag avx512_bf16) and the instruction set "
            f"avx512; here {_core.active_isa()} is active and the processor's best is {_core.detected_isa()}"
        )


def checked_loss(loss: Any, model: Model) -> Loss | dict[str, Loss]:
    """Return a loss object, or for a model with several outputs those of the ones that have one, in their order."""
    outputs = model.network.outputs
    if not isinstance(loss, Mapping):
        if len(outputs) > 1:
            raise TypeError(f"Trainer: 'loss' is {loss!r}, expected a dict by output: {', '.join(outputs)}")
        return losses.get(loss)
    for name in loss:
        if name not in outputs:
            raise ValueError(f"Trainer: 'loss': {unknown('output', name, outputs)}")
    if not loss:
        raise ValueError(f"Trainer: 'loss' is empty, expected a loss of at least one output: {', '.join(outputs)}")
    found = {name: losses.get(loss[name]) for name in outputs if name in loss}
    return found if len(outputs) > 1 else next(iter(found.values()))


def checked_loss_weights(
    weights: Mapping[str, float] | None, model: Model, loss: Loss | Mapping[str, Loss]
) -> dict[str, float]:
    """Return the parts of the losses that were given, by output."""
    outputs = model.network.outputs
    if weights is not None and len(outputs) == 1:
        raise ValueError("Trainer: 'loss_weights' is for models with several outputs, this one has one")
    for name in weights or ():
        if name not in outputs:
            raise ValueError(f"Trainer: 'loss_weights': {unknown('output', name, outputs)}")
        if isinstance(loss, Mapping) and name not in loss:
            raise ValueError(f"Trainer: 'loss_weights' has a part of output {name!r}, which has no loss")
    return {name: number("Trainer", "loss_weights", value, 0.0, math.inf) for name, value in (weights or {}).items()}
