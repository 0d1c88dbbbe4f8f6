"""Numbers about single training steps, kept as the core wrote them and read as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SUMMARY = ("mean", "std", "min", "max", "dead", "saturated")
"""The first numbers of a summary of activations; after them stand the counts of the histogram."""


@dataclass(frozen=True)
class Records:
    """Some watched steps.

    Attributes
    ----------
    steps, epochs : ndarray of int64, shape (records,)
        Which step it was, counted from 1 over the whole run, and in which epoch.
    losses : ndarray of float64, shape (records,)
        Loss of the batch before the update.
    results : dict of str to ndarray of float64, shape (records, items)
        ``"update(linear_1.w)"``, ``"weight(...)"`` and ``"gradient(...)"``: squared norms; ``"summary(relu_1)"``.
    ops : dict of str to str
        What made the activations of each layer.
    """

    steps: NDArray[np.int64]
    epochs: NDArray[np.int64]
    losses: NDArray[np.float64]
    results: Mapping[str, Array]
    ops: Mapping[str, str]

    def ratios(self, weight: str) -> NDArray[np.float64]:
        """Return the norm of the update over the norm of the weight; NaN where the weight is 0."""
        with np.errstate(all="ignore"):
            found: NDArray[np.float64] = np.sqrt(
                self.results[f"update({weight})"][:, 0] / self.results[f"weight({weight})"][:, 0]
            )
        return np.where(self.results[f"weight({weight})"][:, 0] > 0, found, np.nan)

    def row(self, at: int) -> dict[str, Any]:
        """Return one record as a row of `Statistics`."""
        layers: dict[str, dict[str, Any]] = {}
        for name, result in self.results.items():
            kind, _, layer = name.removesuffix(")").partition("(")
            if kind == "summary":
                found = result[at]
                counts = [int(count) for count in found[len(SUMMARY) :]]
                layers[layer] = {**dict(zip(SUMMARY, found.tolist(), strict=False)), "histogram": counts}
            elif kind == "update":
                layers[layer] = {
                    "update_ratio": float(self.ratios(layer)[at]),
                    "gradient_norm": math.sqrt(self.results[f"gradient({layer})"][at, 0]),
                    "weight_norm": math.sqrt(self.results[f"weight({layer})"][at, 0]),
                }
        loss = float(self.losses[at])
        return {"step": int(self.steps[at]), "epoch": int(self.epochs[at]), "loss": loss, "layers": layers}


class Statistics(Sequence[dict[str, Any]]):
    """Rows of numbers about single training steps; each row is made when it is read.

    A row holds ``step`` (counted from 1), ``epoch``, ``loss`` (of the batch) and ``layers``. A weight (``"linear_1.w"``) has
    ``update_ratio`` (norm of the update over norm of the weight), ``gradient_norm`` and ``weight_norm``; an activation (``"relu_1"``)
    ``mean``, ``std``, ``min``, ``max``, ``dead`` (share of units zero on the whole batch), ``saturated`` (share of items beyond 0.99 of a
    bounded range) and ``histogram`` (counts of 24 bins from min to max).

    Attributes
    ----------
    parts : list of Records
        The numbers themselves.
    """

    def __init__(self, parts: Sequence[Records] = ()) -> None:
        self.parts = list(parts)

    def __len__(self) -> int:
        """Return the number of watched steps."""
        return sum(len(part.steps) for part in self.parts)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return a row, or some."""
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        place = at + len(self) if at < 0 else at
        for part in self.parts if place >= 0 else []:
            if place < len(part.steps):
                return part.row(place)
            place -= len(part.steps)
        raise IndexError(f"row {at} of {len(self)}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Go through the rows."""
        for part in self.parts:
            for at in range(len(part.steps)):
                yield part.row(at)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Statistics({len(self)} watched steps)"

    def last(self, count: int) -> Records | None:
        """Return the last records as one; None if there are fewer, or if the layers changed among them."""
        taken: list[Records] = []
        for part in reversed(self.parts):
            if sum(len(p.steps) for p in taken) >= count:
                break
            if taken and part.results.keys() != taken[0].results.keys():
                return None
            taken.insert(0, part)
        if sum(len(p.steps) for p in taken) < count:
            return None
        return joined(taken, count)


def joined(parts: Sequence[Records], last: int | None = None) -> Records:
    """Return records of the same layers as one, or the last of them."""

    def join(arrays: list[Array]) -> Array:
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return whole if last is None else whole[len(whole) - last :]

    return Records(
        join([p.steps for p in parts]),
        join([p.epochs for p in parts]),
        join([p.losses for p in parts]),
        {name: join([p.results[name] for p in parts]) for name in parts[0].results},
        parts[-1].ops,
    )


def statistics_tensors(statistics: Statistics) -> tuple[dict[str, Array], list[dict[str, str]]]:
    """Return statistics as arrays by name, and for each run of parts with the same layers what made these."""
    runs: list[list[Records]] = []
    for part in statistics.parts:
        same = bool(runs) and (runs[-1][0].results.keys(), runs[-1][0].ops) == (part.results.keys(), part.ops)
        if same:
            runs[-1].append(part)
        else:
            runs.append([part])
    tensors: dict[str, Array] = {}
    for number, run in enumerate(runs):
        whole = joined(run)
        of_run = {"steps": whole.steps, "epochs": whole.epochs, "losses": whole.losses, **whole.results}
        tensors.update({f"{number}/{name}": np.ascontiguousarray(array) for name, array in of_run.items()})
    return tensors, [dict(run[0].ops) for run in runs]


def statistics_of(tensors: Mapping[str, Array], layers: Sequence[Mapping[str, str]]) -> Statistics:
    """Return the statistics that `statistics_tensors` took apart.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.
    KeyError
        If one is missing.
    """
    found = []
    for number, ops in enumerate(layers):
        prefix = f"{number}/"
        arrays = {k[len(prefix) :]: v.copy() for k, v in tensors.items() if k.startswith(prefix)}
        steps, epochs, losses = (arrays.pop(name) for name in ("steps", "epochs", "losses"))
        for name, array in {"epochs": epochs, "losses": losses, **arrays}.items():
            if steps.ndim != 1 or array.shape[:1] != steps.shape or array.ndim != (2 if name in arrays else 1):
                raise ValueError(f"statistics {name!r} have shape {array.shape}, and there are {steps.size} records")
        found.append(Records(steps.astype(np.int64), epochs.astype(np.int64), losses, arrays, dict(ops)))
    return Statistics(found)
