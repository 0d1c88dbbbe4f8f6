"""The pictures of docs/performance.md, from results: efficiency of products over their size, time of a step over the width of a net."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyfastnn.bench import gemm, tasks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.race import Result
from pyfastnn.io.atomic import atomic_write

# Okabe and Ito's colours, told apart with every kind of colour vision.
_KINDS = {"NN": ("#0072B2", "o"), "NT": ("#D55E00", "s"), "TN": ("#009E73", "^")}
_LIBRARIES = {
    "ours": ("#000000", "o"),
    "numpy": ("#0072B2", "s"),
    "torch": ("#D55E00", "^"),
    "torch fused": ("#D55E00", "v"),
    "torch compile": ("#CC79A7", "D"),
    "torch graph": ("#CC79A7", "P"),
    "jax jit": ("#009E73", "<"),
    "jax scan": ("#009E73", ">"),
    "sklearn": ("#E69F00", "X"),
}
_NAMES = {"ours": "pyfastnn", "numpy": "NumPy (OpenBLAS)", "torch": "PyTorch (MKL)", "jax": "JAX (XLA)"}


def draw(documents: dict[str, dict[str, Any]], folder: Path) -> list[Path]:
    """Draw what there are results for and return the files.

    Raises
    ------
    ImportError
        If matplotlib is missing; names the extra to install.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install pyfastnn[plot]") from error
    made = []
    # Text stays text, and the same results give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pyfastnn", "font.size": 9}):
        if "gemm" in documents:
            made.append(_save(_gemm(documents["gemm"]), folder / "gemm.svg"))
        if "sizes" in documents:
            made.append(_save(_sizes(documents["sizes"]), folder / "step.svg"))
    return made


def _save(figure: Any, path: Path) -> Path:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = "\n".join(line.rstrip() for line in out.getvalue().decode().splitlines()) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())
    return path


def _gemm(document: dict[str, Any]) -> Any:
    """Return a panel per library: percent of the peak over the size of the product."""
    from matplotlib.figure import Figure

    results = _results(document)
    labels = [k for k in dict.fromkeys(label for r in results for label in r.times) if k in _NAMES]
    figure = Figure(figsize=(2.6 * len(labels) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, label in zip(panels, labels, strict=True):
        for kind, (color, mark) in _KINDS.items():
            points = []
            for r in results:
                if r.case["kind"] == kind and label in r.times:
                    size = (gemm.flop(r.case) / 2) ** (1 / 3)
                    rate = gemm.flop(r.case) / r.times[label].median * 1e-9
                    points.append((size, 100 * rate / gemm.peak_of(r.case, document["peaks"])))
            if points:
                axes.scatter(
                    *zip(*points, strict=True), s=11, color=color, marker=mark, alpha=0.65, linewidths=0, label=kind
                )
        axes.set(xscale="log", ylim=(0, 105), title=_NAMES[label])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of the multiply-add peak")
    panels[0].legend(loc="upper left", frameon=False, handletextpad=0.1)
    figure.supxlabel("size of the product, cube root of M K N", fontsize=9)
    threads = document["threads"]
    figure.suptitle(
        f"{len(results)} matrix products called from Python, {document['dtype']}, {threads} thread(s)", fontsize=10
    )
    return figure


def _sizes(document: dict[str, Any]) -> Any:
    """Return the time of a training step over the width of the net, a line per library."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    results = _results(document)
    widths = [int(r.name[1:]) for r in results]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    least = [1e6 * floor(tasks.get(r.name), document["peaks"]).seconds for r in results]
    axes.plot(widths, least, color="0.6", linestyle=":", linewidth=1.5)
    ends = [(least[0], "floor", "0.45")]
    for label, (color, mark) in _LIBRARIES.items():
        points = [(w, 1e6 * r.times[label].median) for w, r in zip(widths, results, strict=True) if label in r.times]
        if not points:
            continue
        style = {"linewidth": 2.2} if label == "ours" else {"linewidth": 1.1}
        axes.plot(*zip(*points, strict=True), color=color, marker=mark, markersize=4, **style)
        ends.append((points[0][1], "pyfastnn" if label == "ours" else label, color))
    axes.set(xscale="log", yscale="log", xlabel="width w of the net w-w-10", ylabel="microseconds a step")
    axes.xaxis.set_major_locator(FixedLocator(widths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(widths, [str(w) for w in widths])
    # Names stand where the lines are far apart: at the narrow nets.
    axes.set_xlim(widths[0] / 2.6, widths[-1] * 1.15)
    for y, (_, text, color) in zip(_apart([y for y, _, _ in sorted(ends)]), sorted(ends), strict=True):
        axes.annotate(text, (widths[0] * 0.88, y), color=color, ha="right", va="center", fontsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"A training step, batch 64, Adam, {document['threads']} thread(s)")
    return figure


def _apart(heights: Sequence[float], factor: float = 1.45) -> list[float]:
    """Return sorted heights of a logarithmic axis moved up until neighbours stand this factor apart."""
    placed: list[float] = []
    for y in heights:
        placed.append(max(y, placed[-1] * factor) if placed else y)
    return placed


def _results(document: dict[str, Any]) -> list[Result]:
    return [r for r in (Result.from_json(values) for values in document["results"]) if not r.refused]
