"""What the runs of a search have in common: their score, the parameters that differ, declared ranges, and whether the best is at an end."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pyfastnn.report.runs import Run
from pyfastnn.search.edges import LEAST_TRIALS, beyond
from pyfastnn.search.spaces import Range

SCORES = (("val_accuracy", True), ("accuracy", True), ("val_loss", False), ("loss", False))
"""What runs are compared by: the first that one of them has, and whether more is better."""
WIDE = 30
"""Where nothing is declared, positive numbers that differ by more are shown in log scale."""

_RANGE = re.compile(r"(log_uniform|uniform|integers)\(([^,()]+), ([^,()]+)(, log=True)?\)")


def overview(packed: Sequence[Mapping[str, Any]], spaces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page draws of a search.

    Parameters
    ----------
    packed : sequence of dict
        The runs, as the page has them.
    spaces : sequence of dict
        What each has declared, as text by name.

    Returns
    -------
    dict
        ``score`` and ``higher``; ``scores`` by run; ``best``, its place; ``params``: of each that differs its name, scale and ends, or its
        values and which of them runs have; ``edges``: what is to be said of the ends.
    """
    score, higher = next(((k, h) for k, h in SCORES if any(k in run["last"] for run in packed)), SCORES[0])
    scores = [run["last"].get(score) for run in packed]
    ranked = [(s if higher else -s, -place) for place, s in enumerate(scores) if s is not None]
    best = -max(ranked)[1] if ranked else None
    params, edges = [], []
    for name in dict.fromkeys(name for run in packed for name in run["params"]):
        values = [run["params"].get(name) for run in packed]
        axis = _axis(name, values, [space.get(name) for space in spaces])
        if axis is None:
            continue
        params.append(axis)
        if best is not None and axis.get("declared"):
            edges += _edge(axis, values, [space.get(name) for space in spaces], scores, higher, best)
    return {"score": score, "higher": higher, "scores": scores, "best": best, "params": params, "edges": edges}


def space_of(run: Run) -> dict[str, Any]:
    """Return what the parameters of a run were drawn from, as text by name."""
    found = run.config.get("space")
    return dict(found) if isinstance(found, Mapping) else {}


def declared_range(text: object) -> Range | None:
    """Return the range that a text such as ``"log_uniform(1e-05, 0.1)"`` stands for; None if it is none."""
    found = _RANGE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    kind, low, high, log = found.groups()
    try:
        ends = float(low), float(high)
    except ValueError:
        return None
    logarithmic = kind == "log_uniform" or log is not None
    if not (ends[0] < ends[1] and all(map(math.isfinite, ends))) or (logarithmic and ends[0] <= 0):
        return None
    if kind == "integers":
        return Range(int(ends[0]), int(ends[1]), log=logarithmic, whole=True)
    return Range(*ends, log=logarithmic)


def _axis(name: str, values: Sequence[Any], texts: Sequence[Any]) -> dict[str, Any] | None:
    """Return the axis of a parameter; None if it is the same in all runs."""
    known = [value for value in values if value is not None]
    ranges = [r for text in texts if (r := declared_range(text)) is not None]
    numbers = [float(value) for value in known if _is_number(value)]
    chosen = any(isinstance(text, str) and text.startswith("choice(") for text in texts)
    if len(numbers) < len(known) or not numbers or chosen:
        names = list(dict.fromkeys(map(_shown, sorted(known) if len(numbers) == len(known) else known)))
        at = [None if value is None else names.index(_shown(value)) for value in values]
        return {"name": name, "values": names, "at": at} if len(names) > 1 else None
    if min(numbers) == max(numbers) and not ranges:
        return None
    if ranges:
        low, high, log = min(r.low for r in ranges), max(r.high for r in ranges), all(r.log for r in ranges)
    else:
        low, high = min(numbers), max(numbers)
        log = low > 0 and high > WIDE * low
    return {"name": name, "low": low, "high": high, "log": log and low > 0, "declared": bool(ranges)}


def _edge(
    axis: Mapping[str, Any],
    values: Sequence[Any],
    texts: Sequence[Any],
    scores: Sequence[float | None],
    higher: bool,
    best: int,
) -> list[str]:
    """Say whether the best seems to lie beyond an end, judged by the runs that were drawn from the same range as the last."""
    last = next(text for text in reversed(texts) if declared_range(text) is not None)
    part = declared_range(last)
    assert part is not None
    seen: list[tuple[float, float]] = []
    for value, text, score in zip(values, texts, scores, strict=True):
        if text == last and score is not None and _is_number(value) and (value > 0 or not part.log):
            seen.append((part.position(value), score if higher else -score))
    edge = beyond([u for u, _ in seen], [s for _, s in seen]) if len(seen) >= LEAST_TRIALS else ""
    end = part.high if edge == "upper" else part.low
    if not edge or end != axis["high" if edge == "upper" else "low"] or not _is_number(values[best]):
        return []
    wider = part.widened(edge == "upper")
    if wider == part:
        return []
    return [f"best {axis['name']} {float(values[best]):.3g} lies at the {edge} edge {end:g}: widen it to {wider}"]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    return f"{value:g}" if _is_number(value) else str(value).lower() if isinstance(value, bool) else str(value)
