"""Graph: named values and the nodes that compute them, in order, with a symbolic batch size.

Every value is written by one node, except state (parameters, optimizer moments, running statistics), which update nodes rewrite
in place after everything that reads the old contents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pyfastnn._names import unknown
from pyfastnn.graph.schema import Dim, OpSchema, output_shapes, schema

BATCH = "n"
"""The symbol of the batch dimension: the rows of one step."""

KINDS = ("input", "parameter", "state", "activation")


@dataclass(frozen=True)
class Value:
    """A named array.

    Attributes
    ----------
    name : str
        Unique in its graph, such as ``"linear_1.w"``.
    shape : tuple of int or str
        ``"n"`` is the batch, any other symbol a size known only when data arrive.
    dtype : str
        ``"T"`` (the float type of the run), ``"f64"``, ``"i64"``, ``"u8"`` or ``"any"``.
    kind : str
        ``"input"`` (given to every run), ``"parameter"`` (learned), ``"state"`` (kept, not learned) or ``"activation"``.
    view_of : str
        Name of the value whose memory this one reads with another shape, or empty.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str = "T"
    kind: str = "activation"
    view_of: str = ""


class Function(Protocol):
    """A Python function as a node: one entry into Python a step, on the CPU only."""

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """Return the outputs for arrays it must not change."""

    def gradients(
        self, node: Node, dy: Mapping[str, str | float | None], call: CallPython, needs: Any
    ) -> dict[str, str]:
        """Return value name of an input -> value name of its gradient, as the rules of `pyfastnn.graph.gradients` do."""


class CallPython(Protocol):
    """`Builder.call` with the name of the node filled in."""

    def __call__(
        self, function: Function, inputs: Sequence[str], outputs: Sequence[tuple[str, tuple[Dim, ...], str]]
    ) -> tuple[str, ...]:
        """Return the value names of the new node's outputs."""


@dataclass(frozen=True)
class Node:
    """One call of an op.

    Attributes
    ----------
    op : str
        Name in the op table.
    inputs : tuple of str or None
        Value names in table order; None for an optional input left out.
    outputs : tuple of str
        Value names in table order.
    attrs : dict of str to float
        All attributes of the op.
    group : int
        Row of hyper (parameter group) the op reads.
    name : str
        The layer or part the node belongs to.
    function : Function or None
        Of a node of op ``"python"``: what it calls.
    """

    op: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, float] = field(default_factory=dict)
    group: int = 0
    name: str = ""
    function: Function | None = None


@dataclass
class Graph:
    """Values by name, and nodes in the order they run."""

    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def views(self) -> dict[str, list[str]]:
        """Return the views of each value that has some."""
        found: dict[str, list[str]] = {}
        for name, value in self.values.items():
            if value.view_of:
                found.setdefault(value.view_of, []).append(name)
        return found

    def __str__(self) -> str:
        """Print one line per node: outputs, op, inputs, attributes."""
        lines = []
        for node in self.nodes:
            out = ", ".join(f"{o}{list(self.values[o].shape)}" for o in node.outputs)
            attrs = "".join(f" {k}={v:g}" for k, v in node.attrs.items())
            lines.append(f"{out} = {node.op}({', '.join(str(i) for i in node.inputs)}){attrs}")
        return "\n".join(lines)


class Builder:
    """Adds values and nodes to a graph; shapes and dtypes of new values follow from the op table.

    Parameters
    ----------
    training : bool
        Whether layers add their training form (batch statistics, dropout).

    Attributes
    ----------
    graph : Graph
        What was built so far.
    """

    def __init__(self, training: bool = False) -> None:
        self.graph = Graph()
        self.training = training

    def value(self, name: str, shape: Sequence[Dim], dtype: str = "T", kind: str = "input") -> str:
        """Add a value that no node writes first, and return its name.

        Raises
        ------
        ValueError
            If the name is taken.
        """
        if name in self.graph.values:
            raise ValueError(f"graph: two values are named {name!r}")
        self.graph.values[name] = Value(name, tuple(shape), dtype, kind)
        return name

    def view(self, of: str, shape: Sequence[Dim], name: str = "") -> str:
        """Add a value that is another one read with another shape, and return its name; nothing is computed.

        Parameters
        ----------
        of : str
            The value whose memory it is.
        shape : sequence of int or str
            As many items; the batch stays where it is.
        name : str
            The value's name, or what its name is made from.

        Raises
        ------
        ValueError
            If the number of items differs.
        """
        base = self.graph.values[of]
        if base.view_of:
            return self.view(base.view_of, shape, name or f"view({base.view_of})")
        if tuple(shape) == base.shape:
            return of
        counts = [math.prod(d for d in s if isinstance(d, int)) for s in (base.shape, shape)]
        symbols = [[d for d in s if isinstance(d, str)] for s in (base.shape, shape)]
        if counts[0] != counts[1] or symbols[0] != symbols[1]:
            raise ValueError(f"graph: {of!r} of shape {base.shape} cannot be read with shape {tuple(shape)}")
        fresh = self._fresh(name or f"view({of})")
        self.graph.values[fresh] = Value(fresh, tuple(shape), base.dtype, base.kind, of)
        return fresh

    def rename(self, old: str, new: str) -> None:
        """Give a value another name throughout the graph.

        Raises
        ------
        ValueError
            If the name is taken.
        """
        if new in self.graph.values:
            raise ValueError(f"graph: two values are named {new!r}")

        def names(given: Sequence[str | None]) -> tuple[Any, ...]:
            return tuple(new if name == old else name for name in given)

        self.graph.values = {
            (new if k == old else k): replace(v, name=new if k == old else k, view_of=names((v.view_of,))[0])
            for k, v in self.graph.values.items()
        }
        self.graph.nodes = [replace(n, inputs=names(n.inputs), outputs=names(n.outputs)) for n in self.graph.nodes]

    def emit(
        self,
        op: str,
        inputs: Sequence[str | None],
        attrs: Mapping[str, float] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        group: int = 0,
        name: str = "",
    ) -> tuple[str, ...]:
        """Append a node and return the names of its outputs.

        Parameters
        ----------
        op : str
            Name in the op table.
        inputs : sequence of str or None
            Value names in table order.
        attrs : mapping, optional
            Attributes that differ from the defaults.
        outputs : sequence of str, optional
            Names for the outputs; those updated in place are named after their input whatever stands here. Without it names
            are made from ``name`` and the table.
        group : int
            Row of hyper the op reads.
        name : str
            The layer or part the node belongs to.

        Returns
        -------
        tuple of str
            One name per output.

        Raises
        ------
        ValueError
            If an input is missing or unknown, shapes or dtypes do not fit, or an attribute is unknown. The graph is unchanged then.
        """
        table = schema(op)
        for key in attrs or ():
            if key not in table.attrs:
                raise ValueError(unknown(f"attribute of {op}", key, table.attrs))
        for given, expected in ((inputs, table.inputs), (outputs, table.outputs)):
            if given is not None and len(given) != len(expected):
                raise ValueError(f"{op}: {len(given)} names given for ({', '.join(a.name for a in expected)})")
        self._check_inputs(table, inputs)
        shapes = [None if i is None else self.graph.values[i].shape for i in inputs]
        inferred = output_shapes(table, shapes, attrs)
        by_arg = {a.name: i for a, i in zip(table.inputs, inputs, strict=True)}
        taken = [
            n
            for a, n in zip(table.outputs, outputs or (), strict=False)
            if a.name not in by_arg and n in self.graph.values
        ]
        if taken:
            raise ValueError(f"graph: two values are named {taken[0]!r}")
        names = []
        for k, (arg, shape) in enumerate(zip(table.outputs, inferred, strict=True)):
            kept = by_arg.get(arg.name)
            if kept is not None:
                names.append(kept)
                continue
            wanted = outputs[k] if outputs is not None else self._fresh(f"{name or op}.{arg.name}")
            names.append(self.value(wanted, shape, arg.dtype, "activation"))
        merged = {**table.attrs, **(attrs or {})}
        self.graph.nodes.append(Node(op, tuple(inputs), tuple(names), merged, group, name))
        return tuple(names)

    def call(
        self,
        function: Function,
        inputs: Sequence[str],
        outputs: Sequence[tuple[str, tuple[Dim, ...], str]],
        *,
        name: str = "",
    ) -> tuple[str, ...]:
        """Append a node that calls a Python function, and return the names of its outputs.

        Parameters
        ----------
        function : Function
            What is called.
        inputs : sequence of str
            Value names, at most 8.
        outputs : sequence of (str, tuple, str)
            Name, shape and dtype of each output, at most 8.
        name : str
            The layer or part the node belongs to.

        Raises
        ------
        ValueError
            If an input is unknown or there are too many.
        """
        for value in inputs:
            if value not in self.graph.values:
                raise ValueError(unknown("value", value, self.graph.values))
        if len(inputs) > 8 or not 1 <= len(outputs) <= 8:
            raise ValueError(f"{name}: a function has at most 8 inputs and 1 to 8 outputs")
        names = tuple(self.value(self._fresh(k), shape, dtype, "activation") for k, shape, dtype in outputs)
        self.graph.nodes.append(Node("python", tuple(inputs), names, name=name, function=function))
        return names

    def _check_inputs(self, table: OpSchema, inputs: Sequence[str | None]) -> None:
        """Check that inputs are there and of the dtype the op takes."""
        for arg, name in zip(table.inputs, inputs, strict=True):
            if name is None:
                if not arg.optional:
                    raise ValueError(f"{table.name}: input {arg.name!r} is missing")
            elif name not in self.graph.values:
                raise ValueError(unknown(f"value for input {arg.name!r} of {table.name}", name, self.graph.values))
            elif arg.dtype not in ("any", self.graph.values[name].dtype):
                found = self.graph.values[name].dtype
                raise ValueError(f"{table.name}: {arg.name!r} is {name!r} of dtype {found}, expected {arg.dtype}")

    def _fresh(self, wanted: str) -> str:
        name, k = wanted, 1
        while name in self.graph.values:
            k += 1
            name = f"{wanted}_{k}"
        return name
