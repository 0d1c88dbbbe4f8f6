"""What the page of a report draws: runs packed so that hundreds of them make a small file.

A curve is an array of 16-bit codes: its least and largest value are kept exactly, what lies between to a 65534th of the range, of the
logarithms where all values are above 0 and it is a loss; that is far below a pixel. A longer curve than the page has pixels keeps the least
and the largest value of every column of pixels, in the order in which they came: the same ink.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.diagnose.statistics import SUMMARY
from pyfastnn.report.runs import Run

Floats = NDArray[np.float64]

CURVES = ("loss", "val_loss", "accuracy", "val_accuracy")
POINTS, FEWEST_POINTS = 1024, 64
"""Points of a curve: two for each column of pixels."""
ALL_POINTS = 200 * POINTS
STRIP_BYTES = 1_100_000
"""Of the histograms of all runs."""
STRIP_COLUMNS, FEWEST_COLUMNS = 128, 8
MISSING = 65535
RATIO_DECADES = (-6.0, 0.0)
"""Logarithms of the update ratios that the codes 1 and 255 stand for."""
WANTED_RATIO = -3.0


def packed(run: Run, name: str, runs: int) -> dict[str, Any]:
    """Return a run as the page reads it.

    Parameters
    ----------
    run : Run
        As it was read.
    name : str
        What the page calls it.
    runs : int
        How many there are on the page: of many, each has fewer points.

    Returns
    -------
    dict
        JSON has all of it.
    """
    fit = _mapping(run.config.get("fit"))
    optimizer = _mapping(run.config.get("optimizer"))
    points = int(min(POINTS, max(FEWEST_POINTS, ALL_POINTS // max(runs, 1)))) & ~1
    steps = _finite(fit.get("steps_per_epoch"))
    last = run.rows[-1] if run.rows else {}
    return {
        "name": name,
        "status": run.status,
        "error": run.error,
        "begun": str(run.config.get("begun", "")),
        "epochs": len(run.rows),
        "planned": (_finite(fit.get("after_epoch")) or 0) + (_finite(fit.get("epochs")) or 0),
        "seconds": math.fsum(s for row in run.rows if (s := _finite(row.get("seconds"))) is not None),
        "last": {key: _finite(value) for key, value in last.items()},
        "curves": {key: c for key in CURVES if (c := curve(run, key, points)) is not None},
        "params": {str(k): _plain(v) for k, v in settings(run).items()},
        "network": _network(run.config.get("model")),
        "optimizer": str(optimizer.get("kind", "")),
        "seed": run.config.get("seed"),
        "verdicts": [
            {"text": str(verdict), "kind": verdict.kind, "epoch": verdict.step / steps if steps else None}
            for verdict in run.verdicts
        ],
        **strips(run.statistics, steps or math.nan, STRIP_BYTES // max(runs, 1)),
    }


def settings(run: Run) -> dict[str, Any]:
    """Return what tells a run from others: the parameters of its trial, or else the numbers of its optimizer."""
    if run.params:
        return run.params
    optimizer, fit = _mapping(run.config.get("optimizer")), _mapping(run.config.get("fit"))
    found: dict[str, Any] = {}
    rate = optimizer.get("learning_rate")
    if isinstance(rate, (int, float)):
        found["learning_rate"] = rate
    elif run.rows and (first := _finite(run.rows[0].get("learning_rate"))) is not None:
        found["learning_rate"] = first  # of a schedule, as the first epoch ended
    for key in ("weight_decay", "momentum"):
        if isinstance(optimizer.get(key), (int, float)):
            found[key] = optimizer[key]
    if isinstance(fit.get("batch_size"), int):
        found["batch_size"] = fit["batch_size"]
    return found


def curve(run: Run, key: str, points: int) -> dict[str, Any] | None:
    """Return a column of the rows as codes; None if it has no number."""
    values: Floats = np.array([_number(row.get(key)) for row in run.rows], np.float64)
    known = values[np.isfinite(values)]
    if known.size == 0:
        return None
    low, high = float(known.min()), float(known.max())
    log = key.endswith("loss") and low > 0
    shown = values if len(values) <= points else extremes(values, points // 2)
    return {
        "low": low,
        "high": high,
        "first": float(known[0]),
        "log": log,
        "rows": len(values),
        "codes": _base64(codes(shown, low, high, log)),
    }


def extremes(values: Floats, columns: int) -> Floats:
    """Return the least and the largest of the numbers of each column, in the order in which they come.

    Parameters
    ----------
    values : ndarray, shape (n,)
        At least as many as columns; NaN is left out.
    columns : int
        Row ``i`` belongs to column ``i * columns // n``.

    Returns
    -------
    ndarray, shape (2 * columns,)
        NaN twice for a column of nothing else.
    """
    found = np.full(2 * columns, np.nan)
    ends = -(-np.arange(columns + 1) * len(values) // columns)
    for column in range(columns):
        part = values[ends[column] : ends[column + 1]]
        known = np.flatnonzero(~np.isnan(part))
        if known.size:
            least, most = known[part[known].argmin()], known[part[known].argmax()]
            found[2 * column : 2 * column + 2] = part[[min(least, most), max(least, most)]]
    return found


def codes(values: Floats, low: float, high: float, log: bool) -> NDArray[np.uint16]:
    """Return numbers as places between two ends, from 0 to 65534; 65535 is none."""
    if log:
        values, low, high = np.log(np.where(values > 0, values, np.nan)), math.log(low), math.log(high)
    width = high / 2 - low / 2  # halved: the difference of two numbers may be no number
    place = (values / 2 - low / 2) / width if width > 0 else np.where(np.isnan(values), np.nan, 0.0)
    known = np.isfinite(place)
    found = np.full(values.shape, MISSING, np.uint16)
    found[known] = np.rint(np.clip(place[known], 0, 1) * (MISSING - 1)).astype(np.uint16)
    return found


def strips(statistics: Sequence[Mapping[str, Any]], steps: float, budget: int) -> dict[str, Any]:
    """Return what the layers of a run did over time: update ratios of weights, and histograms of activations.

    Parameters
    ----------
    statistics : sequence of dict
        Rows as `Run.statistics` has them.
    steps : float
        Steps of an epoch.
    budget : int
        Bytes for the histograms; of a run with many layers fewer steps are shown, evenly spread.

    Returns
    -------
    dict
        ``ratios``: a byte for each column, 0 for none, else the logarithm; of the steps of a column the one farthest from the wanted ratio.
        ``histograms``: for each column the ends of the histogram (16 bits each), and its bins as parts of the largest (a byte each).
        ``span``: epochs of the first and the last step.
    """
    rows = [row for row in statistics if isinstance(row.get("layers"), Mapping)]
    weights, activations = _names(rows, "update_ratio"), _names(rows, "histogram")
    if not rows or not (weights or activations):
        return {"ratios": [], "histograms": [], "span": None}
    columns = budget // max(28 * len(activations), 1)
    columns = min(len(rows), max(FEWEST_COLUMNS, min(STRIP_COLUMNS, columns)))
    chosen = [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, columns).round().astype(int))]
    first, last = (_number(rows[k].get("step")) / steps for k in (0, -1))
    return {
        "ratios": [_ratio_strip(rows, name) for name in weights],
        "histograms": [found for name in activations if (found := _histogram_strip(chosen, name)) is not None],
        "span": [_float(first), _float(last)],
    }


def _ratio_strip(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    ratios: Floats = np.array([_number(_layer(row, name).get("update_ratio")) for row in rows], np.float64)
    with np.errstate(all="ignore"):
        decades = np.maximum(np.log10(np.where(ratios >= 0, ratios, np.nan)), RATIO_DECADES[0])  # also of updates of 0
    columns = min(len(rows), STRIP_COLUMNS)
    ends = -(-np.arange(columns + 1) * len(rows) // columns)
    shown = np.zeros(columns, np.uint8)
    low, high = RATIO_DECADES
    for column in range(columns):
        part = decades[ends[column] : ends[column + 1]]
        part = part[np.isfinite(part)]
        if part.size:
            worst = float(part[np.abs(part - WANTED_RATIO).argmax()])
            shown[column] = 1 + round(254 * (min(max(worst, low), high) - low) / (high - low))
    known = ratios[np.isfinite(ratios)]
    return {"name": name, "codes": _base64(shown), "last": float(known[-1]) if known.size else None}


def _histogram_strip(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    layers = [_layer(row, name) for row in rows]
    histograms = [_counts(layer) for layer in layers]
    bins = max(counts.size for counts in histograms)
    ends = np.array([[_number(layer.get("min")), _number(layer.get("max"))] for layer in layers], np.float64)
    known = np.isfinite(ends[:, 0]) & np.isfinite(ends[:, 1])
    if not known.any() or not bins:
        return None
    # A step that explodes must not press all others flat.
    least, most = np.quantile(ends[known, 0], 0.05), np.quantile(ends[known, 1], 0.95)
    width = max(most - least, 1e-12 * max(abs(most), abs(least), 1e-300))
    low, high = max(ends[known, 0].min(), least - width), min(ends[known, 1].max(), most + width)
    if not high > low:
        low, high = low - width, high + width
    heights = np.zeros((len(rows), bins), np.uint8)
    for place, counts in enumerate(histograms):
        if known[place] and counts.size == bins and np.isfinite(counts).all() and counts.max() > 0:
            heights[place] = np.ceil(255 * np.clip(counts / counts.max(), 0, 1)).astype(np.uint8)
    summary = {key: _finite(layers[-1].get(key)) for key in SUMMARY}
    return {
        "name": name,
        "low": float(low),
        "high": float(high),
        "bins": bins,
        "ends": _base64(codes(np.clip(ends, low, high).ravel(), float(low), float(high), False)),
        "heights": _base64(heights),
        **{key: summary[key] for key in ("mean", "std", "dead", "saturated")},
    }


def _names(rows: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Return the layers that have a number, in the order in which they come."""
    found: dict[str, None] = {}
    for row in (rows[0], rows[-1]) if rows else ():
        found.update(dict.fromkeys(str(name) for name, layer in row["layers"].items() if key in _mapping(layer)))
    return list(found)


def _layer(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _mapping(row["layers"].get(name))


def _counts(layer: Mapping[str, Any]) -> Floats:
    found = layer.get("histogram")
    return np.array(found if isinstance(found, list) else [], np.float64)


def _network(model: Any) -> dict[str, Any]:
    """Return the calls that make the layers, and how many numbers are learned."""
    rows: Iterable[Any] = model if isinstance(model, list) else ()
    known = [row for row in rows if isinstance(row, Mapping)]
    return {
        "layers": [str(row.get("settings", "")) for row in known],
        "parameters": sum(int(_finite(row.get("parameters")) or 0) for row in known),
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    """Return a number, NaN for what is none."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _finite(value: Any) -> float | int | None:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Return a parameter as the page draws it; a whole number that no float holds as its text."""
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return str(value)
    return value if isinstance(value, (bool, int, str)) else _float(value)


def _float(value: Any) -> Any:
    """Return a number or a text that JSON has."""
    if isinstance(value, float):
        return _finite(value)
    return None if value is None else str(value)


def _base64(array: NDArray[Any]) -> str:
    """Return the bytes of an array, the lower ones first, as text."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
