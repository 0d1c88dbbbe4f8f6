"""Small curves of a training run as SVG, for notebooks: plain Python, nothing imported that draws.

Colours of text and axes are those of the page, so that dark ones show them too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.train.history import History

Point = tuple[float, float]

PANELS = ("loss", "accuracy")
_CURVES = (("", "training", "#0072B2", ""), ("val_", "validation", "#D55E00", ' stroke-dasharray="5 2"'))
"""Prefix of the column, word, colour and dashes: those of `pyfastnn.report.curves`, and told apart without colours too."""
_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 308.0, 40.0, 166.0
"""Where the axes are; above stands the title, around them the numbers."""
_BINS = 200
"""A longer piece of a curve keeps the lowest and the highest point of each of so many parts: no spike is lost."""
_FONT = 'font-family="sans-serif" font-size="11" fill="currentColor"'


def small_curves(history: History) -> str:
    """Return loss and accuracy over the epochs as SVG elements, one for each that the run has.

    Parameters
    ----------
    history : History
        Of any length. Values that are not finite leave gaps.

    Returns
    -------
    str
        HTML; ``""`` if there is nothing to draw.
    """
    return "".join(_panel(history, name) for name in PANELS)


def _panel(history: History, name: str) -> str:
    """Return one drawing; nothing if the run has neither of its curves."""
    curves = []
    for prefix, word, color, dashes in _CURVES:
        points = [
            (float(row.get("epoch", place)), float(row[prefix + name]))
            for place, row in enumerate(history, start=1)
            if prefix + name in row
        ]
        if points:
            curves.append((points, word, color, dashes))
    if not curves:
        return ""
    values = [v for points, *_ in curves for _, v in points if math.isfinite(v)]
    epochs = [epoch for points, *_ in curves for epoch, _ in points]
    ends = (min(values), max(values)) if values else (0.0, 0.0)
    times = min(epochs), max(epochs)
    said = ", ".join(f"{word} {_number(name, points[-1][1])}" for points, word, *_ in curves)
    label = escape(f"{name} over the epochs, at the end: {said}")
    parts = [f"<title>{label}</title>", _axes(name, ends, times, bool(values))]
    at = 8.0
    for points, word, color, dashes in curves:
        text = f"{word} {_number(name, points[-1][1])}"
        parts.append(_text(at, 31, text, f'fill="{color}"'))
        at += 6.2 * len(text) + 10
        places = [
            None if not math.isfinite(v) else (_between(e, *times, _LEFT, _RIGHT), _between(v, *ends, _BOTTOM, _TOP))
            for e, v in points
        ]
        parts.append(_curve(places, color, dashes))
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {_FONT}>{"".join(parts)}</svg>'


def _axes(name: str, ends: Point, epochs: Point, drawn: bool) -> str:
    """Return title, lines and the numbers at the ends."""
    parts = [_text(8, 15, name, 'font-weight="bold"')]
    for y in (_TOP, _BOTTOM):
        parts.append(f'<path d="M{_LEFT} {y}H{_RIGHT}" stroke="currentColor" stroke-opacity="0.3"/>')
    if not drawn:
        parts.append(_text((_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2, "no finite values", 'text-anchor="middle"'))
    elif ends[0] < ends[1]:
        for y, value in zip((_BOTTOM, _TOP), ends, strict=True):
            parts.append(_text(_LEFT - 5, y + 4, _number(name, value), 'text-anchor="end"'))
    else:
        parts.append(_text(_LEFT - 5, (_TOP + _BOTTOM) / 2 + 4, _number(name, ends[0]), 'text-anchor="end"'))
    parts.append(_text((_LEFT + _RIGHT) / 2, _BOTTOM + 16, "epoch", 'text-anchor="middle"'))
    for x, epoch, anchor in ((_LEFT, epochs[0], "start"), (_RIGHT, epochs[1], "end")):
        if epochs[0] < epochs[1] or anchor == "start":
            parts.append(_text(x, _BOTTOM + 16, f"{epoch:g}", f'text-anchor="{anchor}"'))
    return "".join(parts)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _number(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name == "accuracy" else f"{value:.3g}"


def _between(value: float, low: float, high: float, start: float, end: float) -> float:
    """Return where a value between two others lies on the page: in the middle if they are equal.

    Halves, because the distance of two finite numbers may not be finite.
    """
    span = high / 2 - low / 2
    return start + (end - start) * ((value / 2 - low / 2) / span if span else 0.5)


def _curve(places: Sequence[Point | None], color: str, dashes: str) -> str:
    """Return a line through the places, broken where there is none; a place without neighbours is a dot."""
    gaps = [-1, *(i for i, place in enumerate(places) if place is None), len(places)]
    lines, dots = [], []
    for before, after in pairwise(gaps):
        piece = _thinned([place for place in places[before + 1 : after] if place is not None])
        if len(piece) > 1:
            lines.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece))
        dots += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"/>' for x, y in piece if len(piece) == 1]
    line = f'<path d="{"".join(lines)}" fill="none" stroke="{color}" stroke-width="1.6"{dashes}/>' if lines else ""
    return line + "".join(dots)


def _thinned(piece: Sequence[Point]) -> Sequence[Point]:
    """Return a piece of a curve with few enough points, its ends, lows and highs among them."""
    if len(piece) <= 2 * _BINS:
        return piece
    kept = {0, len(piece) - 1}
    for part in range(_BINS):
        places = range(part * len(piece) // _BINS, (part + 1) * len(piece) // _BINS)
        kept |= {min(places, key=lambda i: piece[i][1]), max(places, key=lambda i: piece[i][1])}
    return [piece[i] for i in sorted(kept)]
