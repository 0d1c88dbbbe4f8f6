"""The lectures' two-layer net: a dict of arrays and one function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import functional as F
from pyfastnn._inputs import as_rows
from pyfastnn._names import unknown
from pyfastnn.nn.layer import number, whole

Array = NDArray[Any]

NAMES = ("W1", "b1", "W2", "b2")
"""What a model holds."""


def generator(seed: int | None) -> Any:
    """Return what is drawn from: NumPy's global generator, as the lectures' code does, or one of its kind that starts at a seed."""
    return np.random if seed is None else np.random.RandomState(whole("cs231n", "seed", seed, 0))


def init_two_layer_model(
    input_size: int, hidden_size: int, output_size: int, *, dtype: str = "float64", seed: int | None = None
) -> dict[str, Array]:
    """Return the parameters of a two-layer net: weights ``0.0001 * randn``, biases 0.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Values of a row, hidden units and classes, 1 or more each.
    dtype : {"float64", "float32"}, default "float64"
        Of all arrays; what is trained computes in it. float32 is about twice as fast.
    seed : int, optional
        Fixes the weights. Without it they come from NumPy's global generator (``np.random.seed``), as in the lectures' code.

    Returns
    -------
    dict of str to ndarray
        ``W1`` (input_size, hidden_size), ``b1`` (hidden_size,), ``W2`` (hidden_size, output_size) and ``b2`` (output_size,).

    Raises
    ------
    TypeError
        If a size or the seed is no whole number.
    ValueError
        If a size is under 1, the seed is negative, or the dtype is another one.

    Examples
    --------
    >>> from pyfastnn.cs231n import init_two_layer_model
    >>> model = init_two_layer_model(32 * 32 * 3, 50, 10)
    >>> {name: array.shape for name, array in model.items()}
    {'W1': (3072, 50), 'b1': (50,), 'W2': (50, 10), 'b2': (10,)}
    """
    owner = "init_two_layer_model"
    given = {"input_size": input_size, "hidden_size": hidden_size, "output_size": output_size}
    inputs, hidden, outputs = (whole(owner, name, size) for name, size in given.items())
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{owner}: 'dtype' is {dtype!r}, expected 'float64' or 'float32'")
    rng = generator(seed)
    return {
        "W1": (0.0001 * rng.randn(inputs, hidden)).astype(dtype),
        "b1": np.zeros(hidden, dtype),
        "W2": (0.0001 * rng.randn(hidden, outputs)).astype(dtype),
        "b2": np.zeros(outputs, dtype),
    }


def two_layer_net(X: Any, model: Mapping[str, Array], y: Any = None, reg: float = 0.0) -> Any:
    """Return the scores of a two-layer net; with labels its loss and gradients.

    ``scores = max(0, X @ W1 + b1) @ W2 + b2``; ``loss = mean over rows of (log(sum(exp(scores))) - scores[label])
    + 0.5 * reg * (sum(W1 * W1) + sum(W2 * W2))``.

    Parameters
    ----------
    X : array_like, shape (n, input_size)
        Rows of numbers; images are read as rows.
    model : mapping of str to ndarray
        ``W1``, ``b1``, ``W2`` and ``b2``, as `init_two_layer_model` makes them, float32 or float64.
    y : array_like of int, shape (n,), optional
        Labels from 0.
    reg : float, default 0
        Strength of the penalty of the weights, 0 or more; biases have none.

    Returns
    -------
    scores : ndarray, shape (n, output_size)
        Without ``y``.
    loss, grads : float and dict of str to ndarray
        With ``y``: the gradients of the loss by the names of the model.

    Raises
    ------
    TypeError
        If an argument is no array of numbers, labels are no whole numbers, or the model is no dict of float arrays.
    ValueError
        If shapes do not fit, a label lies outside, or the model lacks an array.

    Notes
    -----
    The largest score of a row is subtracted before ``exp``, so the loss is finite as long as the scores are, where the plain formula gives
    ``inf``. Everything is computed in the dtype of the model (float64 if its arrays differ), the loss summed in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.cs231n import init_two_layer_model, two_layer_net
    >>> model = init_two_layer_model(4, 5, 10)
    >>> two_layer_net(np.ones((2, 4)), model).shape
    (2, 10)
    >>> loss, grads = two_layer_net(np.ones((2, 4)), model, [3, 9])
    >>> print(f"{loss:.4f}", sorted(grads))  # log(10)
    2.3026 ['W1', 'W2', 'b1', 'b2']
    """
    arrays = checked_model("two_layer_net", model)
    W1, b1, W2, b2 = (arrays[name] for name in NAMES)
    rows = checked_rows(X, "X", W1).astype(W1.dtype, copy=False)
    hidden = F.relu(F.linear(rows, W1, b1))
    scores = F.linear(hidden, W2, b2)
    if y is None:
        return scores
    strength = number("two_layer_net", "reg", reg, 0.0, float("inf"))
    loss, dscores = F.softmax_cross_entropy(scores, checked_labels(y, "y", len(rows), W2.shape[1]))
    dhidden = F.relu_backward(F.linear_dx(dscores, W2), hidden)
    grads = {
        "W1": F.linear_dw(rows, dhidden),
        "b1": F.linear_db(dhidden),
        "W2": F.linear_dw(hidden, dscores),
        "b2": F.linear_db(dscores),
    }
    if strength:
        for name in ("W1", "W2"):
            loss += F.l2_penalty(arrays[name], weight_decay=strength)
            grads[name] += strength * arrays[name]
    return loss, grads


def checked_model(owner: str, model: Any) -> dict[str, Array]:
    """Return the arrays of a two-layer net in one dtype, C-contiguous; those that are so already themselves.

    Raises
    ------
    TypeError
        If it is no dict, or holds anything but arrays of float32 or float64.
    ValueError
        If a name is missing or unknown, or the shapes do not fit each other.
    """
    if not isinstance(model, Mapping):
        raise TypeError(f"{owner}: 'model' is {type(model).__name__}, expected a dict with {', '.join(NAMES)}")
    for name in model:
        if name not in NAMES:
            raise ValueError(f"{owner}: 'model': {unknown('array', name, NAMES)}")
    for name in NAMES:
        if name not in model:
            raise ValueError(f"{owner}: 'model' has no {name!r}, expected {', '.join(NAMES)}")
        array = model[name]
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            shown = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{owner}: model[{name!r}] is {shown}, expected an array of float32 or float64")
    for name in ("W1", "W2"):
        if model[name].ndim != 2 or 0 in model[name].shape:
            raise ValueError(f"{owner}: model[{name!r}] has shape {model[name].shape}, expected two sizes of 1 or more")
    hidden, outputs = model["W1"].shape[1], model["W2"].shape[1]
    for name, expected in (("b1", (hidden,)), ("W2", (hidden, outputs)), ("b2", (outputs,))):
        if model[name].shape != expected:
            raise ValueError(f"{owner}: model[{name!r}] has shape {model[name].shape}, expected {expected}")
    dtype = np.result_type(*(model[name].dtype for name in NAMES))
    return {name: np.ascontiguousarray(model[name], dtype) for name in NAMES}


def checked_rows(X: Any, name: str, W1: Array) -> Array:
    """Return rows of as many values as the net reads, C-contiguous float32, float64 or uint8."""
    rows = as_rows(X, name, W1.shape[0], W1.dtype)
    return rows.reshape(len(rows), -1)


def checked_labels(y: Any, name: str, rows: int, classes: int) -> NDArray[np.int64]:
    """Return labels as int64.

    Raises
    ------
    TypeError
        If they are no whole numbers.
    ValueError
        If there are not as many as rows, or one lies outside of the classes.
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu" and labels.size:
        raise TypeError(f"{name!r} has dtype {labels.dtype}, expected whole numbers")
    if labels.shape != (rows,):
        raise ValueError(f"{name!r} has shape {labels.shape}, expected ({rows},), one label a row")
    if rows and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        outside = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"{name!r} holds the label {outside}, expected 0 to {classes - 1}")
    return np.ascontiguousarray(labels, np.int64)
