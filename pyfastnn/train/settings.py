"""Checks of what a Trainer is made with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyfastnn import _core
from pyfastnn._names import unknown
from pyfastnn.nn import losses
from pyfastnn.nn.layer import number
from pyfastnn.nn.losses import Loss
from pyfastnn.nn.model import Model

PRECISIONS = ("float32", "bf16")


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
