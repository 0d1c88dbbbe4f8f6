"""A graph as SVG: the same places as in text, wires as curves."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pyfastnn.gates.layout import Place, format_value, layout

if TYPE_CHECKING:
    from pyfastnn.gates.graph import ComputationalGraph

_ROW, _LETTER = 13.0, 7.6
"""Height of a row and width of a letter of the font, in pixels."""
_CURVE = 44.0
_FONT = 'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12.5"'
_WIRE, _VALUE, _GRADIENT = "#57606a", "#116329", "#cf222e"


def svg(graph: ComputationalGraph, digits: int) -> str:
    """Return the drawing as one SVG element."""
    columns = layout(graph)
    parts: list[str] = []
    ends: dict[int, float] = {}  # where the wire of a place leaves for the next column, by id
    left, bottom = 10.0, 0.0
    for places in columns:
        own = [place for place in places if not place.passing]
        texts = {
            place.wire.name: [format_value(v, digits) for v in (place.wire.value, place.wire.gradient)] for place in own
        }
        margins = [6.0 if place.wire.gate is None else 20.0 for place in own]
        width = max((len(p.label) * _LETTER + margin for p, margin in zip(own, margins, strict=True)), default=0.0)
        label = 10.0 + _LETTER * max((len(text) for pair in texts.values() for text in pair), default=0)
        for place in places:
            for source, port in zip(place.sources, place.ports, strict=True):
                parts.append(_curve(ends[id(source)], source.row, left, port))
            ends[id(place)] = left + width + label
            parts.append(_line(left if place.passing else left + width, ends[id(place)], place.row))
            bottom = max(bottom, (place.extent[1] + 1.5) * _ROW)
        for place in own:
            parts.append(_gate(place, left, width))
            middle = left + width + label / 2
            for text, row, color in zip(texts[place.wire.name], (-0.35, 1.0), (_VALUE, _GRADIENT), strict=True):
                parts.append(_text(text, middle, place.row + row, color))
        left += width + label + _CURVE
    size = f'width="{left - _CURVE + 10.0:.0f}" height="{bottom:.0f}"'
    body = "\n".join(part for part in parts if part)
    background = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT}>\n{background}\n{body}\n</svg>\n'


def _curve(x0: float, row0: int, x1: float, row1: int) -> str:
    y0, y1, middle = (row0 + 0.5) * _ROW, (row1 + 0.5) * _ROW, (x0 + x1) / 2
    path = f"M{x0:.1f} {y0:.1f} C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="{_WIRE}"/>'


def _line(x0: float, x1: float, row: int) -> str:
    y = (row + 0.5) * _ROW
    return f'<path d="M{x0:.1f} {y:.1f} H{x1:.1f}" fill="none" stroke="{_WIRE}"/>'


def _gate(place: Place, left: float, width: float) -> str:
    label = _text(
        place.label, left + (width - 6.0 if place.wire.gate is None else width) / 2, place.row + 0.33, "black"
    )
    if place.wire.gate is None:
        return label
    top = (place.ports[0] - 0.4) * _ROW
    height = (place.ports[-1] + 1.4) * _ROW - top
    box = f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8"'
    return f'{box} fill="#ddf4ff" stroke="#0969da"/>\n{label}'


def _text(text: str, middle: float, row: float, color: str) -> str:
    """Return a text whose baseline is at the middle of a row when ``row`` is whole."""
    if not text:
        return ""
    y = (row + 0.5) * _ROW
    return f'<text x="{middle:.1f}" y="{y:.1f}" text-anchor="middle" fill="{color}">{escape(text)}</text>'
