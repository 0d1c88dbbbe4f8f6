"""The lectures' computational graph: gates with a forward and a backward of their own, wired by hand.

The first example of the CS231n lecture on backpropagation, ``f = (x + y) z`` at ``x = -2, y = 5, z = -4``:

>>> from pyfastnn.gates import Add, ComputationalGraph, Multiply
>>> g = ComputationalGraph()
>>> x, y, z = g.inputs("x", "y", "z")
>>> f = Multiply()(Add()(x, y), z)
>>> float(g.forward(x=-2, y=5, z=-4))
-12.0
>>> {name: float(gradient) for name, gradient in g.backward().items()}
{'x': -4.0, 'y': -4.0, 'z': 3.0}
>>> g.print()
   -2.00
x -------+  +---+
   -4.00 +--|   |  3.00
            | + |-------+
    5.00 +--|   | -4.00 |  +---+
y -------+  +---+       +--|   | -12.00
   -4.00                   | * |-------
                        +--|   |   1.00
   -4.00                |  +---+
z ----------------------+
    3.00

The second, a neuron with two inputs, written gate by gate as the lecture draws it:

>>> from pyfastnn.gates import AddConstant, Exp, Inverse, MultiplyConstant
>>> g = ComputationalGraph()
>>> w0, x0, w1, x1, w2 = g.inputs("w0", "x0", "w1", "x1", "w2")
>>> score = Add()(Add()(Multiply()(w0, x0), Multiply()(w1, x1)), w2)
>>> rate = Inverse()(AddConstant(1)(Exp()(MultiplyConstant(-1)(score))))
>>> print(f"{g.forward(w0=2, x0=-1, w1=-3, x1=-2, w2=-3):.2f}")
0.73
>>> print({name: f"{gradient:.2f}" for name, gradient in g.backward().items()})
{'w0': '-0.20', 'x0': '0.39', 'w1': '-0.39', 'x1': '-0.59', 'w2': '0.20'}

Exact arithmetic gives 0.39 and -0.59 where the lecture, which rounds every gradient to two digits on the way, has 0.4 and -0.6. The
loops of the lecture run as they stand:

>>> for gate in g.nodes_topologically_sorted():
...     gate.forward()
>>> for gate in reversed(g.nodes_topologically_sorted()):
...     gate.backward()

The forward pass of a 3-layer network, ``f(f(x W1 + b1) W2 + b2) W3 + b3``:

>>> import numpy as np
>>> from pyfastnn.gates import Linear, Sigmoid
>>> rng = np.random.default_rng(0)
>>> sizes = {"x": (1, 3), "W1": (3, 4), "b1": 4, "W2": (4, 4), "b2": 4, "W3": (4, 1), "b3": 1}
>>> values = {name: rng.standard_normal(size) for name, size in sizes.items()}
>>> g = ComputationalGraph()
>>> x, W1, b1, W2, b2, W3, b3 = g.inputs(*sizes)
>>> h1 = Sigmoid()(Linear()(x, W1, b1))
>>> h2 = Sigmoid()(Linear()(h1, W2, b2))
>>> out = Linear()(h2, W3, b3)
>>> f = lambda s: 1.0 / (1.0 + np.exp(-s))
>>> by_hand = f(f(values["x"] @ values["W1"] + values["b1"]) @ values["W2"] + values["b2"]) @ values["W3"] + values["b3"]
>>> bool(np.allclose(g.forward(**values), by_hand, rtol=1e-14))
True

`ComputationalGraph.to_layer` makes a layer of it, so that the Trainer trains a network wired by hand at native speed, and
`ComputationalGraph.to_graph` gives the graph that the engine lowers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfastnn._names import unknown
from pyfastnn.gates.elementwise import (
    Add,
    AddConstant,
    Divide,
    Exp,
    Inverse,
    Log,
    Max,
    Multiply,
    MultiplyConstant,
    Negate,
    ReLU,
    Sigmoid,
    Square,
    Subtract,
    Tanh,
)
from pyfastnn.gates.gate import Gate
from pyfastnn.gates.graph import ComputationalGraph, Wire
from pyfastnn.gates.neuron import Neuron
from pyfastnn.gates.products import Dot, Linear, MeanSquaredError, SoftmaxCrossEntropy, Sum

__all__ = [
    "Add",
    "AddConstant",
    "ComputationalGraph",
    "Divide",
    "Dot",
    "Exp",
    "Gate",
    "Inverse",
    "Linear",
    "Log",
    "Max",
    "MeanSquaredError",
    "Multiply",
    "MultiplyConstant",
    "Negate",
    "Neuron",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Square",
    "Subtract",
    "Sum",
    "Tanh",
    "Wire",
]

if not TYPE_CHECKING:  # a type checker is to find wrong names itself

    def __getattr__(name: str) -> object:
        """Answer an unknown name with the nearest known one."""
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise AttributeError(unknown(f"name in {__name__}", name, __all__))
