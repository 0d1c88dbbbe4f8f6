"""A graph of gates as a layer, so that models hold it and the Trainer trains it natively."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfastnn._names import unknown
from pyfastnn.gates.native import emit
from pyfastnn.graph import BATCH, Builder
from pyfastnn.nn.initializers import Initializer
from pyfastnn.nn.layer import Layer, Parameter

if TYPE_CHECKING:
    from pyfastnn.gates.gate import Array
    from pyfastnn.gates.graph import ComputationalGraph

Shape = tuple[int, ...]


class GraphLayer(Layer):
    """Gates wired by hand, as a layer of a model; made by `ComputationalGraph.to_layer`.

    Parameters
    ----------
    graph : ComputationalGraph
        Copied: what is wired later does not show.
    inputs : sequence of str
        Inputs of the graph that are rows of data, in the order in which the layer is called on them.
    parameters : sequence of str
        All others: learned, from the values of the last forward pass on.

    Notes
    -----
    A model file cannot hold it. Weight decay applies to parameters of two or more dimensions.
    """

    kind = "gates"

    def __init__(self, graph: ComputationalGraph, inputs: Sequence[str], parameters: Sequence[str]) -> None:
        names = [wire.name for wire in graph.wires.values() if wire.gate is None]
        for argument, given in (("inputs", inputs), ("parameters", parameters)):
            if isinstance(given, str):
                raise TypeError(f"to_layer: {argument!r} is {given!r}, expected a list of names")
            for name in given:
                if name not in names:
                    raise ValueError(f"to_layer: {unknown(f'input in {argument!r}', name, names)}")
        listed = [*inputs, *parameters]
        for name in names:
            if listed.count(name) != 1:
                where = "twice in" if name in listed else "in neither of"
                raise ValueError(f"to_layer: {name!r} stands {where} 'inputs' and 'parameters', expected once")
        if not inputs:
            raise ValueError("to_layer: 'inputs' is empty, expected the names of the rows")
        for name in parameters:
            if "." in name:
                raise ValueError(f"to_layer: the parameter {name!r} has a dot in its name")
            if graph.wires[name].value is None:
                raise RuntimeError(f"to_layer: {name!r} has no first value: call g.forward(...) first")
        self.graph = copy.deepcopy(graph)
        self.inputs = tuple(inputs)
        self.learned = tuple(parameters)

    def _first(self, name: str) -> Array:
        value = self.graph.wires[name].value
        assert value is not None
        return value.reshape(value.shape or (1,))

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of one row of the last gate.

        Raises
        ------
        ValueError
            If there are more or fewer inputs, a gate has no op or does not fit, or the last gate does not give rows.
        """
        builder = Builder()
        for name in self.learned:
            builder.value(f"gates.{name}", self._first(name).shape, kind="parameter")
        rows = [builder.value(f"x{k}", (BATCH, *shape)) for k, shape in enumerate(shapes)]
        shape = builder.graph.values[self.forward(builder, "gates", *rows)].shape
        if shape[:1] != (BATCH,):
            raise ValueError(f"gates: the last gate gives shape {shape}, expected rows: leave out the loss")
        return tuple(d for d in shape[1:] if isinstance(d, int))

    def parameters(self, *shapes: Shape) -> list[Parameter]:
        """Return the learned inputs."""
        return [
            Parameter(name, first.shape, _Values(first), decay=first.ndim > 1)
            for name, first in ((name, self._first(name)) for name in self.learned)
        ]

    def forward(self, builder: Builder, name: str, *xs: str) -> str:
        """Add the nodes of the gates."""
        if len(xs) != len(self.inputs):
            raise ValueError(f"{name}: called on {len(xs)} values, expected {', '.join(self.inputs)}")
        values = {**dict(zip(self.inputs, xs, strict=True)), **{k: f"{name}.{k}" for k in self.learned}}
        return emit(self.graph, builder, values, name, f"{name}.")

    def config(self) -> dict[str, Any]:
        """Refuse: gates may be code.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("gates: a layer of gates cannot be saved in a model file")

    def __repr__(self) -> str:
        """Show inputs and number of gates."""
        return f"GraphLayer({', '.join(self.inputs)}; {len(self.graph.nodes_topologically_sorted())} gates)"


class _Values(Initializer):
    """Values that are known."""

    kind = "values"

    def __init__(self, values: Array) -> None:
        self.values = values

    def __call__(self, rng: np.random.Generator, shape: Shape) -> Array:
        """Return the values."""
        return self.values
