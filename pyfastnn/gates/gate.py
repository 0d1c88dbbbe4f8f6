"""What a gate is: a forward, a backward, and the nodes of the engine that do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyfastnn.gates.graph import Wire
    from pyfastnn.graph import Builder

Array = NDArray[np.float64]


class NoOpError(ValueError):
    """A gate that the engine has no op for."""


class Gate:
    """Base of all gates; one's own needs `forward` and `backward` alone.

    A gate holds settings only and may be wired several times. Calling it with wires puts it into their graph.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.gates import ComputationalGraph, Gate
    >>> class Sine(Gate):
    ...     symbol = "sin"
    ...     def forward(self, x):
    ...         return np.sin(x)
    ...     def backward(self, dy, y, x):
    ...         return (dy * np.cos(x),)
    >>> g = ComputationalGraph()
    >>> y = Sine()(g.input("x"))
    >>> float(g.forward(x=0.0)), float(g.backward()["x"])
    (0.0, 1.0)
    """

    symbol: ClassVar[str] = ""
    """What is drawn in the gate; the class name in lower case if empty."""
    arity: ClassVar[int | None] = 1
    """How many wires it reads; None for any number."""
    op: ClassVar[str] = ""
    """The engine's op that does the same on the same inputs, if there is one."""
    label_inputs: ClassVar[tuple[int, ...]] = ()
    """Inputs that hold whole numbers and get no gradient."""

    def __call__(self, *wires: Wire, name: str = "") -> Wire:
        """Wire the gate after others.

        Parameters
        ----------
        *wires : Wire
            What the gate reads, all of one graph.
        name : str, optional
            Name of the output; by default the gate's kind and a number, such as ``"add_1"``.

        Returns
        -------
        Wire
            The output.

        Raises
        ------
        TypeError
            If something else than a wire is given, or more or fewer than the gate reads.
        ValueError
            If the wires belong to different graphs, or the name is taken.
        """
        from pyfastnn.gates.graph import connect

        return connect(self, wires, name)

    @property
    def kind(self) -> str:
        """Stem of the names of its outputs."""
        return type(self).__name__.lower()

    @property
    def label(self) -> str:
        """What is drawn in the gate."""
        return self.symbol or self.kind

    def forward(self, *x: Any, **_: Any) -> Any:  # so typed, one's own may name its inputs
        """Return the output for the inputs, float64 arrays that must not be changed."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dy: Array, y: Array, *x: Any, **_: Any) -> Sequence[Any]:
        """Return one gradient per input: ``dy`` (the gradient of the output) times the local gradient.

        Parameters
        ----------
        dy, y : ndarray
            Gradient of the output, and the output.
        *x : ndarray
            The inputs.

        Returns
        -------
        sequence of ndarray or None
            In the order of the inputs; None for one that has no gradient. Those of inputs that were broadcast may have the shape of the
            output: the graph adds them up.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def emit(self, builder: Builder, name: str, *inputs: str) -> str:
        """Add the nodes that compute the gate natively, and return the value named ``name``.

        Raises
        ------
        NoOpError
            If the engine has no op for it.
        """
        return emit_op(builder, self.op, inputs, name)

    def __repr__(self) -> str:
        """Show the call that makes the gate."""
        args = ", ".join(f"{v:g}" for v in vars(self).values())
        return f"{type(self).__name__}({args})"


def emit_op(
    builder: Builder, op: str, inputs: Sequence[str], name: str, attrs: Mapping[str, float] | None = None
) -> str:
    """Append one node whose first output is the value ``name``; optional inputs that are not given are left out.

    Raises
    ------
    NoOpError
        If there is no such op.
    """
    from pyfastnn.graph.schema import schemas

    table = schemas().get(op)
    if table is None:
        raise NoOpError(f"no op {op!r}" if op else "no op")
    padded = [*inputs, *[None] * (len(table.inputs) - len(inputs))]
    names = [name, *(f"{name}.{arg.name}" for arg in table.outputs[1:])]
    return builder.emit(op, padded, attrs, names, name=name)[0]
