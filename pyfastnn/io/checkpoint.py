"""Checkpoints: a model file with everything a bit-exact continuation of its training needs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.diagnose.monitor import from_config as monitor_from_config
from pyfastnn.diagnose.statistics import statistics_of, statistics_tensors
from pyfastnn.diagnose.verdicts import from_config as verdict_from_config
from pyfastnn.io import safetensors
from pyfastnn.io.model_file import from_file, parse_json, to_file
from pyfastnn.io.safetensors import ModelFileError
from pyfastnn.nn import losses
from pyfastnn.optim.rules import from_config
from pyfastnn.train.history import COLUMNS, Row, column_order
from pyfastnn.train.prepare import loss_settings

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

# Prefixes of the tensors beside those of the model; no layer name holds a slash.
_SLOT = "optimizer/"
_HISTORY = "history/"
_LOSS = "loss/"
_STATISTICS = "statistics/"


def save(trainer: Trainer, path: str | Path) -> None:
    """Write a checkpoint; the file is replaced as a whole or not at all.

    Parameters
    ----------
    trainer : Trainer
        Its model must be built.
    path : path
        The file.

    Raises
    ------
    RuntimeError
        If the model is not built.
    TypeError
        If a loss or a layer is a function of Python: code is never saved. No file is written then.
    """
    for head in trainer.heads:
        if head.loss.kind not in losses.LOSSES:
            raise TypeError(f"checkpoint: {head.loss!r} cannot be saved; model.save writes the weights")
    tensors, metadata = to_file(trainer.model)
    tensors.update({_SLOT + name: array for name, array in trainer.make_slots().items()})
    for column in trainer.history.columns:
        tensors[_HISTORY + column] = np.array([row.get(column, math.nan) for row in trainer.history.rows], np.float64)
    for _, arrays in trainer.loss_arrays.values():
        tensors.update({_LOSS + name: array for name, array in arrays.items()})
    watched, layers = statistics_tensors(trainer.history.statistics)
    tensors.update({_STATISTICS + name: array for name, array in watched.items()})
    first = trainer.first_loss
    settings = {
        "loss": {head.output: head.loss.kind for head in trainer.heads},
        "loss_settings": {head.output: head.loss.config() for head in trainer.heads},
        "loss_weights": dict(trainer.loss_weights),
        "optimizer": trainer.optimizer.kind,
        "optimizer_settings": trainer.optimizer.config(),
        "seed": trainer.seed,
        "guard": trainer.guard,
        "precision": trainer.precision,
        "epoch": trainer.epoch,
        "step_count": trainer.step_count,
        "first_loss": first if math.isfinite(first) else None,
        "begun": trainer.slots.begun,
        "monitor": None if trainer.monitor is None else trainer.monitor.config(),
        "preflight": trainer.preflight,
        "watched": layers,
        "verdicts": [verdict.config() for verdict in trainer.history.verdicts],
    }
    safetensors.write(path, tensors, {**metadata, "format": "pyfastnn checkpoint", "trainer": json.dumps(settings)})


def load(path: str | Path) -> Trainer:
    """Read a checkpoint.

    Parameters
    ----------
    path : path
        A file written by ``trainer.checkpoint``.

    Returns
    -------
    Trainer
        ``fit`` with the same arguments continues bit for bit.

    Raises
    ------
    ModelFileError
        If the file is damaged, is no checkpoint, or was written by a later version.
    RuntimeError
        If the training was in a precision that this processor lacks.
    """
    from pyfastnn.train.trainer import Trainer

    tensors, metadata = safetensors.read(path)
    if "trainer" not in metadata:
        raise ModelFileError("the file is a model without training state; pyfastnn.load reads it")
    model = from_file(tensors, metadata)
    settings = parse_json(metadata, "trainer")
    try:
        trainer = Trainer(
            model,
            _losses(settings["loss"], settings.get("loss_settings", {})),
            from_config(settings["optimizer"], settings["optimizer_settings"]),
            loss_weights=settings.get("loss_weights") or None,
            seed=settings["seed"],
            guard=settings["guard"],
            precision=settings.get("precision", "float32"),
            monitor=monitor_from_config(settings["monitor"]) if "monitor" in settings else True,
            preflight=settings.get("preflight", True),
        )
        trainer.epoch = _count(settings, "epoch")
        trainer.step_count = _count(settings, "step_count")
        trainer.first_loss = math.nan if settings["first_loss"] is None else float(settings["first_loss"])
        wanted = trainer.make_slots()
        trainer.slots.begun = _begun(settings.get("begun", {}), trainer)
        for name, array in wanted.items():
            given = tensors[_SLOT + name]
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(f"{name!r} has shape {given.shape}, expected {array.shape}")
            array[...] = given
        _read_loss_arrays(trainer, tensors)
        trainer.history.rows.extend(_history(tensors))
        watched = {k.removeprefix(_STATISTICS): v for k, v in tensors.items() if k.startswith(_STATISTICS)}
        trainer.history.statistics = statistics_of(watched, settings.get("watched", []))
        trainer.history.verdicts.extend(verdict_from_config(verdict) for verdict in settings.get("verdicts", []))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelFileError(f"the checkpoint does not describe a training run: {error}") from None
    return trainer


def _read_loss_arrays(trainer: Trainer, tensors: Mapping[str, Array]) -> None:
    """Give the trainer the arrays that its losses made of the first targets."""
    shapes = trainer.model.output_shapes()
    for head in trainer.heads:
        arrays = {}
        for name, array in tensors.items():
            if not name.startswith(_LOSS) or "".join(name.partition(".")[1:]) != head.suffix:
                continue
            if array.shape != shapes[head.output][-1:] or array.dtype != trainer.model.dtype:
                raise ValueError(
                    f"{name!r} is {array.dtype} of shape {array.shape}, expected {shapes[head.output][-1:]}"
                )
            if not (np.isfinite(array).all() and (array >= 0).all()):
                raise ValueError(f"{name!r} holds weights that are negative or not finite")
            arrays[name.removeprefix(_LOSS)] = array.copy()
        if arrays:
            trainer.loss_arrays[head.output] = loss_settings(head, trainer.model.classes.get(head.output)), arrays


def _history(tensors: Mapping[str, Array]) -> list[Row]:
    """Return the rows of the history; a value of NaN is one the row does not have."""
    columns = {k.removeprefix(_HISTORY): v for k, v in tensors.items() if k.startswith(_HISTORY)}
    epochs = max((v.size for v in columns.values()), default=0)
    for name, column in columns.items():
        if name.partition(".")[0] not in COLUMNS:
            raise ValueError(unknown("history column", name, COLUMNS))
        if column.shape != (epochs,) or column.dtype != np.float64:
            raise ValueError(
                f"history column {name!r} is {column.dtype} of shape {column.shape}, expected float64 of ({epochs},)"
            )
    ordered = {c: columns[c] for c in sorted(columns, key=column_order)}
    rows: list[Row] = [{k: float(v[i]) for k, v in ordered.items() if not math.isnan(v[i])} for i in range(epochs)]
    for row in rows:
        row["epoch"] = int(row["epoch"])
    return rows


def _losses(kinds: Any, settings: Any) -> Any:
    """Return the losses of the outputs."""
    if not isinstance(kinds, dict):
        return losses.get(kinds)
    if not isinstance(settings, dict):
        raise ValueError(f"the settings of the losses are {settings!r}")
    return {name: losses.from_config(kind, settings.get(name, {})) for name, kind in kinds.items()}


def _begun(begun: Any, trainer: Trainer) -> dict[str, int]:
    """Return the steps before the first of each parameter that was not trained from the start."""
    if not isinstance(begun, dict) or not begun.keys() <= trainer.slots.drawn.keys():
        raise ValueError(f"'begun' is {begun!r}, expected steps by parameter")
    found = {name: _count(begun, name) for name in begun}
    if any(step > trainer.step_count for step in found.values()):
        raise ValueError(f"'begun' is {begun!r}, and the run has {trainer.step_count} steps")
    return found


def _count(settings: dict[str, Any], key: str) -> int:
    value = settings[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{key} is {value!r}")
    return value
