"""What a fit is given: checked, encoded and named as the plan wants it; and what is missing from the model, made."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._inputs import (
    Csr,
    RowOf,
    as_inputs,
    as_row_numbers,
    as_targets,
    as_weights,
    check_length,
    check_range,
    encode_labels,
    find_classes,
    input_arrays,
    split_ignored,
)
from pyfastnn._names import unknown
from pyfastnn.nn.loss import Loss
from pyfastnn.train.compiled import PLAIN, Form, Head

if TYPE_CHECKING:
    from pyfastnn.data.sources import Source
    from pyfastnn.data.stream import Stream
    from pyfastnn.nn.model import Model
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]
Inputs = Mapping[str, "Array | Csr | Source"]

CHECKED_AT_ONCE = 1 << 20
"""Weights of a stream that are looked at together."""


@dataclass(frozen=True)
class Data:
    """A data set as the plans of a trainer read it.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Inputs (``X``, or ``X.name`` for several; sparse ones have ``columns`` and ``starts`` too), targets (``y``), what the losses read
        (``class_weights``) and, where rows have some or a label is ignored, ``weights``: each of the last with the name of its output
        after a dot if there are several.
    count : int
        Rows to go through.
    chosen : ndarray of int64 or None
        Their numbers; all rows without.
    form : Form
        What plans for the data are compiled for.
    """

    arrays: dict[str, Array]
    count: int
    chosen: NDArray[np.int64] | None = None
    form: Form = PLAIN


def as_stream(X: object) -> Stream | None:
    """Return ``X`` if it is a stream; where its module was never imported, nothing is."""
    module = sys.modules.get("pyfastnn.data.stream")
    return X if module is not None and isinstance(X, module.Stream) else None


def training_data(trainer: Trainer, X: Any, y: Any, numbers: Any = None, weights: Any = None) -> Data:
    """Check training data, then build what is missing: preprocessing, classes, arrays, slots.

    Parameters
    ----------
    trainer : Trainer
        Its model is completed.
    X, y : array_like, or dict of str to array_like
        Rows and targets.
    numbers : array_like of int, optional
        The rows to use; the targets of the others are zeros that nothing reads.
    weights : array_like, shape (n,), optional
        Of the rows.

    Returns
    -------
    Data
        Nothing of the model has changed if an error was raised instead.
    """
    model = trainer.model
    inputs, count = as_inputs(X, "X", model)
    if count == 0:
        raise ValueError("'X' has no rows")
    chosen = None if numbers is None else as_row_numbers(numbers, "rows", count)
    with _fitted_for_shapes(model, inputs, chosen):
        return _checked(trainer, inputs, count, chosen, y, weights)


@contextmanager
def _fitted_for_shapes(model: Model, inputs: Inputs, chosen: NDArray[np.int64] | None) -> Iterator[None]:
    """Fit what must see the data before shapes are known; forget it again if an error is raised within."""
    early = [(name, p) for name, p in model.preprocessors.items() if p.needs_fit_for_shape]
    try:
        for name, preprocess in early:
            preprocess.fit(_fitted_on(inputs[name], chosen))
            model.refresh()
        yield
    except BaseException:
        for _, preprocess in early:
            preprocess.forget()
        raise


def stream_data(trainer: Trainer, stream: Stream) -> None:
    """Check what is known of a stream before its blocks are, then build what is missing, as `training_data`.

    Labels are read whole, weights a piece at a time; other targets are checked block by block.

    Raises
    ------
    TypeError, ValueError
        If the stream does not fit the model. Nothing of the model has changed then.
    """
    model = trainer.model
    names = model.network.inputs
    if isinstance(stream.X, dict):
        rows = stream.X
    elif len(names) > 1:
        raise TypeError(
            f"'X' is a Stream of one array, expected one of a dict with the inputs {', '.join(names)}: "
            f"Stream({{{', '.join(f'{k!r}: ...' for k in names)}}}, y)"
        )
    else:
        rows = {next(iter(names)): stream.X}
    first, _ = as_inputs({name: source[:1] for name, source in rows.items()}, "X", model)
    inputs: Inputs = {name: rows[name] for name in first}
    first_weight = _checked_weights(stream)
    with _fitted_for_shapes(model, inputs, None):
        outputs = model.output_shapes(model.shapes_of(inputs))
        given = _by_output(stream.y, "y", trainer)
        classes, made = _known(trainer)
        for head in trainer.heads:
            shown = _shown("y", head, stream.y)
            source = _given(given, head, shown, "X")
            wanted, of_first = (source[:], None) if head.counts else (source[:1], first_weight)
            _encoded_targets(
                trainer, head, wanted, shown, len(wanted), outputs, classes, made, of_first, operator.index
            )
        _complete_all(trainer, inputs, None, classes, made)


def _checked_weights(stream: Stream) -> NDArray[np.float64] | None:
    """Check the weights of a stream a few MiB at a time; return that of the first row."""
    source = stream.sample_weight
    if source is None:
        return None
    if math.prod(source.shape[1:]) != 1:
        raise ValueError(
            f"'sample_weight' has shape {source.shape}, expected ({len(stream)},) as 'X' has {len(stream)} rows"
        )
    for begin in range(0, len(source), CHECKED_AT_ONCE):
        part = source[begin : begin + CHECKED_AT_ONCE]
        as_weights(part, "sample_weight", len(part), "X")
    return as_weights(source[:1], "sample_weight", 1, "X")


def _checked(
    trainer: Trainer,
    inputs: Inputs,
    count: int,
    chosen: NDArray[np.int64] | None,
    y: Any,
    weights: Any,
) -> Data:
    model = trainer.model
    outputs = model.output_shapes(model.shapes_of(inputs))
    given = _by_output(y, "y", trainer)
    classes, loss_arrays = _known(trainer)
    row_weights = None if weights is None else as_weights(weights, "sample_weight", count, "X")
    rows = count if chosen is None else len(chosen)
    arrays: dict[str, Array] = {}
    for head in trainer.heads:
        shown = _shown("y", head, y)
        wanted = _given(given, head, shown, "X")
        if chosen is not None:
            wanted = np.asarray(wanted)
            _check_rows(wanted, shown, count)
            wanted = wanted[chosen]
        row_of = operator.index if chosen is None else chosen.__getitem__
        weighing = row_weights if row_weights is None or chosen is None else row_weights[chosen]
        encoded = _encoded_targets(trainer, head, wanted, shown, rows, outputs, classes, loss_arrays, weighing, row_of)
        arrays.update(loss_arrays[head.output][1])
        if chosen is not None:
            everywhere = np.zeros((count, *encoded.shape[1:]), encoded.dtype)
            everywhere[chosen] = encoded
            encoded = everywhere
        arrays.update(_target_arrays(head, encoded, row_weights, model))
    _complete_all(trainer, inputs, chosen, classes, loss_arrays)
    read, sparse = input_arrays({k: v for k, v in inputs.items() if isinstance(v, (np.ndarray, Csr))}, model)
    return Data({**read, **arrays}, rows, chosen, Form(weights is not None, sparse))


def _known(trainer: Trainer) -> tuple[dict[str, Array], dict[str, tuple[Any, dict[str, Array]]]]:
    """Return copies of what the model knows of classes, and the trainer of what its losses read."""
    without = {head.output for head in trainer.heads if not head.counts}
    classes = {k: labels for k, labels in trainer.model.classes.items() if k not in without}
    return classes, dict(trainer.loss_arrays)


def _encoded_targets(
    trainer: Trainer,
    head: Head,
    wanted: Any,
    shown: str,
    rows: int,
    outputs: Mapping[str, tuple[int, ...]],
    classes: dict[str, Array],
    loss_arrays: dict[str, tuple[Any, dict[str, Array]]],
    weights: NDArray[np.float64] | None,
    row_of: RowOf,
) -> Array:
    """Check and encode the targets of an output; find its classes and what its loss reads where they are not known."""
    if head.counts and head.output not in classes:
        wanted = np.asarray(wanted)
        _check_rows(wanted, shown, rows)
        kept = wanted if head.loss.ignore_index is None else split_ignored(wanted, head.loss.ignore_index, shown)[0]
        if len(kept) == 0:
            raise ValueError(
                f"{shown!r} holds nothing but the label {head.loss.ignore_index!r}, which the loss ignores"
            )
        classes[head.output] = find_classes(kept, _width(outputs[head.output], trainer.model))
    encoded = _encoded(wanted, shown, head, outputs[head.output], classes, trainer.model, row_of)
    _check_rows(encoded, shown, rows)
    _check_range(encoded, shown, head, weights, row_of)
    _loss_arrays(trainer, head, classes, encoded, loss_arrays)
    return encoded


def _complete_all(
    trainer: Trainer,
    inputs: Inputs,
    chosen: NDArray[np.int64] | None,
    classes: dict[str, Array],
    loss_arrays: dict[str, tuple[Any, dict[str, Array]]],
) -> None:
    """Make what the model lacks, now that everything has been checked."""
    complete(trainer, inputs, chosen)
    trainer.model.classes = classes
    trainer.model.tasks = {**trainer.model.tasks, **{head.output: head.loss.task for head in trainer.heads}}
    trainer.loss_arrays = loss_arrays


def _fitted_on(rows: Array | Csr | Source, chosen: NDArray[np.int64] | None) -> Any:
    """Return what preprocessing is fitted on."""
    if chosen is None:
        return rows
    if isinstance(rows, Csr):
        return rows.take(chosen)
    return rows[chosen] if isinstance(rows, np.ndarray) else rows


def _target_arrays(head: Head, encoded: Array, weights: NDArray[np.float64] | None, model: Model) -> dict[str, Array]:
    """Return targets and weights of the rows of an output: rows of the ignored label, -1 here, get weight 0 and label 0."""
    found = {f"y{head.suffix}": encoded}
    if head.ignores:
        ignored = encoded < 0
        found[f"y{head.suffix}"] = np.maximum(encoded, 0)
        weights = np.where(ignored, 0.0, 1.0 if weights is None else weights)
    if weights is not None:
        found[f"weights{head.suffix}"] = weights.astype(model.dtype)[:, None]
    return found


def complete(trainer: Trainer, inputs: Inputs, chosen: NDArray[np.int64] | None = None) -> None:
    """Make what the model lacks before a first step: fitted preprocessing, arrays, and the slots of the optimizer."""
    model = trainer.model
    for name, preprocess in model.preprocessors.items():
        if not preprocess.fitted:
            preprocess.fit(_fitted_on(inputs[name], chosen))
            model.refresh()
    if not model.built:
        model.build(model.shapes_of(inputs), seed=trainer.seed)
    trainer.make_slots()


def evaluation_data(
    trainer: Trainer, X: Any, y: Any, x_name: str, y_name: str, weights: Any = None, row_of: RowOf = operator.index
) -> Data:
    """Check rows, targets and weights against the built model; ``row_of`` says what rows are called in errors."""
    model = trainer.model
    inputs, count = as_inputs(X, x_name, model)
    if count == 0:
        raise ValueError(f"{x_name!r} has no rows")
    outputs = model.output_shapes()
    row_weights = None if weights is None else as_weights(weights, "sample_weight", count, x_name)
    arrays, sparse = input_arrays(inputs, model)
    arrays.update(targets_of(trainer, y, outputs, count, row_weights, x_name, y_name, row_of))
    for head in trainer.heads:
        arrays.update(_loss_arrays(trainer, head, model.classes, None, trainer.loss_arrays))
    return Data(arrays, count, form=Form(weights is not None, sparse))


def targets_of(
    trainer: Trainer,
    y: Any,
    outputs: Mapping[str, tuple[int, ...]],
    count: int,
    weights: NDArray[np.float64] | None,
    x_name: str,
    y_name: str,
    row_of: RowOf,
) -> dict[str, Array]:
    """Check and encode the targets of some rows for a built model, and return them with the weights of the rows as the plans want them."""
    model = trainer.model
    given = _by_output(y, y_name, trainer)
    arrays: dict[str, Array] = {}
    for head in trainer.heads:
        shown = _shown(y_name, head, y)
        wanted = _given(given, head, shown, x_name)
        encoded = _encoded(wanted, shown, head, outputs[head.output], model.classes, model, row_of)
        _check_rows(encoded, shown, count, x_name)
        _check_range(encoded, shown, head, weights, row_of)
        arrays.update(_target_arrays(head, encoded, weights, model))
    return arrays


def loss_settings(head: Head, classes: Array | None) -> tuple[Any, ...]:
    """Return what the arrays of a loss are made for, beside the first targets."""
    return head.loss.kind, head.loss.config(), None if classes is None else classes.tolist()


def _loss_arrays(
    trainer: Trainer,
    head: Head,
    classes: Mapping[str, Array],
    y: Array | None,
    made: dict[str, tuple[Any, dict[str, Array]]],
) -> dict[str, Array]:
    """Return the arrays that the loss of an output reads.

    They are made with the first targets, like the classes, and again for other settings or classes; ``made`` keeps them.
    """
    of = classes.get(head.output)
    settings = loss_settings(head, of)
    found = made.get(head.output)
    if found is None or found[0] != settings:
        arrays = head.loss.arrays(of, y, trainer.model.dtype, f"loss{head.suffix}")
        found = made[head.output] = (settings, arrays)
    return found[1]


def _shown(name: str, head: Head, y: Any) -> str:
    """Return what the targets of an output are called in errors."""
    return f"{name}[{head.output!r}]" if head.suffix and (y is None or isinstance(y, Mapping)) else name


def _by_output(y: Any, name: str, trainer: Trainer) -> dict[str, Any]:
    """Return the targets of each output that has a loss as they were given: an array if it is the only one."""
    outputs, trained = trainer.model.network.outputs, [head.output for head in trainer.heads]
    if not isinstance(y, Mapping):
        if len(trained) > 1 and y is not None:
            raise TypeError(f"{name!r} is {type(y).__name__}, expected a dict with the outputs {', '.join(trained)}")
        return dict.fromkeys(trained, y)
    for key in y:
        if key not in outputs:
            raise ValueError(f"{name!r}: {unknown('output', key, outputs)}")
        if key not in trained:
            raise ValueError(
                f"{name!r} has targets of output {key!r}, which has no loss: leave them out, or name a loss for it"
            )
    return dict(y)


def _given(y: Mapping[str, Any], head: Head, shown: str, rows_name: str) -> Any:
    wanted = y.get(head.output)
    if wanted is None:
        raise ValueError(f"{rows_name!r} was given without {shown!r}")
    return wanted


def _width(shape: tuple[int, ...], model: Model) -> int:
    if len(shape) != 1:
        raise ValueError(
            f"the model gives rows of shape {shape}, expected one dimension; end it with nn.Linear(outputs)"
        )
    return shape[0]


def _encoded(
    y: Any,
    shown: str,
    head: Head,
    shape: tuple[int, ...],
    classes: Mapping[str, Array],
    model: Model,
    row_of: RowOf,
) -> Array:
    """Return targets as a plan reads them: positions of classes, -1 for the ignored label, or rows of numbers."""
    if head.counts:
        _width(shape, model)
        if head.loss.ignore_index is None:
            return encode_labels(y, classes[head.output], shown)
        kept, ignored = split_ignored(y, head.loss.ignore_index, shown)
        codes = np.full(len(ignored), -1, np.int64)
        codes[~ignored] = encode_labels(kept, classes[head.output], shown)
        return codes
    return as_targets(y, shown, shape, model.dtype, row_of)


def _check_range(y: Array, name: str, head: Head, weights: NDArray[np.float64] | None, row_of: RowOf) -> None:
    """Refuse targets outside of what the loss of an output takes, but in rows of weight 0: those take no part."""
    if head.loss.target_range != Loss.target_range:
        check_range(y, name, head.loss.target_range, repr(head.loss), weights, row_of)


def _check_rows(y: Array, name: str, count: int, rows_name: str = "X") -> None:
    check_length(y, np.empty((count, 0)), name, rows_name)
