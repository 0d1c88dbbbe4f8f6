"""A graph in text: the drawing and the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfastnn.gates.layout import Place, channels, format_value, layout

if TYPE_CHECKING:
    from pyfastnn.gates.graph import ComputationalGraph


def table(graph: ComputationalGraph, digits: int) -> str:
    """Return a table with a line per wire."""
    rows = [("wire", "gate", "reads", "value", "gradient")]
    for wire in graph.wires.values():
        rows.append(
            (
                wire.name,
                "input" if wire.gate is None else wire.gate.label,
                ", ".join(read.name for read in wire.inputs),
                format_value(wire.value, digits),
                format_value(wire.gradient, digits),
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    aligned = [
        [c.rjust(w) if k > 2 else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))] for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def draw(graph: ComputationalGraph, digits: int) -> str:
    """Return the drawing in text."""
    canvas = _Canvas()
    columns = layout(graph)
    left = 0
    for places, following in zip(columns, [*columns[1:], []], strict=True):
        own = [place for place in places if not place.passing]
        width = max((len(place.label) + (1 if place.wire.gate is None else 4) for place in own), default=0)
        behind = left + width
        texts = [[format_value(v, digits) for v in (place.wire.value, place.wire.gradient)] for place in own]
        bend = behind + 1 + max((len(text) for pair in texts for text in pair), default=0)
        turns = channels(following)
        right = bend + 2 * (1 + max(turns.values(), default=-1)) + 2
        for place, (value, gradient) in zip(own, texts, strict=True):
            _draw_place(canvas, place, left, width)
            canvas.write(place.row - 1, behind, value.rjust(bend - behind))
            canvas.write(place.row + 1, behind, gradient.rjust(bend - behind))
        read = {source.wire.name for place in following for source in place.sources}
        for place in places:
            if place.wire.name not in read:
                canvas.across(place.row, behind, bend)
            elif place.passing:
                canvas.across(place.row, left, behind)
        for place in following:
            for source, port in zip(place.sources, place.ports, strict=True):
                turn = turns.get(source.wire.name)
                if turn is None:
                    canvas.across(port, behind, right)
                else:
                    canvas.turn(source.row, port, behind, bend + 1 + 2 * turn, right)
        left = right
    return canvas.text()


def _draw_place(canvas: _Canvas, place: Place, left: int, width: int) -> None:
    if place.wire.gate is None:
        canvas.write(place.row, left, place.label)
        canvas.across(place.row, left + len(place.label) + 1, left + width)
        return
    top, bottom = place.extent
    for row in (top, bottom):
        canvas.write(row, left, "+" + "-" * (width - 2) + "+")
    for row in range(top + 1, bottom):
        text = place.label if row == place.row else ""
        canvas.write(row, left, "|" + text.center(width - 2) + "|")


class _Canvas:
    """Letters by row and column; wires are kept apart until the end, since a crossing shows as the horizontal one."""

    def __init__(self) -> None:
        self._letters: dict[tuple[int, int], str] = {}
        self._upright: set[tuple[int, int]] = set()
        self._level: set[tuple[int, int]] = set()
        self._corners: set[tuple[int, int]] = set()

    def write(self, row: int, left: int, text: str) -> None:
        """Write letters; spaces leave what is there."""
        self._letters.update({(row, left + k): letter for k, letter in enumerate(text) if letter != " "})

    def across(self, row: int, left: int, right: int) -> None:
        """Draw a wire along a row."""
        self._level.update((row, at) for at in range(left, right))

    def turn(self, source: int, port: int, left: int, turn: int, right: int) -> None:
        """Draw a wire that changes its row at one column."""
        self.across(source, left, turn)
        self.across(port, turn, right)
        self._upright.update((row, turn) for row in range(min(source, port), max(source, port)))
        self._corners.update(((source, turn), (port, turn)))

    def text(self) -> str:
        """Return the lines."""
        letters = {
            **dict.fromkeys(self._upright, "|"),
            **dict.fromkeys(self._level, "-"),
            **dict.fromkeys(self._corners, "+"),
            **self._letters,
        }
        if not letters:
            return ""
        rows = [row for row, _ in letters]
        width = 1 + max(at for _, at in letters)
        lines = [
            "".join(letters.get((row, at), " ") for at in range(width)).rstrip()
            for row in range(min(rows), max(rows) + 1)
        ]
        return "\n".join(lines)
