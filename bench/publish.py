"""Everything docs/performance.md shows: ``python -m bench all`` measures, ``render`` writes the tables, ``plot`` the pictures."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import targets
from bench.workers import ROOT
from pyfastnn.bench import coarse, gemm, machine, search, step, stream, tasks
from pyfastnn.bench import peaks as machine_peaks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.race import Result, geometric_mean, ratio_text, time_text
from pyfastnn.bench.table import format_table
from pyfastnn.io.atomic import atomic_write

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
NETS, CONV_NETS = ("T1", "T2", "T3", "T5", "T6", "T6b"), ("T4", "T7")
WIDTHS = ("W16", "W32", "W64", "W128", "W256", "W512", "W1024")
CONVOLUTIONS = ("conv2d_forward", "conv2d_dx", "conv2d_dw")
ALL_PEERS = ("--against", "numpy", "torch", "jax", "sklearn")

RUNS: dict[str, tuple[str, ...]] = {
    "step-1": ("step", "--cases", *NETS, *ALL_PEERS),
    "step-2": ("step", "--threads", "2", "--cases", *NETS, *ALL_PEERS),
    "watching": ("step", "--cases", *step.WATCHED, "--rounds", "61", "--against"),
    "conv-nets-1": ("step", "--cases", *CONV_NETS, "--against", "torch"),
    "conv-nets-2": ("step", "--threads", "2", "--cases", *CONV_NETS, "--against", "torch"),
    "sizes": ("step", "--cases", *WIDTHS, *ALL_PEERS),
    "gemm": ("gemm", "--against", "numpy", "torch", "jax"),
    "gemm-float64": ("gemm", "--dtype", "float64", "--list", "training", "random", "--against", "numpy", "torch"),
    "gemm-avx2": ("gemm", "--isa", "avx2", "--list", "training", "random", "--against", "numpy", "torch"),
    "op": ("op", "--against", "numpy", "torch"),
    "conv-float64": ("op", "--dtype", "float64", "--cases", *CONVOLUTIONS, "--against", "torch"),
    "search": ("search", "--threads", "2", *ALL_PEERS),
    "coarse": ("coarse", "--threads", "2", "--against", "torch"),
    "stream-1": ("stream", "--against"),
    "stream-2": ("stream", "--threads", "2", "--against"),
}
"""Arguments of ``python -m bench`` by the name of the file they make."""

Document = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Run ``all``, ``render`` or ``plot``; return 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("do", choices=("all", "render", "plot"))
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="all: only these runs")
    parser.add_argument("--rounds", type=int, help="all: samples of each")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the JSON files (default bench/results)"
    )
    parser.add_argument(
        "--docs", type=Path, default=PAGE.parent, help="folder of performance.md and the pictures (default docs)"
    )
    options = parser.parse_args(argv)
    if options.do == "all":
        return measure_all(options.only, options.results, options.rounds)
    documents = read(options.results)
    if options.do == "plot":
        from bench.plot import draw

        for path in draw(documents, options.docs):
            print(path)
        return 0
    path = options.docs / PAGE.name
    text = render(path.read_text(encoding="utf-8"), documents)
    with atomic_write(path) as file:
        file.write(text.encode())
    print(path)
    return 0


def measure_all(names: Sequence[str], folder: Path, rounds: int | None) -> int:
    """Make the files of results, one process after the other."""
    failed = []
    for name in names:
        command = [sys.executable, "-m", "bench", *RUNS[name], "--json", str(folder / f"{name}.json")]
        command += ["--rounds", str(rounds)] if rounds else []
        print(f"\n# {name}: python -m bench {' '.join(RUNS[name])}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nwith wrong or missing results: {', '.join(failed)}")
    return 1 if failed else 0


def read(folder: Path) -> dict[str, Document]:
    """Return the documents of results that a folder has, by name.

    Raises
    ------
    FileNotFoundError
        If it has none.
    """
    found = {n: json.loads((folder / f"{n}.json").read_text()) for n in RUNS if (folder / f"{n}.json").is_file()}
    if not found:
        raise FileNotFoundError(f"{folder} has no results: python -m bench all")
    return found


def render(page: str, documents: dict[str, Document]) -> str:
    """Return the page with the text between each pair of markers made anew.

    A part looks like ``<!-- bench: step-1 -->`` ... ``<!-- end -->``. Where its results are missing, it stays as it is.
    """

    def part(match: re.Match[str]) -> str:
        name = match[1]
        if name not in PARTS:
            raise ValueError(f"performance.md: no part is called {name!r}, expected one of {', '.join(PARTS)}")
        if name in RUNS and name not in documents:
            return match[0]
        return f"<!-- bench: {name} -->\n{PARTS[name](documents)}\n<!-- end -->"

    return re.sub(r"<!-- bench: ([\w-]+) -->\n.*?<!-- end -->", part, page, flags=re.DOTALL)


def _about(documents: dict[str, Document]) -> str:
    lines = []
    for name, document in documents.items():
        command, load = f"python -m bench {' '.join(RUNS[name])}", document["machine"].get("load", "?")
        lines.append(
            f"* `{command}` (commit {document['commit']}, load {load}): {machine_peaks.describe(document['peaks'])}"
        )
    first = next(iter(documents.values()))
    versions: dict[str, str] = {}
    for document in documents.values():
        for label, version in document["versions"].items():
            if version and not label.endswith("t"):
                versions.setdefault(label, version)
    found = first["machine"]
    head = (
        f"{machine.title(found)}; {found['system']}; compiler {found['compiler']}; caches of a core {found['caches']}."
    )
    return "\n".join(
        [head, "", "Peers: " + ", ".join(f"{k} {v}" for k, v in versions.items() if k != "ours") + ".", "", *lines]
    )


def _targets(documents: dict[str, Document]) -> str:
    return targets.table(list(documents.values()))


def _results(document: Document) -> list[Result]:
    return [r for r in (Result.from_json(values) for values in document["results"]) if not r.refused]


def _labels(results: Sequence[Result]) -> list[str]:
    return [k for k in dict.fromkeys(label for r in results for label in r.times) if not k.startswith("ours")]


def _steps(name: str) -> Callable[[dict[str, Document]], str]:
    def text(documents: dict[str, Document]) -> str:
        document = documents[name]
        results = _results(document)
        rows = []
        for result in results:
            task, ours = tasks.get(result.name), result.times["ours"]
            least = floor(task, document["peaks"]).seconds
            best = result.best_peer()
            fit = result.times.get("ours fit")
            row = [
                f"{task.name}: {task.title}",
                time_text(least),
                time_text(ours.median),
                f"{ours.median / least:.2f}x",
            ]
            row.append(time_text(fit.median) if fit else "-")
            rows.append([*row, f"{best[0]} {ratio_text(best[1])}" if best else "-"])
        header = ["task", "floor us", "ours us", "over floor", "`fit` us", "best peer"]
        ours_table = format_table(header, rows)
        labels = _labels(results)
        rows = []
        for label in labels:
            cells = [r.times.get(label) for r in results]
            rows.append([label, *(f"{time_text(c.median)} ({ratio_text(c)})" if c else "-" for c in cells)])
        return ours_table + "\n\n" + format_table(["peer: us a step (ratio)", *(r.name for r in results)], rows)

    return text


def _watching(documents: dict[str, Document]) -> str:
    rows = []
    for result in _results(documents["watching"]):
        fits = [result.times[k] for k in ("ours fit", "ours unwatched")]
        rows.append([result.name, *(time_text(fit.median) for fit in fits), step.watching_text(result)])
    return format_table(["task", "`fit` us", "without a monitor us", "cost"], rows)


def _gemm(name: str) -> Callable[[dict[str, Document]], str]:
    def text(documents: dict[str, Document]) -> str:
        document = documents[name]
        results = _results(document)
        peers = [k for k in _labels(results) if k.split()[0] in ("numpy", "torch")]
        parts = []
        for listed in dict.fromkeys(r.case["list"] for r in results):
            mine = [r for r in results if r.case["list"] == listed]
            worse = {r.name: min(r.times[k].ratio for k in peers) for r in mine}
            level = sum(v >= 1 for v in worse.values())
            means = ", ".join(f"{k} {geometric_mean([r.times[k].ratio for r in mine]):.2f}x" for k in _labels(mine))
            parts.append(
                f"List `{listed}`, {len(mine)} products: against the better of OpenBLAS and MKL geometric mean "
                f"{geometric_mean(list(worse.values())):.2f}x, worst {min(worse.values()):.2f}x, at least 1.0x on {level}; "
                f"against each: {means}."
            )
            shown = mine if listed != "random" else sorted(mine, key=lambda r: worse[r.name])[:12]
            if listed == "random":
                parts.append("The twelve where we stand worst:")
            rows = []
            for r in shown:
                work, ours = gemm.flop(r.case) * 1e-9, r.times["ours"].median
                row = [
                    r.name,
                    f"{work / ours:.1f}",
                    f"{100 * work / ours / gemm.peak_of(r.case, document['peaks']):.0f} %",
                ]
                rows.append(row + [f"{work / r.times[k].median:.1f} ({ratio_text(r.times[k])})" for k in _labels(mine)])
            parts.append(
                format_table(["product", "ours GF/s", "of peak", *(f"{k} GF/s (ratio)" for k in _labels(mine))], rows)
            )
        return "\n\n".join(parts)

    return text


def _ops(name: str) -> Callable[[dict[str, Document]], str]:
    def text(documents: dict[str, Document]) -> str:
        results = _results(documents[name])
        labels = _labels(results)
        rows = []
        for r in results:
            cells = [r.times.get(k) for k in labels]
            rows.append(
                [
                    r.name,
                    time_text(r.times["ours"].median),
                    *(f"{time_text(c.median)} ({ratio_text(c)})" if c else "-" for c in cells),
                ]
            )
        return format_table(["op", "ours us", *(f"{k} us (ratio)" for k in labels)], rows)

    return text


def _search(documents: dict[str, Document]) -> str:
    document = documents["search"]
    return search.report(_results(document), document["peaks"])


def _coarse(documents: dict[str, Document]) -> str:
    return coarse.report(_results(documents["coarse"]))


def _stream(name: str) -> Callable[[dict[str, Document]], str]:
    return lambda documents: stream.report(_results(documents[name]))


PARTS: dict[str, Callable[[dict[str, Document]], str]] = {
    "about": _about,
    "targets": _targets,
    "step-1": _steps("step-1"),
    "step-2": _steps("step-2"),
    "watching": _watching,
    "conv-nets-1": _steps("conv-nets-1"),
    "conv-nets-2": _steps("conv-nets-2"),
    "sizes": _steps("sizes"),
    "gemm": _gemm("gemm"),
    "gemm-float64": _gemm("gemm-float64"),
    "gemm-avx2": _gemm("gemm-avx2"),
    "op": _ops("op"),
    "conv-float64": _ops("conv-float64"),
    "search": _search,
    "coarse": _coarse,
    "stream-1": _stream("stream-1"),
    "stream-2": _stream("stream-2"),
}
"""What stands between the markers of docs/performance.md, by name."""
