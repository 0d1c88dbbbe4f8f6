"""Benchmarks that need nothing but NumPy: ``pyfastnn bench op|gemm|step|search|coarse|stream``.

Every result is checked before it is timed. The comparison with other libraries stands in the repository: ``python -m bench``.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfastnn.bench.peaks import Peaks
    from pyfastnn.bench.race import Result
    from pyfastnn.bench.timing import Case, Subject

BENCHMARKS = ("gemm", "op", "step", "search", "coarse", "stream")
VARIANTS = {
    "gemm": ("",),
    "op": ("",),
    "step": ("", "fit", "unwatched", "float32"),
    "search": ("",),
    "coarse": ("",),
    "stream": ("", "memory"),
}
DEFAULT_SAMPLE_MS = {"gemm": 5.0, "op": 4.0, "step": 40.0, "search": 1.0, "coarse": 1.0, "stream": 150.0}
DEFAULT_ROUNDS = {"search": 3, "coarse": 3, "stream": 7}
ALONE = ("call", "predict")
"""Benchmarks of ours alone, with tables of their own."""


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make ours for a case of a benchmark.

    The variant ``"fit"`` of ``"step"`` is `Trainer.fit`, ``"unwatched"`` the same without a monitor.
    """
    made: Subject = benchmark(bench).subject(case, variant)
    return made


def benchmark(name: str) -> Any:
    """Return the module of a benchmark."""
    return import_module(f"pyfastnn.bench.{name}")


def set_threads(threads: int) -> None:
    """Fix the number of threads of ours."""
    from pyfastnn import _core

    _core.set_num_threads(threads)


def version() -> str:
    """Return our version and instruction set."""
    from pyfastnn import _core

    return f"{_core.__version__} ({_core.active_isa()})"


def kind(name: str) -> str:
    """Return the name of a benchmark: ``ops`` is ``op``."""
    return "op" if name == "ops" else name


def add_options(parser: argparse.ArgumentParser, lists: Sequence[str] = ("training",)) -> None:
    """Add the options all benchmarks share, here and in ``python -m bench``."""
    from pyfastnn.bench.gemm import LISTS

    parser.add_argument(
        "--cases", nargs="+", metavar="NAME", help="only these: T1, 100x3072x50, NT:64x64x64, relu_forward ..."
    )
    parser.add_argument("--threads", type=int, default=1, help="threads (default 1)")
    parser.add_argument("--rounds", type=int, help="samples of each (default 15, of search and coarse 3, of stream 7)")
    parser.add_argument(
        "--sample-ms", type=float, help="length of a sample (default 40 for step, 5 for gemm, 4 for op, 150 for stream)"
    )
    parser.add_argument("--json", metavar="FILE", help="write machine, versions, command and results there")
    parser.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="numbers of gemm and op (default float32)"
    )
    parser.add_argument(
        "--list",
        nargs="+",
        choices=LISTS,
        default=lists,
        help=f"gemm: products of the tasks, of 60 random shapes, narrow ones (default {' '.join(lists)})",
    )
    parser.add_argument("--breakdown", action="store_true", help="step: also the time of every step of the plan")


def check_options(options: argparse.Namespace) -> None:
    """Check the numbers among the options.

    Raises
    ------
    ValueError
        If one is out of range.
    """
    for name in ("threads", "rounds"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}, expected 1 or more")
    if options.sample_ms is not None and not options.sample_ms > 0:
        raise ValueError(f"--sample-ms is {options.sample_ms}, expected a number above 0")


def sample_seconds(name: str, options: argparse.Namespace) -> float:
    """Return the length of a sample of a benchmark."""
    given: float | None = options.sample_ms
    return (DEFAULT_SAMPLE_MS[name] if given is None else given) * 1e-3


def rounds(name: str, options: argparse.Namespace) -> int:
    """Return the number of samples of a benchmark."""
    given: int | None = options.rounds
    return DEFAULT_ROUNDS.get(name, 15) if given is None else given


def cases_of(name: str, options: argparse.Namespace) -> list[Case]:
    """Return the cases of a benchmark that the options ask for.

    Raises
    ------
    ValueError
        If a case has an unknown name.
    """
    more: dict[str, Any] = {}
    if name in ("gemm", "op"):
        more["dtype"] = options.dtype
    if name == "gemm":
        more["lists"] = options.list
    found: list[Case] = benchmark(name).cases(options.cases, **more)
    return found


def breakdowns(options: argparse.Namespace) -> str:
    """Return the breakdown of every task asked for."""
    from pyfastnn.bench import step, tasks
    from pyfastnn.bench.breakdown import breakdown

    set_threads(options.threads)
    parts = []
    for case in step.cases(options.cases):
        task = tasks.get(case["task"])
        parts.append(f"{task.name} {task.title}\n\n{breakdown(task)}")
    return "\n\n".join(parts)


def results_json(
    name: str,
    results: Sequence[Result],
    machine: dict[str, Any],
    peaks: Peaks,
    options: argparse.Namespace,
    **more: Any,
) -> dict[str, Any]:
    """Return the results of a benchmark as JSON values."""
    return {
        "benchmark": name,
        "machine": machine,
        "peaks": peaks,
        "threads": options.threads,
        "rounds": rounds(name, options),
        "sample_seconds": sample_seconds(name, options),
        "command": sys.argv,
        **more,
        "results": [result.json() for result in results],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pyfastnn bench``.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``pyfastnn bench``; those of the process by default.

    Returns
    -------
    int
        0; 1 if a result was wrong, so that it was not timed; 2 on bad arguments.
    """
    parser = argparse.ArgumentParser(prog="pyfastnn bench", description="Time pyfastnn on this machine.")
    parser.add_argument(
        "benchmark",
        type=kind,
        choices=BENCHMARKS + ALONE,
        help="op: every kernel; gemm: matrix products; step: training steps; search: 20 trials side by side; "
        "coarse: the coarse search of the lectures; "
        "call: what calls cost; predict: single predictions; stream: training from files",
    )
    add_options(parser)
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)

    from pyfastnn.bench import machine, peaks
    from pyfastnn.bench.race import race
    from pyfastnn.bench.table import write_json
    from pyfastnn.bench.timing import LocalRunner

    name = options.benchmark
    module = benchmark(name)
    try:
        check_options(options)
        set_threads(max(1, options.threads))
        if name in ALONE:
            status: int = module.main(options)
            return status
        cases = cases_of(name, options)
    except ValueError as error:
        print(f"pyfastnn bench: {error}", file=sys.stderr)
        return 2
    found, best = machine.describe() | machine.rates(), peaks.measure(options.threads)
    this = sys.modules[__name__]
    runners = {" ".join(filter(None, ("ours", v))): LocalRunner(this, v) for v in VARIANTS[name]}
    results = race(name, module, cases, runners, rounds=rounds(name, options), seconds=sample_seconds(name, options))
    print(machine.title(found))
    print(f"{peaks.describe(best)}\n")
    print(module.report(results, best))
    if options.breakdown and name == "step":
        print("\n" + breakdowns(options))
    if options.json:
        write_json(options.json, results_json(name, results, found, best, options))
    return 1 if any(result.refused for result in results) else 0
