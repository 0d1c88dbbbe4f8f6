"""From gates to the graph that the engine lowers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pyfastnn._names import unknown
from pyfastnn.gates.gate import NoOpError
from pyfastnn.graph import BATCH, Builder, Graph

if TYPE_CHECKING:
    from pyfastnn.gates.graph import ComputationalGraph, Wire
    from pyfastnn.graph.schema import Dim


def to_graph(graph: ComputationalGraph, parameters: Collection[str], batch: Collection[str]) -> Graph:
    """Do the work of `ComputationalGraph.to_graph`."""
    inputs = [wire for wire in graph.wires.values() if wire.gate is None]
    names = [wire.name for wire in inputs]
    for argument, given in (("parameters", parameters), ("batch", batch)):
        if isinstance(given, str):
            raise TypeError(f"to_graph: {argument!r} is {given!r}, expected a list of names")
        for name in given:
            if name not in names:
                raise ValueError(f"to_graph: {unknown(f'input in {argument!r}', name, names)}")
    builder = Builder(training=True)
    for wire in inputs:
        builder.value(
            wire.name,
            _shape(wire, wire.name in batch),
            "i64" if _holds_labels(graph, wire) else "T",
            "parameter" if wire.name in parameters else "input",
        )
    emit(graph, builder, {name: name for name in names}, "to_graph")
    return builder.graph


def emit(graph: ComputationalGraph, builder: Builder, values: dict[str, str], owner: str, prefix: str = "") -> str:
    """Add the nodes of all gates and return the value of the last one.

    Parameters
    ----------
    graph : ComputationalGraph
        What is read.
    builder : Builder
        What is added to.
    values : dict of str to str
        Value of each wire; those of the gates are added.
    owner : str
        Who asks, for messages.
    prefix : str
        What the names of new values begin with.

    Raises
    ------
    ValueError
        If a gate has no op, or broadcasts; the message names it.
    """
    for wire in graph.nodes_topologically_sorted():
        assert wire.gate is not None
        reads = [values[read.name] for read in wire.inputs]
        try:
            values[wire.name] = wire.gate.emit(builder, f"{prefix}{wire.name}", *reads)
        except NoOpError as error:
            raise ValueError(
                f"{owner}: gate {wire.name!r}, {wire.gate!r}, cannot run natively: the engine has {error} for it"
            ) from None
        except ValueError as error:
            raise ValueError(f"{owner}: gate {wire.name!r}, {wire.gate!r}: {error}") from None
    return values[graph.output.name]


def _shape(wire: Wire, batch: bool) -> tuple[Dim, ...]:
    if wire.value is None:
        raise RuntimeError("to_graph: shapes come from values: call g.forward(...) first")
    shape: tuple[Dim, ...] = wire.value.shape or (1,)
    if batch and wire.value.ndim == 0:
        raise ValueError(f"to_graph: {wire.name!r} in 'batch' is a scalar, expected rows")
    return (BATCH, *shape[1:]) if batch else shape


def _holds_labels(graph: ComputationalGraph, wire: Wire) -> bool:
    """Return whether an input is read as whole numbers, by all of its readers."""
    uses = [
        place in gate.gate.label_inputs
        for gate in graph.nodes_topologically_sorted()
        if gate.gate is not None
        for place, read in enumerate(gate.inputs)
        if read is wire
    ]
    if any(uses) and not all(uses):
        raise ValueError(f"to_graph: {wire.name!r} is read as labels by one gate and as numbers by another")
    return any(uses)
