"""Checks of what metrics are given: labels, scores, values, weights. Nothing is broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfastnn._inputs import as_weights

Array = NDArray[Any]
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def labels_of(owner: str, name: str, labels: ArrayLike) -> Array:
    """Return labels of shape (n,) as int64 (whole numbers, booleans) or strings; (n, 1) counts as (n,).

    Raises
    ------
    TypeError
        If they are neither all strings nor all whole numbers.
    ValueError
        If there are none, or not one a row.
    """
    found = np.asarray(labels)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        hint = f"; for one-hot rows pass {name}.argmax(axis=1)" if found.ndim == 2 else ""
        raise ValueError(f"{owner}: {name!r} has shape {found.shape}, expected one label a row: (n,){hint}")
    if not len(found):
        raise ValueError(f"{owner}: {name!r} is empty")
    if found.dtype.kind == "O":
        kinds = sorted({type(label).__name__ for label in found.tolist()})
        found = np.array(found.tolist()) if len(kinds) == 1 else found
        if found.dtype.kind == "O" or found.ndim != 1:
            raise TypeError(f"{owner}: {name!r} holds {', '.join(kinds)}, expected all strings or all whole numbers")
    if found.dtype.kind == "U":
        return found
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: {name!r} has dtype {found.dtype}, expected strings or whole numbers")
    if found.dtype.kind == "f":
        bad = ~np.isfinite(found) | (found != np.trunc(found))
        if bad.any():
            raise TypeError(f"{owner}: {name!r} holds {found[bad][0]}, expected labels: strings or whole numbers")
    return found.astype(np.int64)


def classes_of(owner: str, labels: ArrayLike, strings: bool) -> Array:
    """Return classes in the order given.

    Raises
    ------
    TypeError, ValueError
        If they are no labels or not of the kind of the targets, or one stands there twice.
    """
    classes = labels_of(owner, "labels", labels)
    if len(np.unique(classes)) != len(classes):
        raise ValueError(f"{owner}: 'labels' holds a label twice")
    _same_kind(owner, "labels", classes, strings)
    return classes


def _same_kind(owner: str, name: str, labels: Array, strings: bool) -> None:
    kinds = ("strings", "whole numbers") if labels.dtype.kind == "U" else ("whole numbers", "strings")
    if (labels.dtype.kind == "U") != strings:
        raise TypeError(f"{owner}: {name!r} holds {kinds[0]} and 'y_true' {kinds[1]}, expected labels of one kind")


def same_length(owner: str, name: str, length: int, count: int) -> None:
    """Raise ValueError unless an argument has as many rows as ``y_true``."""
    if length != count:
        raise ValueError(f"{owner}: {name!r} has {length} rows and 'y_true' {count}")


def coded(owner: str, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Codes, Codes]:
    """Return all labels, sorted, and the place of each target and each prediction among them."""
    wanted, given = labels_of(owner, "y_true", y_true), labels_of(owner, "y_pred", y_pred)
    _same_kind(owner, "y_pred", given, wanted.dtype.kind == "U")
    same_length(owner, "y_pred", len(given), len(wanted))
    classes, codes = np.unique(np.concatenate([wanted, given]), return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    return classes, codes[: len(wanted)], codes[len(wanted) :]


def places_in(classes: Array, among: Array) -> tuple[Codes, NDArray[np.bool_]]:
    """Return the place of each label in sorted classes, and whether it is there at all."""
    places = np.minimum(np.searchsorted(among, classes), len(among) - 1).astype(np.int64)
    return places, among[places] == classes


def weights_of(owner: str, sample_weight: ArrayLike | None, count: int) -> Floats | None:
    """Return weights of shape (n,) in float64, or None.

    Raises
    ------
    TypeError, ValueError
        If they are no finite numbers of 0 or more, one a row, or all are 0.
    """
    if sample_weight is None:
        return None
    weights = as_weights(sample_weight, "sample_weight", count, "y_true")
    if not weights.any():
        raise ValueError(f"{owner}: 'sample_weight' holds nothing but 0")
    return weights


def numbers_of(owner: str, name: str, values: ArrayLike) -> Array:
    """Return numbers as a float array of at least one row; integers become float64.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If there are none.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{owner}: {name!r} has dtype {found.dtype}, expected numbers")
    if found.ndim == 0:
        raise ValueError(f"{owner}: {name!r} is a single number, expected an array")
    if not found.size:
        raise ValueError(f"{owner}: {name!r} is empty")
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def scored(
    owner: str, name: str, y_true: ArrayLike, y_score: ArrayLike, labels: ArrayLike | None
) -> tuple[Array, Codes, Array]:
    """Return the classes, the place of each target among them, and scores of shape (n, classes), or (n,) as given for two classes.

    Raises
    ------
    TypeError, ValueError
        If there are fewer than two classes, a target is none of them, or the scores do not fit.
    """
    wanted = labels_of(owner, "y_true", y_true)
    strings = wanted.dtype.kind == "U"
    classes = np.unique(wanted) if labels is None else classes_of(owner, labels, strings)
    scores = numbers_of(owner, name, y_score)
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if len(classes) < 2:
        hint = "; pass all of them as labels=" if labels is None else ""
        source = "y_true" if labels is None else "labels"
        raise ValueError(
            f"{owner}: {source!r} holds one label only, {classes.tolist()[0]!r}, expected two or more{hint}"
        )
    k = len(classes)
    if not (scores.ndim == 1 and k == 2) and scores.shape[1:] != (k,):
        shapes = "(n,) or (n, 2)" if k == 2 else f"(n, {k})"
        raise ValueError(f"{owner}: {name!r} has shape {scores.shape}, expected {shapes} for {k} classes")
    same_length(owner, name, len(scores), len(wanted))
    order = np.argsort(classes, kind="stable")
    places, known = places_in(wanted, classes[order])
    if not known.all():
        raise ValueError(f"{owner}: 'y_true' holds the label {wanted[~known].tolist()[0]!r}, which is not in 'labels'")
    return classes, order[places], scores
