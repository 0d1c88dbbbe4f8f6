"""Drawings of the teaching graph: text, SVG and table, line by line."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pyfastnn.gates import Add, ComputationalGraph, Exp, Gate, Linear, Max, Multiply, MultiplyConstant, Sigmoid, Square
from pyfastnn.gates.layout import channels, format_scalar, layout
from pyfastnn.testing import rng_of

MAX_EXAMPLE = """\
    3.00
x -------+  +-----+
   -8.00 +--|     | -12.00
            |  *  |--------+
   -4.00 +--|     |   2.00 |
y -------+  +-----+        |  +---+
    6.00                   +--|   | -10.00  +----+ -20.00
                              | + |---------| *2 |-------
    2.00                   +--|   |   2.00  +----+   1.00
z -------+  +-----+        |  +---+
    2.00 +--|     |   2.00 |
            | max |--------+
   -1.00 +--|     |   2.00
w -------+  +-----+
    0.00"""


def max_example() -> ComputationalGraph:
    """Return the lecture's graph of the gates add, max and multiply."""
    g = ComputationalGraph()
    x, y, z, w = g.inputs("x", "y", "z", "w")
    MultiplyConstant(2)(Add()(Multiply()(x, y), Max()(z, w)))
    g.forward(x=3, y=-4, z=2, w=-1)
    g.backward()
    return g


def test_the_lectures_example(capsys):
    g = max_example()
    assert g.draw() == MAX_EXAMPLE
    assert str(g) == MAX_EXAMPLE
    g.print()
    assert capsys.readouterr().out == MAX_EXAMPLE + "\n"


def test_without_values():
    """Before the forward pass the structure is drawn, after it the values."""
    g = ComputationalGraph()
    x, y = g.inputs("x", "y")
    Multiply()(x, y)
    assert (
        g.draw() == "\n".join(["", "x --+  +---+", "    +--|   |", "       | * |-", "    +--|   |", "y --+  +---+"])[1:]
    )
    g.forward(x=1, y=2)
    assert "2.00" in g.draw()
    assert ComputationalGraph().draw() == ""


def test_table():
    assert max_example().table(digits=1).splitlines() == [
        "wire                gate   reads              value  gradient",
        "x                   input                       3.0      -8.0",
        "y                   input                      -4.0       6.0",
        "z                   input                       2.0       2.0",
        "w                   input                      -1.0       0.0",
        "multiply_1          *      x, y               -12.0       2.0",
        "max_1               max    z, w                 2.0       2.0",
        "add_1               +      multiply_1, max_1  -10.0       2.0",
        "multiplyconstant_1  *2     add_1              -20.0       1.0",
    ]


FORK = """\
    3.00      +-----+  9.00
x ---------+--| x^2 |-------+  +---+
   10.00   |  +-----+  1.00 +--|   | 21.00
           |  +-----+          | + |------
    4.00   +--|     | 12.00 +--|   |  1.00
y -------+    |  *  |-------+  +---+
    3.00 +----|     |  1.00
              +-----+"""


def test_a_fork_leaves_from_one_point():
    g = ComputationalGraph()
    x, y = g.inputs("x", "y")
    Add()(Square()(x), Multiply()(x, y))
    g.forward(x=3, y=4)
    g.backward()
    assert g.draw() == FORK


def test_arrays_show_small_vectors_or_shapes():
    g = ComputationalGraph()
    x, w, b = g.inputs("x", "w", "b")
    Linear()(x, w, b)
    g.forward(x=np.ones((2, 3)), w=np.ones((3, 2)), b=[0.5, -0.25])
    drawn = g.draw()
    assert "(2, 3)" in drawn
    assert "[0.50 -0.25]" in drawn
    assert "xw+b" in drawn


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (0.005, "0.01"),
        (0.0049, "4.90e-03"),
        (-1e-9, "-1.00e-09"),
        (123456.789, "123456.79"),
        (1.5e6, "1.50e+06"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers(value, text):
    assert format_scalar(value, 2) == text


def random_graph(seed: int) -> ComputationalGraph:
    """Return a graph of random gates with forks, long wires and gates of three inputs."""

    class Three(Gate):
        symbol, arity = "three", 3

    rng = rng_of("drawing", seed)
    g = ComputationalGraph()
    wires = list(g.inputs(*(f"i{k}" for k in range(int(rng.integers(1, 5))))))
    for _ in range(int(rng.integers(1, 14))):
        gate = [Exp(), Sigmoid(), Add(), Multiply(), Three()][int(rng.integers(0, 5))]
        read = [wires[int(rng.integers(0, len(wires)))] for _ in range(gate.arity)]
        wires.append(gate(*read))
    return g


def covered(place) -> range:
    top, bottom = place.extent
    return range(top, bottom + 1)


@pytest.mark.parametrize("seed", range(60))
def test_layout_keeps_everything_apart(seed):
    """Every wire has a place, reads its inputs from the column before, and no two places of a column share a row."""
    g = random_graph(seed)
    columns = layout(g)
    placed = [p.wire.name for places in columns for p in places if not p.passing]
    assert sorted(placed) == sorted(g.wires)
    for column, places in enumerate(columns):
        for a, b in itertools.pairwise(places):
            assert covered(a)[-1] < covered(b)[0]
        for place in places:
            read = [place.wire] if place.passing else place.wire.inputs
            assert [s.wire for s in place.sources] == list(read)
            assert len(set(place.ports)) == len(place.sources)
            assert all(any(s is p for p in columns[column - 1]) for s in place.sources)


@pytest.mark.parametrize("seed", range(60))
def test_wires_that_turn_in_one_column_do_not_touch(seed):
    for places in layout(random_graph(seed)):
        spans: dict[str, list[int]] = {}
        for place in places:
            for source, port in zip(place.sources, place.ports, strict=True):
                spans.setdefault(source.wire.name, [source.row]).append(port)
        turns = channels(places)
        for a, b in itertools.combinations(turns, 2):
            if turns[a] == turns[b]:
                assert max(spans[a]) + 1 < min(spans[b]) or max(spans[b]) + 1 < min(spans[a])
        assert set(turns) == {name for name, rows in spans.items() if len(set(rows)) > 1}


def test_svg_is_well_formed(tmp_path):
    g = max_example()
    path = tmp_path / "graph.svg"
    text = g.svg(path)
    assert path.read_text() == text == g._repr_svg_()
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    texts = [t.text for t in root.iter(f"{space}text")]
    assert sorted(texts) == sorted(
        ["x", "y", "z", "w", "*", "max", "+", "*2"]
        + ["3.00", "-4.00", "2.00", "-1.00", "-12.00", "2.00", "-10.00", "-20.00"]
        + ["-8.00", "6.00", "2.00", "0.00", "2.00", "2.00", "2.00", "1.00"]
    )
    width, height = float(root.get("width")), float(root.get("height"))
    for t in root.iter(f"{space}text"):
        assert 0 < float(t.get("x")) < width
        assert 0 < float(t.get("y")) < height
    assert ComputationalGraph()._repr_svg_() is None


def test_svg_escapes_names():
    g = ComputationalGraph()
    Exp()(g.input("a<b&c"))
    assert "a&lt;b&amp;c" in g.svg()
    ET.fromstring(g.svg())
