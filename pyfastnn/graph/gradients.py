"""Gradient rules: for each differentiable op, the nodes that compute the gradients of its inputs.

A rule is ``rule(node, dy, emit, needs)``:

* ``node``: the forward node;
* ``dy``: value name of an output -> value name of its gradient; outputs no gradient flows into are
absent, and a loss maps to a number: what it counts in the total, 1 if it is the total itself;
* ``emit(op, inputs, attrs, outputs)``: appends a node and returns the value names of its outputs; ``emit.shape(value)`` tells the
  shape of a value;
* ``needs(value)``: whether the gradient of that value is wanted (that of the data is not).

It returns value name of an input -> value name of its gradient, or a number where the input is a loss.
Where a node reads one value twice, the two gradients are added inside the rule. Nodes a rule adds are
ordinary ops of the table: nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, cast

from pyfastnn.graph.graph import Node
from pyfastnn.graph.schema import Dim

__all__ = ["RULES", "Emit", "Needs", "Rule", "Upstream"]


class Emit(Protocol):
    """Appends a node to the graph under construction."""

    def __call__(
        self,
        op: str,
        inputs: Sequence[str | None],
        attrs: Mapping[str, float] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        """Return the value names of the new node's outputs."""

    def shape(self, value: str) -> tuple[Dim, ...]:
        """Return the shape of a value."""


Needs = Callable[[str], bool]
Upstream = Mapping[str, "str | float"]
Rule = Callable[[Node, Upstream, Emit, Needs], Mapping[str, "str | float"]]


def _of_output(node: Node, dy: Upstream) -> str:
    """Return the gradient of the node's first output, the only one gradients flow into."""
    for output in node.outputs[1:]:
        if output in dy:
            raise ValueError(f"{node.op}: the gradient of output {output!r} is not implemented")
    gradient = dy[node.outputs[0]]
    if not isinstance(gradient, str):
        raise ValueError(f"{node.op}: output {node.outputs[0]!r} is no loss")
    return gradient


def _collect(emit: Emit, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Add up the gradients of a value that stands among the inputs twice."""
    gradients: dict[str, str] = {}
    for value, gradient in pairs:
        if value in gradients:
            (gradient,) = emit("add", (gradients[value], gradient))
        gradients[value] = gradient
    return gradients


def _linear(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    x, w, b = node.inputs
    assert x is not None and w is not None
    upstream = _of_output(node, dy)
    pairs = []
    # dx comes first: a weight may be updated once its gradient is known, and dx reads the old one.
    if needs(x):
        pairs.append((x, emit("linear_dx", (upstream, w))[0]))
    if needs(w):
        pairs.append((w, emit("linear_dw", (x, upstream))[0]))
    if b is not None and needs(b):
        pairs.append((b, emit("linear_db", (upstream,))[0]))
    return _collect(emit, pairs)


def _conv2d(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    x, w, b = node.inputs
    assert x is not None and w is not None
    upstream = _of_output(node, dy)
    pairs = []
    # dx comes first, as for linear.
    if needs(x):
        size = dict(zip(("height", "width"), _sizes(emit, x)[1:3], strict=True))
        pairs.append((x, emit("conv2d_dx", (upstream, w), {**node.attrs, **size})[0]))
    if needs(w):
        size = dict(zip(("kernel_h", "kernel_w"), _sizes(emit, w)[:2], strict=True))
        pairs.append((w, emit("conv2d_dw", (x, upstream), {**node.attrs, **size})[0]))
    if b is not None and needs(b):
        pairs.append((b, emit("linear_db", (upstream,))[0]))
    return _collect(emit, pairs)


def _sizes(emit: Emit, value: str) -> list[int]:
    """Return the shape of a value, 0 where it is not known before there are data."""
    return [size if isinstance(size, int) else 0 for size in emit.shape(value)]


def _add(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    upstream = _of_output(node, dy)
    return _collect(emit, [(value, upstream) for value in node.inputs if value is not None and needs(value)])


def _multiply(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    a, b = node.inputs
    assert a is not None and b is not None
    upstream = _of_output(node, dy)
    return _collect(emit, [(x, emit("multiply", (upstream, other))[0]) for x, other in ((a, b), (b, a)) if needs(x)])


def _concat(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    a, b = node.inputs
    assert a is not None and b is not None
    upstream = _of_output(node, dy)
    widths = _columns(emit, a), _columns(emit, b)
    places = (a, {"start": 0, "after": widths[1]}), (b, {"start": widths[0], "after": 0})
    return _collect(emit, [(x, emit("slice", (upstream,), attrs)[0]) for x, attrs in places if needs(x)])


def _slice(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    (x,) = node.inputs
    assert x is not None
    return {x: emit("slice_backward", (_of_output(node, dy),), node.attrs)[0]} if needs(x) else {}


def _columns(emit: Emit, value: str) -> int:
    """Return the last dimension of a value."""
    columns = emit.shape(value)[-1]
    assert isinstance(columns, int)
    return columns


def _embedding(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    table, index = node.inputs
    assert table is not None
    if not needs(table):
        return {}
    rows = emit.shape(table)[0]
    assert isinstance(rows, int)
    return {table: emit("embedding_dw", (_of_output(node, dy), index), {"rows": rows})[0]}


def _elementwise(op: str, keeps: str) -> Rule:
    """Return the rule of an op of one input whose backward reads that input "x" or the output "y"."""

    def rule(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
        (x,) = node.inputs
        assert x is not None
        if not needs(x):
            return {}
        kept = x if keeps == "x" else node.outputs[0]
        return {x: emit(op, (_of_output(node, dy), kept), node.attrs)[0]}

    return rule


def _prelu(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    x, slope = node.inputs
    assert x is not None and slope is not None
    if not needs(x) and not needs(slope):
        return {}
    gradients = emit("prelu_backward", (_of_output(node, dy), x, slope))
    return _collect(emit, [pair for pair in zip((x, slope), gradients, strict=True) if needs(pair[0])])


def _norm(op: str) -> Rule:
    """Return the rule of a normalization with outputs y, mean and rstd."""

    def rule(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
        x, gamma, beta = node.inputs[:3]
        assert x is not None and gamma is not None and beta is not None
        mean, rstd = node.outputs[1:3]
        if not any(needs(value) for value in (x, gamma, beta)):
            return {}
        attrs = {"groups": node.attrs["groups"]} if "groups" in node.attrs else {}
        gradients = emit(op, (_of_output(node, dy), x, gamma, mean, rstd), attrs)
        return _collect(emit, [pair for pair in zip((x, gamma, beta), gradients, strict=True) if needs(pair[0])])

    return rule


def _batch_norm_predict(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    """Apply the same op to the gradient, with means and shift of 0: the statistics are constants."""
    x, gamma, beta, mean, variance = node.inputs
    assert x is not None and gamma is not None and beta is not None and mean is not None
    if needs(gamma) or needs(beta):
        raise ValueError("batch_norm_predict: the gradients of gamma and beta are not implemented")
    if not needs(x):
        return {}
    nothing = emit("scale", (mean,), {"factor": 0.0})[0]
    return {x: emit("batch_norm_predict", (_of_output(node, dy), gamma, nothing, nothing, variance), node.attrs)[0]}


def _dropout(op: str) -> Rule:
    """Return the rule of a dropout with outputs y and mask."""

    def rule(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
        (x,) = node.inputs
        assert x is not None
        if not needs(x):
            return {}
        attrs = {"p": node.attrs["p"]} if "p" in node.attrs else {}
        return {x: emit(op, (_of_output(node, dy), node.outputs[1]), attrs)[0]}

    return rule


def _pool(op: str, *kept: int) -> Rule:
    """Return the rule of a pool: its backward reads outputs ``kept`` of the forward node, and wants the size of the images."""

    def rule(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
        (x,) = node.inputs
        assert x is not None
        if not needs(x):
            return {}
        _, height, width, _ = emit.shape(x)
        attrs = {**node.attrs, "height": cast("float", height), "width": cast("float", width)}
        return {x: emit(op, (_of_output(node, dy), *(node.outputs[k] for k in kept)), attrs)[0]}

    return rule


def _augment(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    (x,) = node.inputs
    assert x is not None
    return {x: emit("augment_backward", (_of_output(node, dy),), node.attrs)[0]} if needs(x) else {}


def _scale(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
    (x,) = node.inputs
    assert x is not None
    return {x: emit("scale", (_of_output(node, dy),), node.attrs)[0]} if needs(x) else {}


def _of_loss(node: Node, dy: Upstream) -> float:
    """Return what a loss counts in the total."""
    for output in node.outputs[1:]:
        if output in dy:
            raise ValueError(f"{node.op}: the gradient of output {output!r} is not implemented")
    weight = dy[node.outputs[0]]
    if isinstance(weight, str):
        raise ValueError(
            f"{node.op}: the gradient {weight!r} of a loss is computed, expected a number known beforehand"
        )
    return weight


def _add_losses(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, float]:
    weight = _of_loss(node, dy)
    gradients: dict[str, float] = {}
    for loss, factor in zip(node.inputs, ("a_weight", "b_weight"), strict=True):
        if loss is not None and needs(loss):
            gradients[loss] = gradients.get(loss, 0.0) + weight * node.attrs.get(factor, 1.0)
    return gradients


def _loss(gradient_output: int) -> Rule:
    """Return the rule of a loss, whose gradient is one of its outputs already."""

    def rule(node: Node, dy: Upstream, emit: Emit, needs: Needs) -> dict[str, str]:
        predicted = node.inputs[0]
        assert predicted is not None
        weight = _of_loss(node, dy)
        if any(needs(value) for value in node.inputs[1:] if value is not None):
            raise ValueError(f"{node.op}: the gradient of the targets is not implemented")
        if not needs(predicted):
            return {}
        gradient = node.outputs[gradient_output]
        return {predicted: gradient if weight == 1 else emit("scale", (gradient,), {"factor": weight})[0]}

    return rule


RULES: dict[str, Rule] = {
    "linear_forward": _linear,
    "conv2d_forward": _conv2d,
    "add": _add,
    "relu_forward": _elementwise("relu_backward", "y"),
    "leaky_relu_forward": _elementwise("leaky_relu_backward", "x"),
    "elu_forward": _elementwise("elu_backward", "y"),
    "selu_forward": _elementwise("selu_backward", "y"),
    "sigmoid_forward": _elementwise("sigmoid_backward", "y"),
    "tanh_forward": _elementwise("tanh_backward", "y"),
    "exp_forward": _elementwise("exp_backward", "y"),
    "gelu_forward": _elementwise("gelu_backward", "x"),
    "gelu_tanh_forward": _elementwise("gelu_tanh_backward", "x"),
    "silu_forward": _elementwise("silu_backward", "x"),
    "softplus_forward": _elementwise("softplus_backward", "x"),
    "prelu_forward": _prelu,
    "softmax_forward": _elementwise("softmax_backward", "y"),
    "log_softmax_forward": _elementwise("log_softmax_backward", "y"),
    "maxout_forward": _elementwise("maxout_backward", "x"),
    "batch_norm_forward": _norm("batch_norm_backward"),
    "batch_norm_predict": _batch_norm_predict,
    "layer_norm_forward": _norm("layer_norm_backward"),
    "group_norm_forward": _norm("group_norm_backward"),
    "dropout_forward": _dropout("dropout_backward"),
    "dropout_channels_forward": _dropout("dropout_channels_backward"),
    "multiply": _multiply,
    "concat": _concat,
    "slice": _slice,
    "embedding_forward": _embedding,
    "max_pool_forward": _pool("max_pool_backward", 1),
    "avg_pool_forward": _pool("avg_pool_backward"),
    "global_avg_pool_forward": _pool("global_avg_pool_backward"),
    "augment": _augment,
    "scale": _scale,
    "add_losses": _add_losses,
    "softmax_cross_entropy": _loss(2),
    "multiclass_hinge": _loss(2),
    "binary_cross_entropy": _loss(1),
    "mean_squared_error": _loss(1),
    "mean_absolute_error": _loss(1),
    "huber": _loss(1),
    "poisson": _loss(1),
}
