"""Networks as values: `Input`, and what calling a layer on values gives. A model is made from them.

x = nn.Input((32, 32, 3))
h = nn.ReLU()(nn.Conv2d(16, 3, padding="same")(x))
model = nn.Model(x, nn.Linear(10)(nn.Flatten()(h)))
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.nn.layer import Layer

Shape = tuple[int, ...]

DTYPES = ("float", "int64")


@dataclass(frozen=True, eq=False)
class Symbol:
    """A value of a network under construction.

    Attributes
    ----------
    shape : tuple of int
        Of one row.
    layer : Layer or None
        What computes it; None for an input.
    sources : tuple of Symbol
        The values the layer was called on.
    name : str
        Of an input, or empty.
    dtype : str
        ``"float"``, or ``"int64"`` for whole numbers that an `Embedding` looks up.
    """

    shape: Shape
    layer: Layer | None = None
    sources: tuple[Symbol, ...] = ()
    name: str = ""
    dtype: str = "float"

    def __repr__(self) -> str:
        """Show shape and origin."""
        origin = f"Input {self.name!r}" if self.layer is None else repr(self.layer)
        return f"<rows of shape {self.shape} from {origin}>"


def Input(shape: Sequence[int] | int, *, name: str = "", dtype: str = "float") -> Symbol:
    """Return an input of a network.

    Parameters
    ----------
    shape : tuple of int or int
        Shape of one row: ``(784,)``, ``(32, 32, 3)`` (images are height, width, channels), ``()`` for one whole number a row.
    name : str, optional
        Key of its rows in ``fit({"num": X1, "cat": X2}, ...)``; needed if a model has several inputs.
    dtype : {"float", "int64"}, default "float"
        ``"int64"`` for whole numbers, as `Embedding` takes them.

    Returns
    -------
    Symbol
        Call layers on it.

    Raises
    ------
    TypeError, ValueError
        If a size is no whole number of 1 or more, or the dtype unknown.
    """
    sizes = (operator.index(shape),) if hasattr(shape, "__index__") else tuple(map(operator.index, shape))
    if any(size < 1 for size in sizes) or (not sizes and dtype == "float"):
        raise ValueError(f"Input: 'shape' is {sizes}, expected sizes of 1 or more, such as (784,)")
    if dtype not in DTYPES:
        raise ValueError(f"Input: 'dtype' is {dtype!r}, expected 'float' or 'int64'")
    if "." in name or "/" in name or ":" in name:
        raise ValueError(f"Input: 'name' is {name!r}, expected one without '.', '/' and ':'")
    return Symbol(sizes, None, (), name, dtype)


@dataclass(frozen=True)
class Call:
    """One call of a layer within a model.

    Attributes
    ----------
    layer : str
        Name of the layer; one that is called twice has its arrays once.
    sources : tuple of int
        Numbers of values: the inputs of the model first, then the result of each call in order.
    """

    layer: str
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """Layers by name, the order in which they are called, and which values go in and come out.

    Attributes
    ----------
    layers : dict of str to Layer
        By name, counted per kind: ``linear_1``, ``relu_1``, ``linear_2``.
    calls : tuple of Call
        Each call reads only values before it.
    inputs : dict of str to Symbol
        By name, in order; the values 0, 1, ...
    outputs : dict of str to int
        Name to number of the value.
    """

    layers: dict[str, Layer]
    calls: tuple[Call, ...]
    inputs: dict[str, Symbol]
    outputs: dict[str, int]


def chain(layers: Sequence[Layer]) -> Network:
    """Return layers one behind the other; the shape of the input is not known yet."""
    named: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        named[_next_name(layer, counts)] = layer
    calls = tuple(Call(name, (i,)) for i, name in enumerate(named))
    return Network(named, calls, {"X": Symbol((), name="X")}, {"y": len(calls)})


def trace(inputs: Mapping[str, Symbol], outputs: Mapping[str, Symbol]) -> Network:
    """Return the network between inputs and outputs: every layer once, each value behind those it reads.

    Raises
    ------
    ValueError
        If an output depends on an input that is not given, or not on any.
    """
    numbers: dict[int, int] = {id(symbol): i for i, symbol in enumerate(inputs.values())}
    names: dict[int, str] = {}
    layers: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    calls: list[Call] = []
    waiting = list(reversed(list(outputs.values())))
    while waiting:
        symbol = waiting[-1]
        if id(symbol) in numbers:
            waiting.pop()
            continue
        layer = symbol.layer
        if layer is None:
            raise ValueError(f"Model: an output depends on {symbol!r}, which is not among the inputs")
        missing = [s for s in symbol.sources if id(s) not in numbers]
        if missing:
            waiting.extend(reversed(missing))
            continue
        waiting.pop()
        if id(layer) not in names:
            names[id(layer)] = _next_name(layer, counts)
            layers[names[id(layer)]] = layer
        numbers[id(symbol)] = len(inputs) + len(calls)
        calls.append(Call(names[id(layer)], tuple(numbers[id(s)] for s in symbol.sources)))
    used = {source for call in calls for source in call.sources}
    for number, name in enumerate(inputs):
        if number not in used:
            raise ValueError(f"Model: no output depends on the input {name!r}")
    return Network(layers, tuple(calls), dict(inputs), {k: numbers[id(s)] for k, s in outputs.items()})


def _next_name(layer: Layer, counts: dict[str, int]) -> str:
    counts[layer.kind] = counts.get(layer.kind, 0) + 1
    return f"{layer.kind}_{counts[layer.kind]}"
