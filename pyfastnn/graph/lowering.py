"""Graphs to the plain tuples a native Plan is built from.

Several graphs (training, evaluation, prediction) become the step lists of one plan and share their parameters and state by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyfastnn.graph.graph import BATCH, Function, Graph, Value
from pyfastnn.graph.schema import schema

PlanValue = tuple[str, str, tuple[int, ...], bool, str, int]
PlanStep = tuple[str, tuple[int, ...], tuple[int, ...], tuple[float, ...], int]

_BATCH_DIM = -1
_ANY_DIM = -2


@dataclass(frozen=True)
class Lowered:
    """What `pyfastnn._core.Plan` takes.

    Attributes
    ----------
    values : list of tuple
        ``(name, dtype, dims, external, advance, view_of)``; dims of -1 are the batch, of -2 the rows of a data set; ``view_of`` is the id
        of the value whose memory it is, or -1.
    lists : dict of str to list of tuple
        ``(op, input ids, output ids, attributes, group)`` per step; id -1 is an input left out. The one attribute of ``"python"`` is
        the number of its function.
    functions : list of callable
        Python functions, called with tuples of arrays: inputs, and outputs to write to.
    """

    values: list[PlanValue]
    lists: dict[str, list[PlanStep]]
    functions: list[Callable[[tuple[Any, ...], tuple[Any, ...]], None]]


def _writing(function: Function) -> Callable[[tuple[Any, ...], tuple[Any, ...]], None]:
    """Return a function as the plan calls it: outputs are written to."""

    def call(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        for output, result in zip(outputs, function.forward(*inputs), strict=True):
            output[...] = result

    return call


def lower(graphs: Mapping[str, Graph], outputs: Mapping[str, str]) -> Lowered:
    """Turn graphs into values and step lists.

    Parameters
    ----------
    graphs : mapping of str to Graph
        Name of the step list to graph. Activations of different graphs are kept apart, everything else is shared by name.
    outputs : mapping of str to str
        Activation name to how its memory moves between steps: ``"row"`` (one row per row of the batch), ``"step"`` (one item a
        step), ``"record"`` (the whole value for each step that takes its list instead of another) or ``"none"``. These are
        written to arrays bound by the caller. Inputs with a batch dimension move by row.

    Returns
    -------
    Lowered
        Values and step lists.

    Raises
    ------
    ValueError
        If a shared value has another shape or dtype in one graph than in another.
    """
    values: list[PlanValue] = []
    ids: dict[tuple[str, str], int] = {}
    shared: dict[tuple[str, str], Value] = {}

    def value_id(list_name: str, graph: Graph, value: Value, bound: Mapping[str, str]) -> int:
        base = value.view_of
        root = base or value.name
        external = value.kind != "activation" or root in bound
        key = ("" if external else list_name, value.name)
        if key not in ids:
            view_of = value_id(list_name, graph, graph.values[base], bound) if base else -1
            advance = "row" if value.kind == "input" and BATCH in value.shape else "none"
            advance = outputs.get(bound.get(root, root), advance)
            dims = tuple(d if isinstance(d, int) else _BATCH_DIM if d == BATCH else _ANY_DIM for d in value.shape)
            name = value.name
            if base:
                name = f"{list_name}:view:{value.name}"
            elif root in bound:
                name = bound[root]
            elif not external and len(graphs) > 1:
                name = f"{list_name}:{value.name}"
            ids[key] = len(values)
            values.append((name, value.dtype, dims, external, advance, view_of))
            shared[key] = value
        elif (value.shape, value.dtype) != (shared[key].shape, shared[key].dtype):
            raise ValueError(
                f"plan: {value.name!r} is {shared[key].dtype}{list(shared[key].shape)} in one graph and "
                f"{value.dtype}{list(value.shape)} in another"
            )
        return ids[key]

    functions: list[Callable[[tuple[Any, ...], tuple[Any, ...]], None]] = []
    lists: dict[str, list[PlanStep]] = {}
    for list_name, graph in graphs.items():
        # A result that is a view of another value is that value, bound under the result's name.
        bound = {(graph.values[k].view_of or k): k for k in outputs if k in graph.values}
        steps: list[PlanStep] = []
        for node in graph.nodes:
            if node.function is None:
                table = schema(node.op).attrs
                attrs = tuple(float({**table, **node.attrs}[name]) for name in table)
            else:
                attrs = (float(len(functions)),)
                functions.append(_writing(node.function))
            steps.append(
                (
                    node.op,
                    tuple(-1 if i is None else value_id(list_name, graph, graph.values[i], bound) for i in node.inputs),
                    tuple(value_id(list_name, graph, graph.values[o], bound) for o in node.outputs),
                    attrs,
                    node.group,
                )
            )
        for value in graph.values.values():  # what the caller binds may be bound whether a step reads it or not
            if value.kind != "activation" and not value.view_of:
                value_id(list_name, graph, value, bound)
        lists[list_name] = steps
    return Lowered(values, lists, functions)
