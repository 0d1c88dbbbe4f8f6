"""Parts of a network that a user writes in NumPy: a loss, or a layer. Each costs an entry into Python a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.graph import BATCH, Builder
from pyfastnn.graph.graph import CallPython, Node
from pyfastnn.graph.schema import Dim
from pyfastnn.nn.layer import Layer, Shape
from pyfastnn.nn.loss import TASKS, Loss

Array = NDArray[Any]


def _checked(result: Any, shape: tuple[int, ...], who: str, what: str) -> Array:
    found = np.asarray(result)
    if found.shape != shape:
        raise ValueError(f"{who}: {what} has shape {found.shape}, expected {shape}")
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{who}: {what} has dtype {found.dtype}, expected numbers")
    return found


class CustomLoss(Loss):
    """A loss written in NumPy.

    Parameters
    ----------
    function : callable
        ``function(scores, targets) -> (loss, dscores)``: a number, and its gradient with respect to the scores (mean over the rows is
        up to the function). ``targets`` are class numbers of shape (n,) if ``task`` is ``"classification"``, else rows of the shape
        of the scores. The arrays are the plan's own memory: read-only, and overwritten by the next step.
    task : {"regression", "classification", "multilabel", "counts"}, default "regression"
        What the targets are, and what the model predicts: see `Loss`.

    Notes
    -----
    Evaluation calls it too and ignores the gradient. A checkpoint cannot hold it.
    """

    kind = "custom"
    counts: ClassVar[bool] = False

    def __init__(self, function: Callable[[Array, Array], tuple[Any, Any]], *, task: str = "regression") -> None:
        if not callable(function):
            raise TypeError(f"CustomLoss: 'function' is {function!r}, expected a function of scores and targets")
        if task not in TASKS:
            raise ValueError(f"CustomLoss: {unknown('task', task, TASKS)}")
        self.function = function
        self.task = task  # type: ignore[misc]

    def forward(
        self, builder: Builder, scores: str, targets: str, weights: str | None = None, name: str = "loss"
    ) -> str:
        """Add a call of the function.

        Raises
        ------
        ValueError
            If rows have weights, which the function does not know.
        """
        if weights is not None:
            raise ValueError("CustomLoss: rows with weights are not for a loss of your own; weigh them in the function")
        shape = builder.graph.values[scores].shape
        outputs: list[tuple[str, tuple[Dim, ...], str]] = [(name, (1,), "f64"), (f"d({scores})", shape, "T")]
        return builder.call(_LossFunction(self.function), (scores, targets), outputs, name="loss")[0]

    def __repr__(self) -> str:
        """Show the function."""
        return f"CustomLoss({getattr(self.function, '__name__', self.function)!s})"


class _LossFunction:
    def __init__(self, function: Callable[[Array, Array], tuple[Any, Any]]) -> None:
        self.function = function

    def forward(self, scores: Array, targets: Array) -> tuple[Array, ...]:
        found = self.function(scores, targets)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(f"CustomLoss: the function gave {type(found).__name__}, expected the pair (loss, dscores)")
        loss, gradient = found
        return np.array([float(loss)]), _checked(gradient, scores.shape, "CustomLoss", "the gradient")

    def gradients(
        self, node: Node, dy: Mapping[str, str | float | None], call: CallPython, needs: Callable[[str], bool]
    ) -> dict[str, str]:
        scores, gradient = node.inputs[0], node.outputs[1]
        assert scores is not None
        factor = dy[node.outputs[0]]
        if isinstance(factor, float) and factor != 1.0:
            raise ValueError("CustomLoss: weigh the loss in the function, not by 'loss_weights'")
        return {scores: gradient} if needs(scores) else {}


class Lambda(Layer):
    """A layer written in NumPy, without arrays of its own.

    Parameters
    ----------
    forward : callable
        ``forward(*xs) -> y``, the batch first. The arrays are the plan's own memory: read-only, overwritten by the next step.
    backward : callable, optional
        ``backward(dy, y, *xs) -> dx``, or a tuple with one gradient for each input. Training needs it.
    output_shape : callable, optional
        ``output_shape(*shapes) -> shape`` of one row; by default that of the first input.

    Notes
    -----
    A model file cannot hold it: code is never saved.
    """

    kind = "lambda"
    reads = ("float", "int64")

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any] | None = None,
        *,
        output_shape: Callable[..., Sequence[int]] | None = None,
    ) -> None:
        for name, given in (("forward", forward), ("backward", backward), ("output_shape", output_shape)):
            if given is not None and not callable(given):
                raise TypeError(f"Lambda: {name!r} is {given!r}, expected a function")
        self._forward, self._backward, self._output_shape = forward, backward, output_shape

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return what the function given for it says."""
        return shapes[0] if self._output_shape is None else tuple(self._output_shape(*shapes))

    def forward(self, builder: Builder, name: str, *xs: str) -> str:
        """Add a call of the function."""
        rows = [tuple(d for d in builder.graph.values[x].shape[1:] if isinstance(d, int)) for x in xs]
        shape = self.output_shape(*rows)
        function = _LayerFunction(name, self._forward, self._backward, rows, shape)
        return builder.call(function, xs, [(f"{name}.y", (BATCH, *shape), "T")], name=name)[0]

    def config(self) -> dict[str, Any]:
        """Refuse: code is never saved.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("Lambda: a layer of Python functions cannot be saved in a model file")

    def __repr__(self) -> str:
        """Show the function."""
        return f"Lambda({getattr(self._forward, '__name__', self._forward)!s})"


class _LayerFunction:
    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        backward: Callable[..., Any] | None,
        rows: Sequence[Shape],
        shape: Shape,
    ) -> None:
        self.name, self.function, self.backward, self.rows, self.shape = name, function, backward, rows, shape

    def forward(self, *xs: Array) -> tuple[Array, ...]:
        return (_checked(self.function(*xs), (len(xs[0]), *self.shape), self.name, "the output"),)

    def gradients(
        self, node: Node, dy: Mapping[str, str | float | None], call: CallPython, needs: Callable[[str], bool]
    ) -> dict[str, str]:
        if self.backward is None:
            raise ValueError(f"{self.name}: training needs Lambda(forward, backward)")
        upstream, inputs = dy[node.outputs[0]], [x for x in node.inputs if x is not None]
        assert isinstance(upstream, str)
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"{self.name}: called on one value twice, which Lambda cannot differentiate")
        names = [f"d({self.name}).dx{k + 1 if k else ''}" for k in range(len(inputs))]
        outputs: list[tuple[str, tuple[Dim, ...], str]] = [
            (k, (BATCH, *row), "T") for k, row in zip(names, self.rows, strict=True)
        ]
        function = _LayerGradient(self.name, self.backward)
        found = call(function, (upstream, node.outputs[0], *inputs), outputs)
        return {x: gradient for x, gradient in zip(inputs, found, strict=True) if needs(x)}


class _LayerGradient:
    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def forward(self, dy: Array, y: Array, *xs: Array) -> tuple[Array, ...]:
        found = self.function(dy, y, *xs)
        gradients = found if isinstance(found, tuple) else (found,)
        if len(gradients) != len(xs):
            raise ValueError(f"{self.name}: backward gave {len(gradients)} gradients, expected {len(xs)}")
        return tuple(_checked(g, x.shape, self.name, "a gradient") for g, x in zip(gradients, xs, strict=True))

    def gradients(
        self, node: Node, dy: Mapping[str, str | float | None], call: CallPython, needs: Callable[[str], bool]
    ) -> dict[str, str]:
        raise ValueError(f"{self.name}: second derivatives are not implemented")
