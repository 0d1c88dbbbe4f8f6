"""The op table as Python reads it back from the compiled core, and its one shape rule."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pyfastnn._names import unknown

Dim = int | str


@dataclass(frozen=True)
class Arg:
    """One argument of an op.

    Attributes
    ----------
    name : str
        As in the table.
    dtype : str
        ``"T"`` (the float type of the call), ``"f64"``, ``"i64"``, ``"u8"`` or ``"any"``.
    dims : tuple of str
        Letters that must agree, numbers, ``"*"`` for any number of dimensions, or arithmetic over letters and attributes.
    optional : bool
        Whether an input may be left out.
    rules : tuple of tuple
        For each of ``dims`` its arithmetic in postfix order (whole numbers, letters, ``"@attribute"``, ``+ - * /``); empty where it is
        none.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    optional: bool = False
    rules: tuple[tuple[int | str, ...], ...] = ()


@dataclass(frozen=True)
class OpSchema:
    """One line of the op table.

    Attributes
    ----------
    name : str
        Such as ``"linear_forward"``.
    inputs, outputs : tuple of Arg
        An output named like an input is updated in place.
    attrs : dict of str to float
        Defaults, in table order.
    hyper : tuple of str
        The hyper fields the op reads.
    inplace : bool
        Whether the first output may be the memory of the first input.
    """

    name: str
    inputs: tuple[Arg, ...]
    outputs: tuple[Arg, ...]
    attrs: dict[str, float]
    hyper: tuple[str, ...]
    inplace: bool


@lru_cache(maxsize=1)
def schemas() -> dict[str, OpSchema]:
    """Return every line of the table by name."""
    from pyfastnn import _core

    found = {}
    for row in _core.op_schemas():
        inputs, outputs = (
            tuple(
                Arg(a["name"], a["dtype"], tuple(a["dims"]), a.get("optional", False), tuple(map(tuple, a["rules"])))
                for a in row[side]
            )
            for side in ("inputs", "outputs")
        )
        found[row["name"]] = OpSchema(
            row["name"], inputs, outputs, dict(row["attrs"]), tuple(row["hyper"]), row["inplace"]
        )
    return found


def schema(op: str) -> OpSchema:
    """Return one line of the table.

    Raises
    ------
    ValueError
        If no op has that name.
    """
    try:
        return schemas()[op]
    except KeyError:
        raise ValueError(unknown("op", op, schemas())) from None


def output_shapes(
    op: OpSchema, inputs: Sequence[tuple[Dim, ...] | None], attrs: Mapping[str, float] | None = None
) -> list[tuple[Dim, ...]]:
    """Return the shapes of the outputs, unifying the dimension letters over the inputs.

    Parameters
    ----------
    op : OpSchema
        The op.
    inputs : sequence of tuple or None
        One shape per input, None where an optional one is left out. Dimensions are numbers or symbols, and are equal
        only to themselves.
    attrs : mapping of str to float, optional
        Attributes that differ from the defaults.

    Returns
    -------
    list of tuple
        One shape per output.

    Raises
    ------
    ValueError
        If an input does not fit; the message names it.
    """
    letters: dict[str, Dim] = {}
    star: tuple[Dim, ...] | None = None
    computed: list[tuple[Arg, tuple[Dim, ...], int]] = []
    for arg, shape in zip(op.inputs, inputs, strict=True):
        if shape is None:
            continue
        width = len(shape) - len(arg.dims) + 1 if "*" in arg.dims else 0
        if width < 0 or ("*" not in arg.dims and len(shape) != len(arg.dims)):
            raise ValueError(f"{op.name}: {arg.name!r} has shape {shape}, expected {arg.dims}")
        at = 0
        for position, dim in enumerate(arg.dims):
            if dim == "*":
                part = shape[at : at + width]
                star = part if star is None else star
                fits, at = part == star, at + width
            elif arg.rules and arg.rules[position]:
                computed.append((arg, shape, at))
                fits, at = True, at + 1
            else:
                wanted = int(dim) if dim.isdigit() else letters.setdefault(dim, shape[at])
                fits, at = shape[at] == wanted, at + 1
            if not fits:
                raise ValueError(
                    f"{op.name}: {arg.name!r} has shape {shape}, which does not fit the arguments before it"
                )
    numbers = {**op.attrs, **(attrs or {})}
    for arg, shape, at in computed:
        position = at if "*" not in arg.dims[: at + 1] else at - len(shape) + len(arg.dims)
        found = _evaluate(op, arg.rules[position], letters, numbers)
        if found != shape[at]:
            raise ValueError(
                f"{op.name}: {arg.name!r} has shape {shape}, expected {found} ({arg.dims[position]}) in place of {shape[at]}"
            )
    out = []
    for arg in op.outputs:
        dims: list[Dim] = []
        for position, dim in enumerate(arg.dims):
            if dim == "*":
                dims.extend(star or ())
            elif arg.rules and arg.rules[position]:
                dims.append(_evaluate(op, arg.rules[position], letters, numbers))
                if dims[-1] < 0:  # type: ignore[operator]
                    raise ValueError(f"{op.name}: {arg.name!r} would have a dimension of {dims[-1]} ({dim})")
            else:
                dims.append(int(dim) if dim.isdigit() else letters[dim])
        out.append(tuple(dims))
    return out


_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


def _evaluate(op: OpSchema, rule: Sequence[int | str], letters: Mapping[str, Dim], attrs: Mapping[str, float]) -> int:
    """Return the value of a dimension's arithmetic."""
    stack: list[int] = []
    for token in rule:
        if isinstance(token, int):
            stack.append(token)
        elif token in _ARITHMETIC:
            b, a = stack.pop(), stack.pop()
            if token == "/" and b <= 0:
                raise ValueError(f"{op.name}: a dimension is divided by {b}")
            stack.append(_ARITHMETIC[token](a, b))
        elif token.startswith("@"):
            stack.append(int(attrs[token[1:]]))
        else:
            value = letters.get(token)
            if not isinstance(value, int):
                raise ValueError(f"{op.name}: dimension {token!r} is {value!r}, expected a number known beforehand")
            stack.append(value)
    return stack[0]
