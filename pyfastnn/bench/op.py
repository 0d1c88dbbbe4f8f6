"""Every op of the table at the sizes of its spec, as a call on plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyfastnn import _core
from pyfastnn._names import unknown
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import RATIO_NOTE, Result, geometric_mean, ratio_text, time_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Subject, WrongResult
from pyfastnn.reference import OpSpec, Sample, specs
from pyfastnn.reference.spec import Array, label_of
from pyfastnn.testing import make_call, op_table, rng_of

# Many classes; parameters that fit a cache and that fit none.
_MORE: dict[str, tuple[dict[str, int], ...]] = {
    "softmax_cross_entropy": ({"n": 128, "c": 1000},),
    "momentum_step": ({"size": 100_000}, {"size": 10_000_000}),
    "adam_step": ({"size": 100_000}, {"size": 10_000_000}),
}

PEER_TOLERANCE = 1e-4
"""Error of a peer relative to the largest magnitude of an output: they promise no bound of their own."""


def cases(names: list[str] | None = None, dtype: str = "float32") -> list[Case]:
    """Return one case per op and bench size; ``names`` picks ops.

    Raises
    ------
    ValueError
        If no op has one of the names.
    """
    for wanted in names or ():
        if wanted not in op_table():
            raise ValueError(unknown("op", wanted, op_table()))
    return [{"op": op, "sizes": sizes, "dtype": dtype} for op in names or op_table() for sizes in sizes_of(op)]


def sizes_of(op: str) -> list[dict[str, int]]:
    """Return the sizes an op is timed at: those of its spec, and what else is worth knowing."""
    sizes = list(specs()[op].bench)
    return sizes + [more for more in _MORE.get(op, ()) if more not in sizes]


def name(case: Case) -> str:
    """Return ``relu_forward size32768``."""
    return f"{case['op']} {label_of(**case['sizes'])}"


def sample_of(case: Case) -> tuple[OpSpec, Sample]:
    """Return the spec of a case's op and its arguments, the same in every process."""
    spec = specs()[case["op"]]
    return spec, spec.case(rng_of(name(case)), case["dtype"], **case["sizes"])


def worst(got: Sequence[Array], want: Sequence[Array], allowed: Sequence[Any]) -> float:
    """Return the largest error over what is allowed, over all outputs; infinity if a value is not finite.

    Parameters
    ----------
    got, want : sequence of ndarray
        Outputs, and the right ones in a wider type.
    allowed : sequence of float or ndarray
        Largest absolute errors; where 0, the rounded values must be equal.
    """
    found = 0.0
    for mine, right, limit in zip(got, want, allowed, strict=True):
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return float("inf")
        error = np.abs(mine.astype(right.dtype) - right)
        bound = np.broadcast_to(limit, right.shape)
        exact = (bound == 0) & (mine == right.astype(mine.dtype))
        with np.errstate(all="ignore"):
            ratio = np.where(exact, 0, error / bound)
        found = max(found, float(np.max(ratio, initial=0.0)))
    return found


class Op(Subject):
    """Ours, called from Python with given outputs."""

    def __init__(self, case: Case) -> None:
        self.spec, self.sample = sample_of(case)
        self.dtype = case["dtype"]
        self.call = make_call(case["op"], self.sample, self.dtype)
        # Updates in place drift; every sample starts from the same numbers.
        self.kept = [None if a is None else a.copy() for a in self.call.inputs]

    def check(self) -> dict[str, Any]:
        """Call once and return the error over its bound."""
        self.run(1)
        outputs = [a for a in self.call.outputs if a is not None]
        sample = self.sample
        allowed = self.spec.error_bound(sample.inputs, sample.attrs, sample.hyper, self.dtype)
        return {"excess": worst(outputs, self.spec.evaluate(sample, self.dtype), allowed)}

    def reset(self) -> None:
        """Put back what is updated in place."""
        for array, kept in zip(self.call.inputs, self.kept, strict=True):
            if array is not None and any(array is out for out in self.call.outputs):
                array[...] = kept

    def run(self, calls: int) -> None:
        """Call."""
        call, op, attrs, hyper = _core.call, self.call.op, self.call.attrs, self.call.hyper
        inputs, outputs = tuple(self.call.inputs), tuple(self.call.outputs)
        for _ in range(calls):
            call(op, inputs, outputs, attrs, hyper)


def subject(case: Case, variant: str = "") -> Subject:
    """Make ours."""
    return Op(case)


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check every library's outputs against the reference: ours within the op's bound, a peer's roughly.

    Raises
    ------
    WrongResult
        If one is off.
    """
    for label, answer in answers.items():
        if not answer["excess"] <= 1:
            raise WrongResult(
                f"{name(case)}: the result of {label} is wrong, {answer['excess']:.3g} times the error allowed. Nothing is timed"
            )


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: ours, then the peers with their ratios to ours."""
    labels = [k for k in dict.fromkeys(label for r in results for label in r.times) if k != "ours"]
    header = ["op", "us", "rate"]
    for label in labels:
        header += [f"{label} us", "ratio"]
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", *[""] * (len(header) - 2)])
            continue
        ours = result.times["ours"].median
        cost = specs()[result.case["op"]].cost(np.dtype(result.case["dtype"]).itemsize, **result.case["sizes"])
        products = result.case["op"].startswith(("linear_forward", "linear_dx", "linear_dw", "conv2d"))
        rate = f"{cost.flop / ours * 1e-9:.1f} GF/s" if products else f"{cost.byte / ours * 1e-9:.1f} GB/s"
        row = [result.name, time_text(ours), rate]
        for label in labels:
            peer = result.times.get(label)
            row += [time_text(peer.median), ratio_text(peer)] if peer else ["-", "-"]
        rows.append(row)
    lines = [
        format_table(header, rows),
        "Called from Python by all: the cost of a call is in every time. The same arrays every call.",
    ]
    if labels:
        lines.append(RATIO_NOTE)
    for label in labels:
        ratios = {r.name: r.times[label].ratio for r in results if label in r.times}
        last = min(ratios, key=lambda k: ratios[k])
        lines.append(
            f"Against {label}: geometric mean {geometric_mean(list(ratios.values())):.2f}x, worst {ratios[last]:.2f}x ({last})"
        )
    return "\n".join(lines)
