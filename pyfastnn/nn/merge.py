"""Layers of several inputs: where the branches of a network meet."""

from __future__ import annotations

from pyfastnn.graph import Builder
from pyfastnn.nn.layer import Layer, Shape


class Add(Layer):
    """Add two or more inputs of one shape, elementwise: the residual connection. He et al. (2016).

    Notes
    -----
    Sums run from the first input to the last.
    """

    kind = "add"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape all inputs have."""
        _check_count("Add", len(input_shapes))
        for position, shape in enumerate(input_shapes):
            if shape != input_shapes[0]:
                raise ValueError(
                    f"Add: input {position} has rows of shape {shape}, expected {input_shapes[0]} like input 0"
                )
        return input_shapes[0]

    def forward(self, builder: Builder, name: str, *xs: str) -> str:
        """Add one sum for every input but the first."""
        _check_count("Add", len(xs))
        total = xs[0]
        for x in xs[1:]:
            total = builder.emit("add", (total, x), name=name)[0]
        return total


class Concat(Layer):
    """Put two or more inputs side by side along the last dimension: features, or channels of images (NHWC).

    Notes
    -----
    All dimensions but the last must agree.
    """

    kind = "concat"

    def output_shape(self, *input_shapes: Shape) -> Shape:
        """Return the shape of the inputs with the sum of their last dimensions."""
        _check_count("Concat", len(input_shapes))
        first = input_shapes[0]
        for position, shape in enumerate(input_shapes):
            if shape[:-1] != first[:-1]:
                raise ValueError(
                    f"Concat: input {position} has rows of shape {shape}, expected {first} like input 0 but for the last dimension"
                )
        return (*first[:-1], sum(shape[-1] for shape in input_shapes))

    def forward(self, builder: Builder, name: str, *xs: str) -> str:
        """Add one node for every input but the first."""
        _check_count("Concat", len(xs))
        joined = xs[0]
        for x in xs[1:]:
            joined = builder.emit("concat", (joined, x), name=name)[0]
        return joined


def _check_count(layer: str, count: int) -> None:
    if count < 2:
        raise ValueError(f"{layer}: {count} input{'' if count == 1 else 's'} given, expected 2 or more")
