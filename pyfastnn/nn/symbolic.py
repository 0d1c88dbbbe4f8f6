"""Networks as values: `Input`, and what calling a layer on values gives. A model is made from them.

x = nn.Input((32, 32, 3))
h = nn.ReLU()(nn.Conv2d(16, 3, padding="same")(x))
model = nn.Model(x, nn.Linear(10)(nn.Flatten()(h)))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    if dtype not in DTYPES:
        raise ValueError(f"Input: 'dtype' is {dtype!r}, expected 'float' or 'int64'")
    if not isinstance(name, str):
        raise TypeError(f"Input: 'name' is {name!r}, expected a string")
    if "." in name or "/" in name or ":" in name:
        raise ValueError(f"Input: 'name' is {name!r}, expected one without '.', '/' and ':'")
    return Symbol(row_shape("Input", "shape", shape, empty=dtype == "int64"), None, (), name, dtype)


def row_shape(owner: str, name: str, given: Any, *, empty: bool = False) -> Shape:
    """Return the shape of one row from its sizes, or from a single one.

    Raises
    ------
    TypeError
        If a size is no whole number.
    ValueError
        If a size is under 1, or there is none unless ``empty`` allows it.
    """
    listed = hasattr(given, "__iter__") and not isinstance(given, (str, bytes, Mapping))
    sizes = tuple(given) if listed else (given,)
    if not all(hasattr(size, "__index__") and not isinstance(size, bool) for size in sizes):
        raise TypeError(f"{owner}: {name!r} is {given!r}, expected whole numbers, such as (784,)")
    shape = tuple(size.__index__() for size in sizes)
    if (not shape and not empty) or any(size < 1 for size in shape):
        raise ValueError(f"{owner}: {name!r} is {shape}, expected sizes of 1 or more, such as (784,)")
    return shape


def _symbols(value: Any, what: str) -> list[Symbol]:
    given = value.values() if isinstance(value, Mapping) else value
    found = list(given) if isinstance(given, Iterable) else [given]
    for symbol in found:
        if not isinstance(symbol, Symbol):
            raise TypeError(f"Model: {what!r} holds {symbol!r}, expected what nn.Input or the call of a layer gave")
    if not found:
        raise ValueError(f"Model: {what!r} is empty")
    return found


def named_inputs(inputs: Any) -> dict[str, Symbol]:
    """Return the inputs of a model by name; the only one of no name is ``"X"``.

    Raises
    ------
    TypeError, ValueError
        If something else than what `Input` gave is among them, or names are missing or the same.
    """
    symbols = _symbols(inputs, "inputs")
    for symbol in symbols:
        if symbol.layer is not None:
            raise ValueError(f"Model: 'inputs' holds {symbol!r}, expected nn.Input(...)")
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if len(symbols) == 1:
        return {symbols[0].name or "X": symbols[0]}
    for symbol in symbols:
        if not symbol.name:
            raise ValueError(f"Model: {symbol!r} has no name; several inputs need nn.Input(..., name='...') or a dict")
    named = {symbol.name: symbol for symbol in symbols}
    if len(named) < len(symbols):
        raise ValueError(f"Model: two inputs are named alike: {', '.join(symbol.name for symbol in symbols)}")
    return named


def named_outputs(outputs: Any) -> dict[str, Symbol]:
    """Return the outputs of a model by name, or by number until their layers have names; the only one is ``"y"``.

    Raises
    ------
    TypeError, ValueError
        If something else than values of a network is among them, or there is none.
    """
    symbols = _symbols(outputs, "outputs")
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return {"y": symbols[0]} if len(symbols) == 1 else {str(i): symbol for i, symbol in enumerate(symbols)}


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
    """Return layers one after the other; the shape of the input is not known yet."""
    named: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        named[_next_name(layer, counts)] = layer
    calls = tuple(Call(name, (i,)) for i, name in enumerate(named))
    return Network(named, calls, {"X": Symbol((), name="X")}, {"y": len(calls)})


def trace(inputs: Mapping[str, Symbol], outputs: Mapping[str, Symbol]) -> Network:
    """Return the network between inputs and outputs: every layer once, each value after those it reads.

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
