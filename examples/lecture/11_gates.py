"""Experiment 11: the gate graphs of the lecture on backpropagation, with its numbers; at the end, gates that are trained natively.

Values stand above the wires, gradients below. The lecture rounds every gradient to two digits on the way.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.gates import (
    Add,
    AddConstant,
    ComputationalGraph,
    Dot,
    Exp,
    Inverse,
    Linear,
    Max,
    Multiply,
    MultiplyConstant,
    ReLU,
    Sigmoid,
    Square,
    Sum,
)


def simple() -> ComputationalGraph:
    """Return f = (x + y) z."""
    g = ComputationalGraph()
    x, y, z = g.inputs("x", "y", "z")
    Multiply()(Add()(x, y), z)
    g.forward(x=-2, y=5, z=-4)
    return g


def neuron() -> ComputationalGraph:
    """Return f = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))), gate by gate."""
    g = ComputationalGraph()
    w0, x0, w1, x1, w2 = g.inputs("w0", "x0", "w1", "x1", "w2")
    score = Add()(Add()(Multiply()(w0, x0), Multiply()(w1, x1)), w2)
    Inverse()(AddConstant(1)(Exp()(MultiplyConstant(-1)(score))))
    g.forward(w0=2, x0=-1, w1=-3, x1=-2, w2=-3)
    return g


def sigmoid_gate() -> ComputationalGraph:
    """Return the same neuron with one gate for the sigmoid, whose gradient is (1 - f) f."""
    g = ComputationalGraph()
    w0, x0, w1, x1, w2 = g.inputs("w0", "x0", "w1", "x1", "w2")
    Sigmoid()(Add()(Add()(Multiply()(w0, x0), Multiply()(w1, x1)), w2))
    g.forward(w0=2, x0=-1, w1=-3, x1=-2, w2=-3)
    return g


def patterns() -> ComputationalGraph:
    """Return f = 2 (x y + max(z, w)): add distributes the gradient, max routes it, multiply switches."""
    g = ComputationalGraph()
    x, y, z, w = g.inputs("x", "y", "z", "w")
    MultiplyConstant(2)(Add()(Multiply()(x, y), Max()(z, w)))
    g.forward(x=3, y=-4, z=2, w=-1)
    return g


def vectors() -> ComputationalGraph:
    """Return f = |W x|**2."""
    g = ComputationalGraph()
    W, x = g.inputs("W", "x")
    Sum()(Square()(Dot()(W, x)))
    g.forward(W=[[0.1, 0.5], [-0.3, 0.8]], x=[0.2, 0.4])
    return g


# What the lecture has: f, and the gradient of each input.
GRAPHS = {
    "f = (x + y) z": (simple, -12.0, {"x": -4.0, "y": -4.0, "z": 3.0}),
    "a neuron": (neuron, 0.73, {"w0": -0.2, "x0": 0.4, "w1": -0.4, "x1": -0.6, "w2": 0.2}),
    "with a sigmoid gate": (sigmoid_gate, 0.73, {"w0": -0.2, "x0": 0.4, "w1": -0.4, "x1": -0.6, "w2": 0.2}),
    "f = 2 (x y + max(z, w))": (patterns, -20.0, {"x": -8.0, "y": 6.0, "z": 2.0, "w": 0.0}),
    "f = |W x|^2": (vectors, 0.116, {"W": [0.088, 0.176, 0.104, 0.208], "x": [-0.112, 0.636]}),
}


def text(values, form: str = ".3f") -> str:
    """Return numbers in a row."""
    return " ".join(format(v + 0.0, form) for v in np.ravel(values))


def native(short: bool) -> None:
    """Wire a two-layer net by hand and let the Trainer train it, beside the same net of layers."""
    rng = np.random.default_rng(0)
    X, y = fnn.data.load_digits()
    first = {
        "w1": 0.2 * rng.standard_normal((64, 32)),
        "b1": np.zeros(32),
        "w2": 0.2 * rng.standard_normal((32, 10)),
        "b2": np.zeros(10),
    }
    g = ComputationalGraph()
    x, w1, b1, w2, b2 = g.inputs("x", *first)
    Linear()(ReLU()(Linear()(x, w1, b1)), w2, b2)
    g.forward(x=X[:1] / 16.0, **first)
    by_hand = nn.Sequential(g.to_layer(inputs=["x"], parameters=list(first)))
    layers = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10)).build((64,))
    layers.load_state_dict(dict(zip(layers.arrays(), first.values(), strict=True)))
    accuracies = []
    for model in (by_hand, layers):
        trainer = fnn.Trainer(model, optimizer=optim.Adam(3e-3), seed=0)
        accuracies.append(trainer.fit(X / 16.0, y, epochs=3 if short else 20, verbose=0)["accuracy"][-1])
    common.compare(
        ("a net on the digits, accuracy", *(f"{a:.4%}" for a in accuracies)), heads=("", "of gates", "of layers")
    )


def main() -> None:
    """Draw the graphs as text, print their gradients beside the lecture's, and train one."""
    args = common.options(__doc__)
    rows, drawings = [], []
    for title, (make, value, gradients) in GRAPHS.items():
        g = make()
        found = g.backward()
        print(f"\n{title}\n")
        g.print()
        drawings.append((title, g))
        rows.append((title, text(g.output.value), text(value, "g")))
        rows += [
            (f"  gradient of {name}", text(found[name]), text(published, "g")) for name, published in gradients.items()
        ]
    print()
    common.compare(*rows)
    native(args.short)
    if args.output:
        draw(drawings, args.output)


def draw(drawings, path: str) -> None:
    """Put the drawings of the graphs (`ComputationalGraph.svg`) under each other into one SVG."""
    if not path.endswith(".svg"):
        raise SystemExit(f"-o {path}: graphs are drawn as SVG, name a file that ends with .svg")
    parts, widest, top = [], 0, 0
    for title, g in drawings:
        part = g.svg()
        width, height = (int(number) for number in re.findall(r'<svg .*?width="(\d+)" height="(\d+)"', part)[0])
        parts.append(f'<text x="10" y="{top + 24}" font-size="14" font-family="sans-serif">{escape(title)}</text>')
        parts.append(part.replace("<svg ", f'<svg x="20" y="{top + 32}" ', 1))
        widest, top = max(widest, width + 30), top + height + 40
    size = f'width="{widest}" height="{top}" viewBox="0 0 {widest} {top}"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    Path(path).write_text(
        "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', background, *parts, "</svg>\n"])
    )
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
