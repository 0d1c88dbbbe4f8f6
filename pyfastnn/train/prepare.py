"""What a fit is given: checked, encoded and named as the plan wants it; and what is missing from the model, made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._inputs import (
    as_inputs,
    as_row_numbers,
    as_targets,
    as_weights,
    check_length,
    encode_labels,
    find_classes,
)
from pyfastnn._names import unknown
from pyfastnn.train.compiled import Head

if TYPE_CHECKING:
    from pyfastnn.nn.model import Model
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """A data set as the plans of a trainer read it.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Inputs (``X``, or ``X.name`` for several), targets (``y`` or ``y.name``), what the losses read (``class_weights``) and, if rows
        have some, ``weights``.
    count : int
        Rows to go through.
    chosen : ndarray of int64 or None
        Their numbers; all rows without.
    """

    arrays: dict[str, Array]
    count: int
    chosen: NDArray[np.int64] | None = None

    @property
    def weighted(self) -> bool:
        """Whether rows have weights."""
        return "weights" in self.arrays


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
def _fitted_for_shapes(model: Model, inputs: Mapping[str, Array], chosen: NDArray[np.int64] | None) -> Iterator[None]:
    """Fit what must see the data before shapes are known; forget it again if an error is raised within."""
    early = [(name, p) for name, p in model.preprocessors.items() if p.needs_fit_for_shape]
    try:
        for name, preprocess in early:
            preprocess.fit(inputs[name] if chosen is None else inputs[name][chosen])
            model.refresh()
        yield
    except BaseException:
        for _, preprocess in early:
            preprocess.forget()
        raise


def _checked(
    trainer: Trainer,
    inputs: Mapping[str, Array],
    count: int,
    chosen: NDArray[np.int64] | None,
    y: Any,
    weights: Any,
) -> Data:
    model = trainer.model
    shapes = model.input_shapes or {name: rows.shape[1:] for name, rows in inputs.items()}
    outputs = model.output_shapes(shapes)
    given = _by_output(y, "y", model)
    classes = dict(model.classes)
    targets: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    for head in trainer.heads:
        shown = _shown("y", head)
        wanted = _given(given, head, shown, "X")
        if chosen is not None:
            wanted = np.asarray(wanted)
            _check_rows(wanted, shown, count)
            wanted = wanted[chosen]
        rows = count if chosen is None else len(chosen)
        if head.counts and head.output not in classes:
            wanted = np.asarray(wanted)
            _check_rows(wanted, shown, rows)
            classes[head.output] = find_classes(wanted, _width(outputs[head.output], model))
        encoded = _encoded(wanted, shown, head, outputs[head.output], classes, model)
        _check_rows(encoded, shown, rows)
        constants.update(_loss_arrays(trainer, head, classes, encoded))
        if chosen is not None:
            everywhere = np.zeros((count, *encoded.shape[1:]), encoded.dtype)
            everywhere[chosen] = encoded
            encoded = everywhere
        targets[f"y{head.suffix}"] = encoded
    arrays = {f"X{model.suffix(k, 'inputs')}": rows for k, rows in inputs.items()}
    arrays.update({**targets, **constants})
    if weights is not None:
        arrays["weights"] = as_weights(weights, "sample_weight", count, "X").astype(model.dtype)[:, None]
    complete(trainer, inputs, chosen)
    model.classes, model.tasks = classes, {head.output: head.loss.task for head in trainer.heads}
    return Data(arrays, count if chosen is None else len(chosen), chosen)


def complete(trainer: Trainer, inputs: Mapping[str, Array], chosen: NDArray[np.int64] | None = None) -> None:
    """Make what the model lacks before a first step: fitted preprocessing, arrays, and the slots of the optimizer."""
    model = trainer.model
    for name, preprocess in model.preprocessors.items():
        if not preprocess.fitted:
            preprocess.fit(inputs[name] if chosen is None else inputs[name][chosen])
            model.refresh()
    if not model.built:
        model.build({name: rows.shape[1:] for name, rows in inputs.items()}, seed=trainer.seed)
    trainer.make_slots()


def evaluation_data(trainer: Trainer, X: Any, y: Any, x_name: str, y_name: str) -> Data:
    """Check rows and targets against the built model."""
    model = trainer.model
    inputs, count = as_inputs(X, x_name, model)
    if count == 0:
        raise ValueError(f"{x_name!r} has no rows")
    outputs = model.output_shapes()
    given = _by_output(y, y_name, model)
    arrays = {f"X{model.suffix(k, 'inputs')}": rows for k, rows in inputs.items()}
    for head in trainer.heads:
        shown = _shown(y_name, head)
        wanted = _given(given, head, shown, x_name)
        encoded = _encoded(wanted, shown, head, outputs[head.output], model.classes, model)
        _check_rows(encoded, shown, count, x_name)
        arrays[f"y{head.suffix}"] = encoded
        arrays.update(_loss_arrays(trainer, head, model.classes, None))
    return Data(arrays, count)


def _loss_arrays(trainer: Trainer, head: Head, classes: Mapping[str, Array], y: Array | None) -> dict[str, Array]:
    """Return the arrays that the loss of an output reads: made with the first targets, like the classes, and again for other settings."""
    settings = (head.loss.kind, head.loss.config())
    made = trainer.loss_arrays.get(head.output)
    if made is None or made[0] != settings:
        arrays = head.loss.arrays(classes.get(head.output), y, trainer.model.dtype, f"loss{head.suffix}")
        made = trainer.loss_arrays[head.output] = (settings, arrays)
    return made[1]


def _shown(name: str, head: Head) -> str:
    return f"{name}[{head.output!r}]" if head.suffix else name


def _by_output(y: Any, name: str, model: Model) -> dict[str, Any]:
    """Return the targets of each output as they were given."""
    outputs = model.network.outputs
    if not isinstance(y, Mapping):
        if len(outputs) > 1 and y is not None:
            raise TypeError(f"{name!r} is {type(y).__name__}, expected a dict with the outputs {', '.join(outputs)}")
        return dict.fromkeys(outputs, y)
    for key in y:
        if key not in outputs:
            raise ValueError(f"{name!r}: {unknown('output', key, outputs)}")
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
    y: Any, shown: str, head: Head, shape: tuple[int, ...], classes: Mapping[str, Array], model: Model
) -> Array:
    if head.counts:
        _width(shape, model)
        return encode_labels(y, classes[head.output], shown)
    return as_targets(y, shown, shape, model.dtype)


def _check_rows(y: Array, name: str, count: int, rows_name: str = "X") -> None:
    check_length(y, np.empty((count, 0)), name, rows_name)
