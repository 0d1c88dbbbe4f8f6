"""The graph: wires with values, gates between them, forward and backward in NumPy float64."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pyfastnn._names import unknown
from pyfastnn.gates.gate import Array, Gate

if TYPE_CHECKING:
    from pyfastnn.gates.layer import GraphLayer
    from pyfastnn.graph import Graph


class Wire:
    """An input of the graph, or a gate with the wire after it.

    Attributes
    ----------
    graph : ComputationalGraph
        Where it belongs.
    name : str
        Unique in its graph.
    gate : Gate or None
        None for an input.
    inputs : tuple of Wire
        What the gate reads.
    value, gradient : ndarray of float64 or None
        Filled by the forward and the backward pass.
    """

    def __init__(self, graph: ComputationalGraph, name: str, gate: Gate | None, inputs: tuple[Wire, ...]) -> None:
        self.graph = graph
        self.name = name
        self.gate = gate
        self.inputs = inputs
        self.value: Array | None = None
        self.gradient: Array | None = None

    def forward(self) -> None:
        """Compute the value from those of the inputs.

        Raises
        ------
        RuntimeError
            If the wire is an input, or an input has no value yet.
        ValueError
            If the gate refuses the values; the message names the wire.
        """
        if self.gate is None:
            raise RuntimeError(f"wire {self.name!r} is an input: its value is given to forward")
        given = [_value(wire) for wire in self.inputs]
        self.gradient = None
        with np.errstate(all="ignore"):
            try:
                self.value = np.asarray(self.gate.forward(*given), np.float64)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error

    def backward(self) -> None:
        """Add to the gradients of the inputs what flows back through the gate; nothing if no gradient came to it.

        Raises
        ------
        RuntimeError
            If the wire is an input, or has no value yet.
        ValueError
            If the gate returns more or fewer gradients than it has inputs, or one of a wrong shape.
        """
        if self.gate is None:
            raise RuntimeError(f"wire {self.name!r} is an input: gradients end there")
        value = _value(self)
        if self.gradient is None:
            return
        given = [_value(wire) for wire in self.inputs]
        with np.errstate(all="ignore"):
            gradients = self.gate.backward(self.gradient, value, *given)
            if len(gradients) != len(self.inputs):
                raise ValueError(
                    f"{self.name}: backward of {self.gate!r} returned {len(gradients)} gradients for {len(self.inputs)} inputs"
                )
            for wire, gradient in zip(self.inputs, gradients, strict=True):
                if gradient is not None:
                    part = _unbroadcast(self, wire, np.asarray(gradient, np.float64))
                    wire.gradient = part.copy() if wire.gradient is None else np.asarray(wire.gradient + part)

    def __repr__(self) -> str:
        """Show gate, value and gradient."""
        made = "input" if self.gate is None else f"{self.gate!r}({', '.join(w.name for w in self.inputs)})"
        return f"<{self.name} = {made}, value {self.value}, gradient {self.gradient}>"


class ComputationalGraph:
    """A graph of gates, as the lectures draw it.

    Everything is NumPy in float64, on scalars or arrays; `to_graph` gives what the engine runs. Examples stand in `pyfastnn.gates`.

    Attributes
    ----------
    wires : dict of str to Wire
        Inputs and outputs of gates in the order they were made.
    """

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}

    # Building

    def input(self, name: str) -> Wire:
        """Add one input and return its wire.

        Raises
        ------
        TypeError
            If the name is no string.
        ValueError
            If it is empty or taken.
        """
        if not isinstance(name, str):
            raise TypeError(f"input: name is {name!r}, expected a string")
        if not name:
            raise ValueError("input: the name is empty")
        return self._add(Wire(self, name, None, ()))

    def inputs(self, *names: str) -> tuple[Wire, ...]:
        """Add inputs and return their wires, as ``x, y, z = g.inputs("x", "y", "z")``."""
        return tuple(self.input(name) for name in names)

    def _add(self, wire: Wire) -> Wire:
        if wire.name in self.wires:
            raise ValueError(f"graph: two wires are named {wire.name!r}")
        self.wires[wire.name] = wire
        return wire

    @property
    def output(self) -> Wire:
        """The output of the last gate that was wired.

        Raises
        ------
        RuntimeError
            If there is no gate.
        """
        gates = self.nodes_topologically_sorted()
        if not gates:
            raise RuntimeError("the graph has no gates yet: wire one, as in Add()(x, y)")
        return gates[-1]

    def nodes_topologically_sorted(self) -> list[Wire]:
        """Return the gates, each after those it reads: the order in which they were wired."""
        return [wire for wire in self.wires.values() if wire.gate is not None]

    # Running

    def forward(self, /, **values: ArrayLike) -> Array:  # an input may be named "self"
        """Compute every wire from the inputs on.

        Parameters
        ----------
        **values : array_like
            One per input, converted to float64.

        Returns
        -------
        ndarray of float64
            The value of the last gate.

        Raises
        ------
        TypeError
            If an input is missing, unknown or holds no numbers.
        ValueError
            If shapes do not fit; the message names the wire.
        """
        wanted = [wire for wire in self.wires.values() if wire.gate is None]
        names = [wire.name for wire in wanted]
        for name in values:
            if name not in names:
                raise TypeError(f"forward: {unknown('input', name, names)}")
        output = self.output
        arrays = {}
        for name in names:
            if name not in values:
                raise TypeError(f"forward: no value for input {name!r}")
            array = np.asarray(values[name])
            if array.dtype.kind not in "biuf":
                raise TypeError(f"forward: {name!r} has dtype {array.dtype}, expected numbers")
            arrays[name] = array.astype(np.float64)
        for wire in self.wires.values():
            wire.value = wire.gradient = None
        for wire in wanted:
            wire.value = arrays[wire.name]
        for gate in self.nodes_topologically_sorted():
            gate.forward()
        return _value(output)

    def backward(self, upstream: ArrayLike = 1.0) -> dict[str, Array]:
        """Compute the gradient of the last gate with respect to every wire; at forks the gradients are added.

        Parameters
        ----------
        upstream : array_like, default 1
            Gradient that comes to the last gate, of its shape or a scalar. With 1, gradients of an array are those of its sum.

        Returns
        -------
        dict of str to ndarray
            By input; 0 for one that the output does not depend on. `Wire.gradient` has that of any wire.

        Raises
        ------
        RuntimeError
            If there was no forward pass.
        ValueError
            If ``upstream`` has another shape.
        """
        output = self.output
        value = _value(output)
        start = np.asarray(upstream, np.float64)
        if start.shape not in ((), value.shape):
            raise ValueError(f"backward: 'upstream' has shape {start.shape}, expected {value.shape} or a number")
        for wire in self.wires.values():
            wire.gradient = None
        output.gradient = np.broadcast_to(start, value.shape).copy()
        for gate in reversed(self.nodes_topologically_sorted()):
            gate.backward()
        for wire in self.wires.values():
            if wire.gradient is None:
                wire.gradient = np.zeros_like(_value(wire))
        return {w.name: w.gradient for w in self.wires.values() if w.gate is None and w.gradient is not None}

    # Showing

    def draw(self, *, digits: int = 2) -> str:
        """Return a drawing in text: the value above each wire, its gradient below.

        Parameters
        ----------
        digits : int, default 2
            Digits after the point. Arrays of more than three numbers show their shape.
        """
        from pyfastnn.gates.text import draw

        return draw(self, digits)

    def print(self, *, digits: int = 2) -> None:
        """Print `draw`."""
        sys.stdout.write(self.draw(digits=digits) + "\n")

    def table(self, *, digits: int = 4) -> str:
        """Return a table with a line per wire: name, gate, what it reads, value and gradient."""
        from pyfastnn.gates.text import table

        return table(self, digits)

    def svg(self, path: str | Path | None = None, *, digits: int = 2) -> str:
        """Return the drawing as SVG, values in green and gradients in red.

        Parameters
        ----------
        path : path, optional
            Where to save it too.
        digits : int, default 2
            As for `draw`.
        """
        from pyfastnn.gates.svg import svg

        text = svg(self, digits)
        if path is not None:
            from pyfastnn.io.atomic import atomic_write

            with atomic_write(path) as file:
                file.write(text.encode())
        return text

    def _repr_svg_(self) -> str | None:
        """Show the drawing in a notebook."""
        return self.svg() if self.wires else None

    def __str__(self) -> str:
        """Return the drawing in text."""
        return self.draw()

    # To the engine

    def to_graph(self, *, parameters: Collection[str] = (), batch: Collection[str] = ()) -> Graph:
        """Return the forward pass as the graph that the engine lowers and differentiates.

        Values have the names of the wires, and the shapes of the last `forward`; scalars have shape (1,).

        Parameters
        ----------
        parameters : collection of str
            Inputs that are learned.
        batch : collection of str
            Inputs whose first dimension is the rows of a batch, of any number.

        Returns
        -------
        pyfastnn.graph.Graph
            Nodes for `pyfastnn.graph.autodiff.backward`, if it ends in a loss, and `pyfastnn.graph.lowering.lower`.

        Raises
        ------
        RuntimeError
            If there was no forward pass: shapes come from it.
        ValueError
            If a gate has no op, or broadcasts; the message names the gate. Also if a name is no input.

        Examples
        --------
        >>> import numpy as np
        >>> from pyfastnn.gates import ComputationalGraph, Linear, MeanSquaredError, Tanh
        >>> g = ComputationalGraph()
        >>> x, w, b, t = g.inputs("x", "w", "b", "t")
        >>> loss = MeanSquaredError()(Tanh()(Linear()(x, w, b), name="y"), t, name="loss")
        >>> cost = g.forward(x=np.ones((2, 3)), w=np.ones((3, 1)), b=[0.0], t=np.ones((2, 1)))
        >>> print(g.to_graph(parameters=["w", "b"], batch=["x", "t"]))
        linear_1['n', 1] = linear_forward(x, w, b)
        y['n', 1] = tanh_forward(linear_1)
        loss[1], loss.dy_pred['n', 1] = mean_squared_error(y, t, None)
        """
        from pyfastnn.gates.native import to_graph

        return to_graph(self, parameters, batch)

    def to_layer(self, *, inputs: Sequence[str], parameters: Sequence[str] = ()) -> GraphLayer:
        """Return the gates as a layer of `pyfastnn.nn`: a model holds it, and the Trainer trains it natively.

        Parameters
        ----------
        inputs : sequence of str
            Inputs that are rows of data, in the order in which the layer is called on them.
        parameters : sequence of str
            All other inputs: learned, beginning with the values of the last `forward`.

        Returns
        -------
        GraphLayer
            Of the gates as they are now; its output is the last gate. The loss belongs to the Trainer.

        Raises
        ------
        TypeError, ValueError
            If a name is no input, or an input stands in neither list or twice. A gate without op raises when the model is built.
        RuntimeError
            If a parameter has no value yet.

        Examples
        --------
        >>> import numpy as np
        >>> import pyfastnn as fnn
        >>> from pyfastnn.gates import ComputationalGraph, Linear, ReLU
        >>> g = ComputationalGraph()
        >>> x, w1, b1, w2, b2 = g.inputs("x", "w1", "b1", "w2", "b2")
        >>> scores = Linear()(ReLU()(Linear()(x, w1, b1)), w2, b2)
        >>> rng = np.random.default_rng(0)
        >>> w1, w2 = 0.2 * rng.standard_normal((64, 32)), 0.2 * rng.standard_normal((32, 10))
        >>> X, y = fnn.data.load_digits()
        >>> cost = g.forward(x=X[:1] / 16.0, w1=w1, b1=np.zeros(32), w2=w2, b2=np.zeros(10))
        >>> layer = g.to_layer(inputs=["x"], parameters=["w1", "b1", "w2", "b2"])
        >>> trainer = fnn.Trainer(fnn.nn.Sequential(layer), optimizer=fnn.optim.Adam(0.003))
        >>> history = trainer.fit(X / 16.0, y, epochs=10, verbose=0)
        >>> history["accuracy"][-1] > 0.95
        True
        """
        from pyfastnn.gates.layer import GraphLayer

        return GraphLayer(self, inputs, parameters)


def connect(gate: Gate, wires: tuple[Wire, ...], name: str) -> Wire:
    """Put a gate into the graph of the wires; `Gate.__call__` says what it raises."""
    kind = type(gate).__name__
    if gate.arity is not None and len(wires) != gate.arity:
        raise TypeError(f"{kind} reads {gate.arity} wire{'s' * (gate.arity != 1)}, {len(wires)} given")
    if not wires:
        raise TypeError(f"{kind} reads at least one wire, none given")
    for place, wire in enumerate(wires):
        if not isinstance(wire, Wire):
            raise TypeError(f"{kind}: input {place + 1} is {wire!r}, expected a wire such as g.input('x')")
        if wire.graph is not wires[0].graph:
            raise ValueError(f"{kind}: {wires[0].name!r} and {wire.name!r} belong to different graphs")
    graph = wires[0].graph
    if not name:
        number = 1 + sum(w.gate is not None and w.gate.kind == gate.kind for w in graph.wires.values())
        while f"{gate.kind}_{number}" in graph.wires:
            number += 1
        name = f"{gate.kind}_{number}"
    return graph._add(Wire(graph, name, gate, wires))


def _value(wire: Wire) -> Array:
    if wire.value is None:
        raise RuntimeError(f"wire {wire.name!r} has no value yet: call g.forward(...) first")
    return wire.value


def _unbroadcast(gate: Wire, wire: Wire, gradient: Array) -> Array:
    """Add up the gradients of the copies that broadcasting made of a value."""
    shape = _value(wire).shape
    extra = gradient.ndim - len(shape)
    fits = extra >= 0 and all(s in (1, d) for s, d in zip(shape, gradient.shape[extra:], strict=True))
    if not fits:
        raise ValueError(
            f"{gate.name}: backward of {gate.gate!r} returned a gradient of shape {gradient.shape} for {wire.name!r} of shape {shape}"
        )
    if gradient.shape == shape:
        return gradient
    copied = tuple(a for a in range(gradient.ndim) if a < extra or (shape[a - extra] == 1 and gradient.shape[a] != 1))
    return np.asarray(gradient.sum(axis=copied)).reshape(shape)
