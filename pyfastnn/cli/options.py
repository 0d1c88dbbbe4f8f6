"""Reading options: a parser that raises instead of exiting, and the types of the values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from pyfastnn._names import nearest, unknown


class CommandError(Exception):
    """Raised for bad input; its message is the one line the user sees."""


class Parser(argparse.ArgumentParser):
    """An argument parser that answers misspelled options with the nearest one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise what `argparse` would exit with."""
        raise CommandError(message)

    def read(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """Return the options, or None when help was printed.

        Raises
        ------
        CommandError
            If an option or value is unknown, missing or out of range.
        """
        known = [o for action in self._actions for o in action.option_strings]
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                break
            if name.startswith("--") and name not in known:
                best = nearest(name, known)
                hint = f", did you mean {best}?" if best else f"; {self.prog} --help lists the options"
                raise CommandError(f"unknown option {name}{hint}")
        try:
            options, extra = self.parse_known_args(arguments)
        except SystemExit:
            return None
        if extra:
            raise CommandError(f"unexpected argument {extra[0]!r}; {self.prog} --help shows what can be given")
        return options


def several(kind: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Return the type of an option that takes some names, separated by commas."""
    one = choice(kind, known)

    def read(text: str) -> tuple[str, ...]:
        return tuple(one(name.strip()) for name in text.split(",") if name.strip())

    return read


def choice(kind: str, known: Collection[str]) -> Callable[[str], str]:
    """Return the type of an option that takes one of some names."""

    def read(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(unknown(kind, text, known))
        return text

    return read


def whole(low: int, high: int = 2**53 - 1) -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from ``low`` to ``high``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            limit = f"from {low} to {high}" if high < 2**53 - 1 else f"of {low} or more"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {limit}")
        return value

    return read


def real(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Callable[[str], float]:
    """Return the type of an option that takes a number between two bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value if open_low else low <= value) or not (value < high if open_high else value <= high):
            above = f"above {low:g}" if open_low else f"from {low:g}"
            below = "" if high == math.inf else f" to below {high:g}" if open_high else f" to {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is no number {above}{below}")
        if math.isinf(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not finite")
        return value

    return read


def sizes(text: str) -> tuple[int, ...]:
    """Read the widths of the hidden layers: ``256,128``; ``0`` or an empty text is none."""
    if text.strip() in ("", "0"):
        return ()
    read = []
    for part in text.split(","):
        if not part.strip().isdecimal() or not 0 < int(part) < 2**31:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no list of layer widths such as 256,128 ({part.strip()!r} is no width)"
            )
        read.append(int(part))
    return tuple(read)


def held_out(text: str) -> int | float:
    """Read a number of rows (``1000``) or a share of them (``0.2``)."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of rows nor a share of them from 0 to below 1")
    return value
