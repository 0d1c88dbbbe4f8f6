"""What the benchmarks are to reach, and whether the results do: from results as they stand in the JSON files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfastnn.bench import gemm, search, step, tasks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.race import geometric_mean
from pyfastnn.bench.table import format_table
from pyfastnn.reference import specs

Document = Mapping[str, Any]
Found = Mapping[str, Any]

# Ours over the floor at most, on one thread and on two.
FLOORS = {
    "T1": (1.08, 1.25),
    "T2": (1.10, 1.15),
    "T3": (1.12, 1.30),
    "T4": (1.0, None),
    "T5": (2.0, None),
    "T6": (1.10, 1.15),
}
# Against whom (a label or its beginning; empty: the best of all) at least, on one thread and on two.
PEERS = (
    ("T1", "", (1.5, 1.8)),
    ("T2", "", (1.0, 1.0)),
    ("T2", "torch", (1.2, 1.2)),
    ("T3", "", (1.18, 1.3)),
    ("T3", "torch", (1.55, 1.55)),
    ("T4", "torch", (4.0, 4.5)),
    ("T7", "torch", (1.5, None)),
    ("T5", "jax scan", (2.0, None)),
    ("T5", "numpy", (7.0, None)),
    ("T5", "torch fused", (35.0, None)),
    ("T6", "", (1.08, 1.08)),
    ("T6b", "ours float32", (1.7, None)),
    ("T6b", "torch", (1.05, None)),
)
LEVEL_SHARE, MEAN, WORST, SKINNY_SHARE = 0.92, 1.12, 0.95, 0.85
AVX2_MEAN, DOUBLE_MEAN = 0.95, 1.0
SEARCH_FLOOR, SEARCH_PEER = 1.3, 2.5
COARSE_SHARE = 0.45
"""Of the time of a loop in PyTorch, on as many threads as suit it best."""
WATCHING = 0.02
"""Of the time of a run."""
STREAM_SPEED = 0.7
"""Of training on the same rows in memory."""
# Op and sizes, against whom, at least how many times as fast on one thread.
IN_CACHE = "size32768"
_SMOOTH = {"selu": 1.5, "gelu": 2.2, "gelu_tanh": 2.2, "silu": 1.5, "softplus": 3.0}
_ROWS = (
    ("prelu", "n256_c128"),
    ("softmax", "n128_c256"),
    ("log_softmax", "n128_c256"),
    ("softmax", "n3277_c10"),
    ("log_softmax", "n3277_c10"),
    ("maxout", "n128_m128_k2"),
    ("maxout", "n128_m64_k4"),
)
OPS = (
    (f"exp_forward {IN_CACHE}", "torch", 4.0),
    (f"exp_forward {IN_CACHE}", "numpy", 1.4),
    (f"tanh_forward {IN_CACHE}", "torch", 8.0),
    (f"tanh_forward {IN_CACHE}", "numpy", 1.4),
    (f"elu_forward {IN_CACHE}", "torch", 4.0),
    (f"sigmoid_forward {IN_CACHE}", "torch", 1.8),
    *((f"{op}_forward {IN_CACHE}", "torch", wanted) for op, wanted in _SMOOTH.items()),
    *((f"{op}_backward {IN_CACHE}", "torch", 1.5) for op in _SMOOTH),
    *((f"{op}_{way} {IN_CACHE}", "numpy", 1.0) for op in _SMOOTH if op != "gelu" for way in ("forward", "backward")),
    *((f"{op}_{way} {sizes}", "torch", 1.5) for op, sizes in _ROWS for way in ("forward", "backward")),
    *((f"{op}_{way} {sizes}", "numpy", 1.0) for op, sizes in _ROWS for way in ("forward", "backward")),
    *((f"{op}_backward {IN_CACHE}", "torch", 1.2) for op in ("exp", "relu", "leaky_relu", "elu", "sigmoid", "tanh")),
    *((f"batch_norm_{way} n128_c256", "torch", 2.0) for way in ("forward", "backward")),
    *((f"batch_norm_{way} n8192_c1024", "torch", 1.5) for way in ("forward", "backward")),
    ("softmax_cross_entropy n128_c1000", "torch", 4.0),
    ("softmax_cross_entropy n128_c10", "torch", 20.0),
    *((f"max_pool_forward n64_h32_w32_c{c}_kh2_kw2_sh2_sw2_p0", "torch", 5.0) for c in (6, 16, 64)),
    ("momentum_step size100000", "torch", 2.5),
    ("adam_step size100000", "torch", 2.5),
)
BANDWIDTH_OPS, BANDWIDTH_SHARE = ("momentum_step size10000000", "adam_step size10000000"), 0.9


# Convolutions on one thread: the share of the peak where 16 channels or more come out, less where few go in, and where 3 or 6 come out;
# then against torch, channels last.
CONV_WIDE, CONV_WIDE_SHARE, CONV_FEW_INPUTS = 16, 0.90, {1: 0.65, 3: 0.85}
CONV_NARROW, CONV_NARROW_SHARE, CONV_NARROW_PEER = (3, 6), 0.80, 2.3
CONV_PEER, CONV_DOUBLE_PEER = 0.95, 3.0


@dataclass(frozen=True)
class Row:
    """One target.

    Attributes
    ----------
    what : str
        What is measured.
    reached : float
        What was found.
    wanted : float
        What is to be reached.
    at_most : bool
        Whether less is better.
    share : bool
        Whether it is printed in percent.
    note : str
        More about what was found.
    """

    what: str
    reached: float
    wanted: float
    at_most: bool = False
    share: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        scale, unit, digits = (100.0, " %", 1) if self.share else (1.0, "x", 2)
        wanted = f"{'at most' if self.at_most else 'at least'} {scale * self.wanted:.{digits}f}{unit}"
        by = self.reached / self.wanted if self.at_most else self.wanted / max(self.reached, 1e-9)
        verdict = "met" if self.met else f"missed by {by:.2f}x"
        return self.what, wanted, f"{scale * self.reached:.{digits}f}{unit}{self.note}", verdict


def rows(document: Document) -> list[Row]:
    """Return the targets that a document of results says something about."""
    makers: dict[str, Callable[[Document], Iterator[Row]]] = {
        "gemm": _gemm,
        "step": _step,
        "op": _op,
        "search": _search,
        "coarse": _coarse,
        "stream": _stream,
    }
    return list(makers[document["benchmark"]](document))


def table(documents: Sequence[Document]) -> str:
    """Return the targets of some documents as a table, and how many are met."""
    found = [row for document in documents for row in rows(document)]
    if not found:
        return "No target is about these cases."
    met = sum(row.met for row in found)
    text = format_table(("target", "wanted", "reached", ""), [row.cells() for row in found])
    return f"{text}\n{met} of {len(found)} targets met."


def _peers(result: Found, *beginnings: str) -> dict[str, float]:
    """Return the ratios of the peers whose label begins with one of these words."""
    ratios = {k: v["ratio"] for k, v in result["times"].items() if k != "ours"}
    own = any(b.startswith("ours") for b in beginnings)
    return {k: r for k, r in ratios.items() if k.startswith("ours") == own and any(_begins(k, b) for b in beginnings)}


def _begins(label: str, beginning: str) -> bool:
    """Return whether a label is of a peer: its words begin with these, apart from a number of threads."""
    words = [w for w in label.split() if not (w[0].isdigit() and w.endswith("t"))]
    wanted = beginning.split()
    return words[: len(wanted)] == wanted


def _worst(ratios: Mapping[str, float]) -> tuple[float, str]:
    best = min(ratios, key=lambda k: ratios[k])
    return ratios[best], f" ({best})"


def _step(document: Document) -> Iterator[Row]:
    threads = document["threads"]
    if threads not in (1, 2):
        return
    # A run of these tasks alone is about what watching costs: so small a share takes more rounds than a race has.
    watching = {r["name"] for r in document["results"]} == set(step.WATCHED)
    for result in document["results"]:
        if result["refused"]:
            continue
        task = result["name"]
        wanted = None if watching else FLOORS.get(task, (None, None))[threads - 1]
        if wanted is not None:
            least = floor(tasks.get(task), document["peaks"]).seconds
            reached = result["times"]["ours"]["median"] / least
            yield Row(f"{task}, {threads} thread(s): over the floor", reached, wanted, at_most=True)
        if watching and "watching" in result:
            cost = result["watching"]
            yield Row(f"{task}, {threads} thread(s): cost of watching", cost, WATCHING, at_most=True, share=True)
        for name, peer, both in PEERS:
            found = _peers(result, peer)
            if name == task and both[threads - 1] is not None and found:
                reached, note = _worst(found)
                yield Row(
                    f"{task}, {threads} thread(s): against {peer or 'the best peer'}",
                    reached,
                    both[threads - 1],
                    note=note,
                )


def _gemm(document: Document) -> Iterator[Row]:
    if document["threads"] != 1:
        return
    timed = [r for r in document["results"] if not r["refused"]]
    dtype, isa = document["dtype"], document["isa_forced"]
    for listed in dict.fromkeys(r["case"]["list"] for r in timed):
        mine = [r for r in timed if r["case"]["list"] == listed]
        if listed == "skinny" and isa is None and dtype == "float32":
            shares = {
                r["name"]: gemm.flop(r["case"]) / r["times"]["ours"]["median"] * 1e-9 / document["peaks"]["gflops"]
                for r in mine
            }
            for name, share in shares.items():
                yield Row(f"gemm {name}: share of the peak", share, SKINNY_SHARE, share=True)
            continue
        peers = ("numpy",) if isa == "avx2" else ("numpy", "torch")
        best = {r["name"]: min(found.values()) for r in mine if (found := _peers(r, *peers))}
        if listed not in ("training", "random") or not best:
            continue
        who, mean = f"gemm {listed} list", geometric_mean(list(best.values()))
        if isa == "avx2":
            yield Row(f"{who}, AVX2: mean against OpenBLAS for Haswell", mean, AVX2_MEAN)
        elif dtype == "float64":
            yield Row(f"{who}, float64: mean against the better of OpenBLAS and MKL", mean, DOUBLE_MEAN)
        else:
            level = float(np.mean([r >= 1 for r in best.values()]))
            worst, note = _worst(best)
            yield Row(f"{who}: shapes at 1.0x or more", level, LEVEL_SHARE, share=True)
            yield Row(f"{who}: mean against the better of OpenBLAS and MKL", mean, MEAN)
            yield Row(f"{who}: worst", worst, WORST, note=note)


def _op(document: Document) -> Iterator[Row]:
    if document["threads"] != 1:
        return
    timed = {r["name"]: r for r in document["results"] if not r["refused"]}
    for name, result in timed.items():
        if result["case"]["op"] in ("conv2d_forward", "conv2d_dx", "conv2d_dw"):
            yield from _conv(name, result, document)
    if document["dtype"] != "float32":
        return
    for name, peer, wanted in OPS:
        ratios = _peers(timed[name], peer) if name in timed else {}
        if ratios:
            yield Row(f"{name}: against {peer}", _worst(ratios)[0], wanted)
    for name in BANDWIDTH_OPS:
        if name in timed:
            case = timed[name]["case"]
            moved = specs()[case["op"]].cost(4, **case["sizes"]).byte / timed[name]["times"]["ours"]["median"] * 1e-9
            yield Row(
                f"{name}: share of the bandwidth",
                moved / document["peaks"]["update"]["memory"],
                BANDWIDTH_SHARE,
                share=True,
            )


def _conv(name: str, result: Found, document: Document) -> Iterator[Row]:
    """Yield the targets of a convolution: what is computed has so many channels; so many go into a product."""
    case, ratios = result["case"], _peers(result, "torch")
    sizes, single = case["sizes"], case["dtype"] == "float32"
    # In the sizes of the weight's gradient, g are the groups.
    image, filters = sizes.get("c", sizes["g"]), sizes["o"]
    made, inputs = (image, filters) if case["op"] == "conv2d_dx" else (filters, image)
    narrow = made in CONV_NARROW
    share = CONV_NARROW_SHARE if narrow else CONV_WIDE_SHARE if made >= CONV_WIDE else None
    # Depthwise, a number is loaded for every multiply-add or two: the peak is out of reach, whoever writes it.
    depthwise = sizes.get("groups", sizes["g"] if "d" in sizes else 1) > 1
    if single and not depthwise and (share or inputs in CONV_FEW_INPUTS):
        wanted = min(share or 1.0, CONV_FEW_INPUTS.get(inputs, 1.0))
        flop = specs()[case["op"]].cost(4, **sizes).flop
        reached = flop / result["times"]["ours"]["median"] * 1e-9 / document["peaks"]["gflops"]
        yield Row(f"{name}: share of the peak", reached, wanted, share=True)
    if ratios:
        wanted = (CONV_NARROW_PEER if narrow else CONV_PEER) if single else CONV_DOUBLE_PEER
        reached, note = _worst(ratios)
        yield Row(f"{name}{'' if single else ', float64'}: against torch", reached, wanted, note=note)


def _search(document: Document) -> Iterator[Row]:
    for result in document["results"]:
        if result["refused"] or result["case"]["at_once"] != 2:
            continue
        reached = result["times"]["ours"]["median"] / search.least_seconds(result["case"], document["peaks"])
        yield Row("search, 2 trials at a time: over the floor", reached, SEARCH_FLOOR, at_most=True)
        found = _peers(result, "")
        for beside, how in ((False, "one trial after the other"), (True, "trials side by side, written by hand")):
            ratios = {k: r for k, r in found.items() if ("side by side" in k) == beside}
            if ratios:
                reached, note = _worst(ratios)
                yield Row(f"search: against the best peer, {how}", reached, SEARCH_PEER, note=note)


def _coarse(document: Document) -> Iterator[Row]:
    for result in document["results"]:
        ratios = {k: r for k, r in _peers(result, "torch").items() if "side by side" not in k}
        if ratios and not result["refused"]:
            least, note = _worst(ratios)
            what = f"coarse search, {document['threads']} thread(s): time over that of a loop in PyTorch"
            yield Row(what, 1 / least, COARSE_SHARE, at_most=True, note=note)


def _stream(document: Document) -> Iterator[Row]:
    """Yield the slowest case of each source."""
    timed = [r for r in document["results"] if not r["refused"]]
    for source in dict.fromkeys(r["case"]["source"] for r in timed):
        speeds = {r["name"]: r["times"]["ours memory"]["ratio"] for r in timed if r["case"]["source"] == source}
        reached, note = _worst(speeds)
        what = f"stream of {source}, {document['threads']} thread(s): against rows in memory, worst"
        yield Row(what, reached, STREAM_SPEED, note=note)
