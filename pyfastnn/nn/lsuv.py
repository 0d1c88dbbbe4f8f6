"""Layer-sequential unit-variance initialization, which looks at data."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.nn.initializers import Orthogonal
from pyfastnn.nn.layer import number

if TYPE_CHECKING:
    from pyfastnn.graph import Node
    from pyfastnn.nn.model import Model

Array = NDArray[Any]

_PRODUCTS = ("linear_forward", "conv2d_forward")


def lsuv(
    model: Model,
    X: Any,
    tol: float = 0.1,
    max_iterations: int = 10,
    *,
    orthogonal: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Scale the weights of every linear layer and convolution so that its outputs have variance 1 on some rows.

    From the first layer to the last: draw an orthogonal weight, then divide it by the standard deviation of the layer's outputs until
    their variance is 1 within ``tol``. Biases and all other arrays stay as they are. Mishkin and Matas, "All you need is a good
    init" (2016), algorithm 1.

    Parameters
    ----------
    model : Model
        Changed in place; built for the rows unless it is built already. Its preprocessing must be fitted.
    X : array_like, shape (n, ...), or dict of str to array_like
        Raw rows, such as the first batch; some hundred are enough.
    tol : float, default 0.1
        How far from 1 a variance may stay, above 0.
    max_iterations : int, default 10
        Most scalings of a layer. A layer without bias, or whose bias is 0, needs one.
    orthogonal : bool, default True
        Whether weights are drawn anew by `Orthogonal`; otherwise those of the model are scaled.
    seed : int, default 0
        Fixes what is drawn, and the other arrays of a model that is not built.

    Returns
    -------
    dict of str to float
        Variance of the layer's outputs by the name of its weight, such as ``{"linear_1.w": 1.02}``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the outputs of a layer have no variance (all equal) or are not finite; the message names it. Layers
        before it are scaled then.
    RuntimeError
        If the preprocessing of the model is not fitted.

    Notes
    -----
    The model predicts while this looks: no dropout, and batch normalization by its running statistics. A weight that several layers share
    is scaled where it is used first.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn import nn
    >>> model = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(10))
    >>> X = np.random.default_rng(0).standard_normal((200, 20))
    >>> variances = nn.initializers.lsuv(model, X)
    >>> all(abs(v - 1) < 0.1 for v in variances.values())
    True
    """
    from pyfastnn._inputs import as_inputs, input_arrays

    if number("lsuv", "tol", tol, 0.0, math.inf) == 0.0:
        raise ValueError("lsuv: 'tol' is 0, expected more")
    if operator.index(max_iterations) < 1:
        raise ValueError(f"lsuv: 'max_iterations' is {max_iterations}, expected 1 or more")
    rows, count = as_inputs(X, "X", model)
    if count == 0:
        raise ValueError("lsuv: 'X' has no rows")
    if not model.built:
        model.build(model.shapes_of(rows), seed=seed)
    given, sparse = input_arrays(rows, model)
    graph = model.prediction_graph(sparse, fuse_pools=False)  # the outputs of all convolutions are looked at
    views = graph.views()
    values: dict[str, Array] = {}

    def keep(name: str, array: Array) -> None:
        values[name] = array
        for view in views.get(name, ()):
            values[view] = array.reshape([d if isinstance(d, int) else -1 for d in graph.values[view].shape])

    flat = {k: v.reshape(count, -1) if len(graph.values[k].shape) == 2 else v for k, v in given.items()}
    for name, array in {**model.folded(), **model.arrays(), **flat, "index": np.arange(count, dtype=np.int64)}.items():
        keep(name, array)
    found: dict[str, float] = {}
    for node in graph.nodes:
        inputs = tuple(None if i is None else values[i] for i in node.inputs)
        weight = node.inputs[1] if node.op in _PRODUCTS else None
        wanted = weight is not None and weight not in found and weight in model.parameters
        if wanted and orthogonal:
            assert weight is not None
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, len(found)])))
            values[weight][...] = Orthogonal()(rng, values[weight].shape)
        outputs = _outputs(node, inputs, model.dtype.name)
        if wanted:
            assert weight is not None
            for iteration in range(max_iterations + 1):
                variance = float(np.var(outputs[0], dtype=np.float64))
                if not 0.0 < variance < math.inf:
                    raise ValueError(f"lsuv: the outputs of {node.name!r} have variance {variance:g} on these rows")
                found[weight] = variance
                if abs(variance - 1.0) < tol or iteration == max_iterations:
                    break
                values[weight] /= math.sqrt(variance)
                outputs = _outputs(node, inputs, model.dtype.name)
        for name, array in zip(node.outputs, outputs, strict=True):
            keep(name, array)
    return found


def _outputs(node: Node, inputs: tuple[Array | None, ...], dtype: str) -> tuple[Array, ...]:
    """Compute one node by its kernel, or by the user's function it calls."""
    from pyfastnn import _core
    from pyfastnn.graph.schema import schema

    if node.function is not None:
        return tuple(np.asarray(found) for found in node.function.forward(*inputs))
    attrs = tuple(float(node.attrs[name]) for name in schema(node.op).attrs)
    return _core.call(node.op, inputs, attrs=attrs, dtype=dtype)
