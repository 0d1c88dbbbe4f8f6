"""What a layer is: parameters it declares, and nodes it adds to a graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

from pyfastnn._names import unknown
from pyfastnn._settings import FixedSettings
from pyfastnn.graph import Builder
from pyfastnn.nn.initializers import Initializer
from pyfastnn.nn.symbolic import Symbol

Shape = tuple[int, ...]

_MISREAD = {
    "float": "floats; make it nn.Input(shape, dtype='int64')",
    "int64": "whole numbers, expected floats; put nn.Embedding(...) between, or make it nn.Input(...) without dtype='int64'",
}


@dataclass(frozen=True)
class Parameter:
    """One array of a layer.

    Attributes
    ----------
    name : str
        Within the layer, such as ``"w"``.
    shape : tuple of int
        Known once the layer's input is.
    init : str or Initializer
        How the first values are drawn.
    learned : bool
        False for state such as running statistics.
    decay : bool
        Whether weight decay applies by default.
    """

    name: str
    shape: Shape
    init: str | Initializer
    learned: bool = True
    decay: bool = False


class Layer(FixedSettings):
    """Base of all layers.

    A layer says what it adds in three methods: `parameters` (arrays it needs for an input shape), `output_shape`, and `forward` (its
    nodes). It holds settings only, which are fixed once it is made; arrays belong to the model.
    """

    kind: ClassVar[str] = ""
    """Name in model files and stem of the layer's name in a model, such as ``"linear"``."""
    reads: ClassVar[tuple[str, ...]] = ("float",)
    """What its inputs may hold: ``"float"``, or ``"int64"`` for whole numbers."""
    _otherwise = "make the model anew with {} and give it the arrays: new.load_state_dict(model.state_dict())"

    def __call__(self, *xs: Symbol) -> Symbol:
        """Apply the layer to values of a network under construction.

        Parameters
        ----------
        *xs : Symbol
            What `nn.Input` or calls of other layers gave; a layer called twice has its arrays once.

        Returns
        -------
        Symbol
            The output, for other layers or `nn.Model`.

        Raises
        ------
        TypeError
            If something else is given, or whole numbers where the layer reads floats, or the other way round.
        ValueError
            If the layer does not fit the shapes.
        """
        for x in xs:
            if not isinstance(x, Symbol):
                raise TypeError(
                    f"{type(self).__name__}: called on {type(x).__name__}, expected nn.Input(...) or the output of another "
                    "layer; a model applies layers to arrays"
                )
        if not xs:
            raise TypeError(
                f"{type(self).__name__}: called on nothing, expected nn.Input(...) or outputs of other layers"
            )
        for x in xs:
            if x.dtype not in self.reads:
                raise TypeError(f"{type(self).__name__}: called on {x!r}, which holds {_MISREAD[x.dtype]}")
        shapes = [x.shape for x in xs]
        try:
            inspect.signature(self.output_shape).bind(*shapes)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}: called on {len(xs)} values, expected one; nn.Concat()(...) or nn.Add()(...) joins them"
            ) from None
        return Symbol(self.output_shape(*shapes), self, xs, dtype=self._gives(*(x.dtype for x in xs)))

    def _gives(self, *dtypes: str) -> str:
        """Return what the output holds, given what the inputs do."""
        return "float"

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row of the output, given that of the input (both without the batch)."""
        return input_shape

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return the arrays the layer needs."""
        return []

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add the layer's nodes and return the name of its output.

        Parameters
        ----------
        builder : Builder
            The graph under construction; ``builder.training`` says which form is wanted.
        name : str
            The layer's name in the model; its arrays are values ``f"{name}.{parameter}"``.
        x : str
            The input value.

        Returns
        -------
        str
            The output value.
        """
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Return the settings as JSON numbers, strings and booleans: what the constructor takes."""
        return {}

    def __repr__(self) -> str:
        """Show the call that makes the layer."""
        args = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({args})"


def one_size(layer: str, example: str, args: tuple[object, ...]) -> int:
    """Return the one positional size of a layer.

    Raises
    ------
    TypeError
        If there are more sizes (shows the right line), or the size is no whole number.
    ValueError
        If the size is under 1.
    """
    if len(args) != 1:
        raise TypeError(
            f"{layer} takes one size and infers the other from the data: write {example}, not "
            f"{layer}({', '.join(map(repr, args))})"
        )
    size = args[0]
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"{layer}: size is {size!r}, expected a whole number")
    size = size.__index__()
    if size < 1:
        raise ValueError(f"{layer}: size is {size}, expected 1 or more")
    return int(size)


def whole(owner: str, name: str, value: object, least: int = 1) -> int:
    """Return ``value`` as an int of ``least`` or more.

    Raises
    ------
    TypeError
        If it is no whole number.
    ValueError
        If it is less.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected a whole number")
    found = int(value.__index__())
    if found < least:
        raise ValueError(f"{owner}: {name!r} is {found}, expected {least} or more")
    return found


def number(owner: str, name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    """Return ``value`` as a float in [low, high), or in (low, high) with ``open_low``.

    Raises
    ------
    TypeError
        If it is no real number.
    ValueError
        If it lies outside.
    """
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "__float__")):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected a number")
    found = float(value)
    if not (low < found < high if open_low else low <= found < high):
        raise ValueError(
            f"{owner}: {name!r} is {found:g}, expected {'above' if open_low else 'from'} {low:g} to under {high:g}"
        )
    return found


def from_config(kinds: dict[str, type[Layer]], kind: str, config: dict[str, Any]) -> Layer:
    """Build a layer from a model file: only known kinds with settings their constructor takes.

    Raises
    ------
    ValueError
        If the kind or a setting is unknown.
    """
    if kind not in kinds:
        raise ValueError(unknown("layer", kind, kinds))
    known = [p for p in inspect.signature(kinds[kind].__init__).parameters if p != "self"]
    settings = dict(config)
    sizes = [settings.pop("out_features")] if "out_features" in settings else []
    for key in settings:
        if key not in known:
            raise ValueError(unknown(f"setting of {kind}", key, known))
    return kinds[kind](*sizes, **settings)
