"""Gates that join numbers of an array: products, sums, and the losses a network is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyfastnn.gates.gate import Array, Gate

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Dot(Gate):
    """``y = a @ b``: inner product of vectors, product of matrices, or one with the other.

    The engine has an op for two matrices.
    """

    symbol, arity, op = "dot", 2, "linear_forward"

    def forward(self, a: Array, b: Array) -> Array:
        """Return ``a @ b``.

        Raises
        ------
        ValueError
            If either has no dimension or more than two, or the sizes do not fit.
        """
        if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2 and a.shape[-1] == b.shape[0]):
            raise ValueError(
                f"shapes {a.shape} and {b.shape} do not fit, expected vectors or matrices with a.shape[-1] == b.shape[0]"
            )
        return a @ b

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> tuple[Array, Array]:
        """Return ``dy @ b.T`` and ``a.T @ dy``, with vectors read as one row and one column."""
        rows, columns = np.atleast_2d(a), b.reshape(len(b), -1)
        upstream = dy.reshape(len(rows), columns.shape[1])
        return (upstream @ columns.T).reshape(a.shape), (rows.T @ upstream).reshape(b.shape)


class Linear(Gate):
    """``y = x @ w + b`` for every row of ``x``, as `pyfastnn.nn.Linear`.

    Shapes: ``x`` (n, in_features), ``w`` (in_features, out_features), ``b`` (out_features,).
    """

    symbol, arity, op = "xw+b", 3, "linear_forward"

    def forward(self, x: Array, w: Array, b: Array) -> Array:
        """Return ``x @ w + b``.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0] or b.shape != w.shape[1:]:
            raise ValueError(
                f"shapes {x.shape}, {w.shape} and {b.shape} do not fit, expected (n, in), (in, out) and (out,)"
            )
        return x @ w + b

    def backward(self, dy: Array, y: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return ``dy @ w.T``, ``x.T @ dy`` and the sum of the rows of ``dy``."""
        return dy @ w.T, x.T @ dy, dy.sum(axis=0)


class Sum(Gate):
    """The sum of all numbers of an array; every one of them gets the gradient."""

    symbol = "sum"

    def forward(self, x: Array) -> Array:
        """Return the sum."""
        return np.asarray(x.sum())

    def backward(self, dy: Array, y: Array, x: Array) -> tuple[Array]:
        """Return ``dy`` for every item."""
        return (np.broadcast_to(dy, x.shape),)


class MeanSquaredError(Gate):
    """``loss = mean((y_pred - y_true)**2)`` over all items of two arrays of one shape; a graph that ends with it can be trained."""

    symbol, arity, op = "mse", 2, "mean_squared_error"

    def forward(self, y_pred: Array, y_true: Array) -> Array:
        """Return the loss.

        Raises
        ------
        ValueError
            If the shapes differ: they are not broadcast.
        """
        if y_pred.shape != y_true.shape:
            raise ValueError(f"predictions have shape {y_pred.shape}, targets {y_true.shape}")
        return np.asarray(np.mean((y_pred - y_true) ** 2))

    def backward(self, dy: Array, y: Array, y_pred: Array, y_true: Array) -> tuple[Array, Array]:
        """Return ``2 (y_pred - y_true) / size`` and its negative, times ``dy``."""
        slope = dy * 2.0 * (y_pred - y_true) / y_pred.size
        return slope, -slope


class SoftmaxCrossEntropy(Gate):
    """``loss = mean_i(log(sum_j exp(s_ij)) - s_i,label_i)``; a graph that ends with it can be trained.

    Shapes: scores (n, classes), labels (n,), whole numbers from 0 to classes - 1.
    """

    symbol, arity, op, label_inputs = "softmax loss", 2, "softmax_cross_entropy", (1,)

    def forward(self, scores: Array, labels: Array) -> Array:
        """Return the loss.

        Raises
        ------
        ValueError
            If the shapes do not fit, or a label is no whole number from 0 to classes - 1.
        """
        chosen = self._labels(scores, labels)
        shifted = scores - scores.max(axis=1, keepdims=True)
        of_label = shifted[np.arange(len(chosen)), chosen]
        return np.asarray(np.mean(np.log(np.exp(shifted).sum(axis=1)) - of_label))

    def backward(self, dy: Array, y: Array, scores: Array, labels: Array) -> Sequence[Array | None]:
        """Return ``(softmax(scores) - one_hot(labels)) / n`` times ``dy``, and nothing for the labels."""
        chosen = self._labels(scores, labels)
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[np.arange(len(chosen)), chosen] -= 1.0
        return dy * share / len(chosen), None

    @staticmethod
    def _labels(scores: Array, labels: Array) -> NDArray[np.int64]:
        if scores.ndim != 2 or labels.shape != scores.shape[:1]:
            raise ValueError(f"scores have shape {scores.shape}, labels {labels.shape}, expected (n, classes) and (n,)")
        outside = (labels != np.floor(labels)) | (labels < 0) | (labels >= scores.shape[1])
        if outside.any():
            raise ValueError(
                f"labels hold {labels[outside][0]:g}, expected whole numbers from 0 to {scores.shape[1] - 1}"
            )
        return labels.astype(np.int64)
