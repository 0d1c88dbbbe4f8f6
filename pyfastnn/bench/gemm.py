"""Matrix products of the three kinds training needs, C-contiguous and written into a given array.

``NN`` is ``a @ b`` (linear_forward), ``NT`` is ``a @ b.T`` (linear_dx), ``TN`` is ``a.T @ b`` (linear_dw).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import RATIO_NOTE, Result, geometric_mean, ratio_text, time_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Subject, WrongResult

# Inputs and outputs of the nets of the training tasks and of nets like them, forward and both gradients; then squares.
_FORWARD = ((100, 3072, 50), (100, 50, 10), (128, 784, 256), (128, 256, 128), (64, 3072, 1024))
_PRODUCTS = [product for n, i, o in _FORWARD for product in (("NN", n, i, o), ("NT", n, o, i), ("TN", i, n, o))]
_PRODUCTS += [("NN", 1000, 500, 500), ("NT", 1000, 500, 500), ("TN", 500, 1000, 500)]
_PRODUCTS += [("NN", 256, 1024, 1024), ("NT", 256, 1024, 1024), ("TN", 1024, 256, 1024)]
_PRODUCTS += [(kind, s, s, s) for s in (32, 64, 128, 256, 512, 1024, 2048) for kind in ("NN", "NT", "TN")]

# Outputs of width 10 and 50, each with at least a million multiply-adds.
_SKINNY = [("NN", 256, 1024, 10), ("TN", 1024, 256, 10), ("NN", 1000, 500, 10), ("TN", 500, 1000, 10)]
_SKINNY += [("NN", 100, 3072, 50), ("TN", 3072, 100, 50), ("NN", 1000, 500, 50), ("TN", 500, 1000, 50)]

_OPS = {"NN": "linear_forward", "NT": "linear_dx", "TN": "linear_dw"}

LISTS = ("training", "random", "skinny")
RANDOM_SHAPES, LARGEST_RANDOM = 60, 1500


def _random() -> list[tuple[str, int, int, int]]:
    """Return the products nobody chose: 60 shapes, each size log-uniform in 1 .. 1500, in all three kinds."""
    rng = np.random.default_rng(20240003)
    sizes = np.exp(rng.uniform(0, np.log(LARGEST_RANDOM + 1), (RANDOM_SHAPES, 3))).astype(int)
    return [(kind, int(m), int(k), int(n)) for m, k, n in sizes for kind in _OPS]


def cases(names: list[str] | None = None, dtype: str = "float32", lists: Sequence[str] = ("training",)) -> list[Case]:
    """Return the products of some lists, or those named ``MxKxN`` (all three kinds) or ``NN:MxKxN``.

    Parameters
    ----------
    names : list of str, optional
        Products; ``lists`` is not looked at then.
    dtype : {"float32", "float64"}
        Of the factors.
    lists : sequence of str, default ("training",)
        ``"training"`` the products of the tasks and squares, ``"random"`` 60 random shapes of a fixed seed in all three kinds,
        ``"skinny"`` narrow ones.

    Raises
    ------
    ValueError
        If a name is written differently.
    """
    listed = {"training": _PRODUCTS, "random": _random(), "skinny": _SKINNY}
    products = [(one, *product) for one in lists for product in listed[one]]
    if names:
        products = []
        for name in names:
            kind, _, sizes = name.rpartition(":")
            parts = sizes.split("x")
            if kind not in ("", *_OPS) or len(parts) != 3 or not all(p.isdigit() and int(p) for p in parts):
                raise ValueError(f"shape {name!r}: expected MxKxN such as 100x3072x50, or NN:MxKxN, NT:MxKxN, TN:MxKxN")
            m, k, n = (int(p) for p in parts)
            products += [("named", one, m, k, n) for one in ([kind] if kind else _OPS)]
    return [{"kind": kind, "m": m, "k": k, "n": n, "dtype": dtype, "list": one} for one, kind, m, k, n in products]


def flop(case: Case) -> float:
    """Return the floating point operations of a product."""
    return 2.0 * float(case["m"] * case["k"] * case["n"])


def operands(case: Case) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the two factors as they lie in memory, standard normal."""
    m, k, n = case["m"], case["k"], case["n"]
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((k, m) if case["kind"] == "TN" else (m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if case["kind"] == "NT" else (k, n), dtype=np.float32)
    return a.astype(case["dtype"], copy=False), b.astype(case["dtype"], copy=False)


def excess(case: Case, a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> float:
    """Return the largest error of ``out`` over the bound ``2 * (k + 1) * u * abs(a) @ abs(b)``; above 1 is wrong.

    The exact product is taken in float64. For float64 that is NumPy's own product, with the bound of both, and a few rows are taken in
    `numpy.longdouble`, which has no fast product.
    """
    left: NDArray[Any] = a.T if case["kind"] == "TN" else a
    right: NDArray[Any] = b.T if case["kind"] == "NT" else b
    u = float(np.finfo(case["dtype"]).eps) / 2
    if case["dtype"] == "float32":
        return _excess(out, left, right, u, np.float64)
    rows = np.unique(np.linspace(0, case["m"] - 1, _EXACT_ROWS).astype(int))
    return max(_excess(out, left, right, 2 * u, np.float64), _excess(out[rows], left[rows], right, u, np.longdouble))


_EXACT_ROWS = 4


def _excess(out: NDArray[Any], left: NDArray[Any], right: NDArray[Any], u: float, wide: Any) -> float:
    left, right = np.asarray(left, wide), np.asarray(right, wide)
    bound = 2 * (left.shape[1] + 1) * u * (np.abs(left) @ np.abs(right))
    with np.errstate(all="ignore"):
        error = np.abs(out - left @ right) / bound
    return float(error.max()) if np.isfinite(error).all() else float("inf")


class Product(Subject):
    """Ours, called from Python with a given output."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.a, self.b = operands(case)
        self.out = np.full((case["m"], case["n"]), np.nan, case["dtype"])
        self.op = _OPS[case["kind"]]
        self.inputs = (self.a, self.b, None) if case["kind"] == "NN" else (self.a, self.b)

    def check(self) -> dict[str, Any]:
        """Multiply once and return the error over its bound."""
        self.run(1)
        return {"excess": excess(self.case, self.a, self.b, self.out)}

    def run(self, calls: int) -> None:
        """Multiply."""
        call, op, inputs, out = _core.call, self.op, self.inputs, (self.out,)
        for _ in range(calls):
            call(op, inputs, out)


def subject(case: Case, variant: str = "") -> Subject:
    """Make ours."""
    return Product(case)


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that every product is within its error bound.

    Raises
    ------
    WrongResult
        If one is not.
    """
    for label, answer in answers.items():
        if not answer["excess"] <= 1:
            raise WrongResult(
                f"{name(case)}: the product of {label} is wrong, {answer['excess']:.3g} times the error bound. Nothing is timed"
            )


def name(case: Case) -> str:
    """Return ``NN:100x3072x50``."""
    return f"{case['kind']}:{case['m']}x{case['k']}x{case['n']}"


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: ours, then the peers with their ratios to ours, and how we stand against the better one."""
    labels = [k for k in dict.fromkeys(label for r in results for label in r.times) if k != "ours"]
    header = ["product", "us", "GF/s", *(["peak"] if peaks else [])]
    for label in labels:
        header += [f"{label} GF/s", "ratio"]
    header += ["worse ratio"] if labels else []
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", *[""] * (len(header) - 2)])
            continue
        ours, work = result.times["ours"].median, flop(result.case) * 1e-9
        row = [result.name, time_text(ours), f"{work / ours:.1f}"]
        row += [f"{100 * work / ours / peak_of(result.case, peaks):.0f} %"] if peaks else []
        for label in labels:
            peer = result.times.get(label)
            row += [f"{work / peer.median:.1f}", ratio_text(peer)] if peer else ["-", "-"]
        best = result.best_peer()
        row += [f"{best[1].ratio:.2f}x" if best else "-"] if labels else []
        rows.append(row)
    lines = [
        format_table(header, rows),
        "Called from Python by all, with a given output: the cost of a call is in every time.",
    ]
    if labels:
        lines.append(RATIO_NOTE)
        for one in dict.fromkeys(r.case["list"] for r in results):
            lines += _standing([r for r in results if r.case["list"] == one], one, labels)
    return "\n".join(lines)


def peak_of(case: Case, peaks: Peaks) -> float:
    """Return the peak for a product in GFLOP/s: half as many float64 numbers fit a register."""
    return float(peaks["gflops"]) * (0.5 if case["dtype"] == "float64" else 1.0)


def _standing(results: Sequence[Result], listed: str, labels: Sequence[str]) -> list[str]:
    """Return how ours stands against the better peer and against each, over one list."""
    best = {r.name: found[1].ratio for r in results if (found := r.best_peer())}
    if not best:
        return []
    last = min(best, key=lambda k: best[k])
    level = sum(r >= 1 for r in best.values())
    lines = [
        f"{listed}: against the best peer geometric mean {geometric_mean(list(best.values())):.3f}x, worst "
        f"{best[last]:.2f}x ({last}), at least 1.0x on {level} of {len(best)} ({100 * level / len(best):.0f} %)"
    ]
    for label in labels:
        ratios = [r.times[label].ratio for r in results if label in r.times]
        lines.append(f"{listed}: against {label} geometric mean {geometric_mean(ratios):.3f}x")
    return lines
