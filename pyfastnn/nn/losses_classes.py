"""Losses over classes: softmax with cross-entropy, and the multiclass hinge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from pyfastnn._names import unknown
from pyfastnn.graph import Builder
from pyfastnn.nn.layer import number
from pyfastnn.nn.loss import Array, Label, Loss, beside, weight_list

_INF = float("inf")


class SoftmaxCrossEntropy(Loss):
    """Softmax and cross-entropy in one: ``loss = mean_i(log(sum_j exp(s_ij)) - s_i,label)``.

    The model gives scores (no softmax layer at its end). Also counts the rows whose highest score is the label. With smoothing ``e``, class
    weights ``u``, row weights ``w`` and ``q = (1 - e) * onehot + e / classes``, as PyTorch:
    ``loss = sum_i(w_i * sum_j(q_ij * u_j * -log(softmax(s_i)_j))) / sum_i(w_i * u_label)``.

    Parameters
    ----------
    label_smoothing : float, default 0
        In [0, 1): the share of the target spread evenly over all classes. Szegedy et al. (2016).
    class_weight : dict, "balanced" or array, optional
        What each class counts: by label (1 where left out), ``rows / (classes * rows of the class)``, or in the order of the classes.
    ignore_index : int or str, optional
        Rows of this label take no part.
    """

    kind, task, targets, counts = "softmax_cross_entropy", "classification", "labels", True

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weight: Mapping[Any, float] | str | ArrayLike | None = None,
        ignore_index: Label | None = None,
    ) -> None:
        self.label_smoothing = number("SoftmaxCrossEntropy", "label_smoothing", label_smoothing, 0.0, 1.0)
        self.class_weight = _class_weight(class_weight)
        self.ignore_index = plain_label(ignore_index)

    def _attrs(self) -> dict[str, float]:
        return {"label_smoothing": self.label_smoothing}

    def _more(self, builder: Builder, scores: str, name: str) -> tuple[str | None, ...]:
        if self.class_weight is None:
            return (None,)
        return (builder.value(beside(name, "class_weights"), builder.graph.values[scores].shape[-1:], kind="state"),)

    def arrays(self, classes: Array | None, y: Array | None, dtype: DTypeLike, name: str = "loss") -> dict[str, Array]:
        """Return ``"class_weights"``, of shape (classes,), if there are some; see `Loss.arrays`."""
        if self.class_weight is None:
            return {}
        if classes is None:
            raise ValueError("SoftmaxCrossEntropy: 'class_weight' needs the classes, which the first fit finds")
        weights = np.ones(len(classes))
        if isinstance(self.class_weight, str):
            if y is None:
                raise ValueError("SoftmaxCrossEntropy: class_weight='balanced' needs the training labels")
            rows = np.bincount(y[y >= 0], minlength=len(classes))
            occurs = rows > 0
            weights[occurs] = rows.sum() / (occurs.sum() * rows[occurs])
        elif isinstance(self.class_weight, dict):
            position = {label: k for k, label in enumerate(classes.tolist())}
            for label, weight in self.class_weight.items():
                if label not in position:
                    known = ", ".join(map(repr, list(position)[:10])) + (", ..." if len(position) > 10 else "")
                    raise ValueError(f"SoftmaxCrossEntropy: 'class_weight' has the label {label!r}, known: {known}")
                weights[position[label]] = weight
        elif len(self.class_weight) != len(classes):
            raise ValueError(
                f"SoftmaxCrossEntropy: 'class_weight' has {len(self.class_weight)} items, expected {len(classes)}, one a class"
            )
        else:
            weights[:] = self.class_weight
        return {beside(name, "class_weights"): weights.astype(dtype)}

    def config(self) -> dict[str, Any]:
        """Return the settings; weights by label as pairs."""
        chosen = self.class_weight
        weight = [list(pair) for pair in chosen.items()] if isinstance(chosen, dict) else chosen
        return {
            "label_smoothing": self.label_smoothing,
            "class_weight": weight,
            "ignore_index": self.ignore_index,
        }


class MulticlassHinge(Loss):
    """The SVM loss of the lectures: ``loss = mean_i(sum_j!=label max(0, s_ij - s_i,label + margin))``. Weston and Watkins (1999).

    Also counts the rows whose highest score is the label.

    Parameters
    ----------
    margin : float, default 1
        By how much the score of the label is to exceed the others, 0 or more.
    ignore_index : int or str, optional
        Rows of this label take no part.
    """

    kind, task, targets, counts = "multiclass_hinge", "classification", "labels", True

    def __init__(self, margin: float = 1.0, ignore_index: Label | None = None) -> None:
        self.margin = number("MulticlassHinge", "margin", margin, 0.0, _INF)
        self.ignore_index = plain_label(ignore_index)

    def _attrs(self) -> dict[str, float]:
        return {"margin": self.margin}

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"margin": self.margin, "ignore_index": self.ignore_index}


def plain_label(value: Any) -> Label | None:
    """Return a label as a value of Python.

    Raises
    ------
    TypeError
        If it is no label.
    """
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is not None and not isinstance(plain, (int, str)):
        raise TypeError(f"loss: {value!r} is no label, expected a whole number or a string")
    return plain


def _class_weight(given: Any) -> dict[Any, float] | tuple[float, ...] | str | None:
    """Return ``class_weight`` as None, "balanced", a dict by label, or numbers in the order of the classes."""
    owner = "SoftmaxCrossEntropy"
    if given is None or isinstance(given, str):
        if given not in (None, "balanced"):
            raise ValueError(f"{owner}: {unknown('class_weight', given, ['balanced'])}")
        return given
    pairs = None
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, Sequence) and given and all(isinstance(p, Sequence) and len(p) == 2 for p in given):
        pairs = [(label, weight) for label, weight in given]
    if pairs is None:
        return weight_list(owner, "class_weight", given)
    weights = weight_list(owner, "class_weight", [weight for _, weight in pairs])
    return {plain_label(label): weight for (label, _), weight in zip(pairs, weights, strict=True)}
