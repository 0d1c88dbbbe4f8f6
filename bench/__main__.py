"""Time pyfastnn against other libraries: one process per library and thread count, asked in turn."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.workers import MODULES, ROOT, RemoteRunner, Worker
from pyfastnn.bench import (
    BENCHMARKS,
    add_options,
    benchmark,
    breakdowns,
    check_options,
    machine,
    results_json,
    sample_seconds,
    set_threads,
)
from pyfastnn.bench.race import race
from pyfastnn.bench.table import write_json

PAUSE = 0.03
"""Seconds between samples of several threads: teams that spin have gone to sleep by then."""


def commit() -> str:
    """Return the commit of the repository, with a mark if files differ from it."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named; return 1 if a result was wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--against", nargs="*", default=["numpy", "torch"], choices=[k for k in MODULES if k != "ours"])
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        check_options(options)
        cases = {name: benchmark(name).cases(options.cases) for name in options.benchmarks}
    except ValueError as error:
        parser.error(str(error))
    set_threads(options.threads)
    found = machine.describe() | machine.rates()
    print(machine.title(found), f"commit {commit()}", sep="\n")
    workers: dict[str, Worker] = {}
    refused = False
    try:
        workers["ours"] = Worker("ours", options.threads)
        for library in options.against:
            # At several threads a peer may be faster on one.
            for threads in sorted({options.threads, 1}, reverse=True):
                label = library if threads == options.threads else f"{library} {threads}t"
                workers[label] = Worker(library, threads)
        versions = {label: worker.hello["version"] for label, worker in workers.items()}
        print(", ".join(f"{k} {v}".strip() for k, v in versions.items()))
        for name in options.benchmarks:
            runners = {
                " ".join(filter(None, (label, variant))): RemoteRunner(worker, variant)
                for label, worker in workers.items()
                for variant in worker.hello["variants"].get(name, ())
            }
            module = benchmark(name)
            results = race(
                name,
                module,
                cases[name],
                runners,
                rounds=options.rounds,
                seconds=sample_seconds(name, options),
                pause=PAUSE if options.threads > 1 else 0.0,
            )
            refused |= any(result.refused for result in results)
            print(f"\n## {name}, {options.threads} thread(s)\n\n{module.report(results)}", flush=True)
            if options.json:
                path = Path(options.json)
                if len(options.benchmarks) > 1:
                    path = path.with_name(f"{path.stem}-{name}{path.suffix}")
                write_json(path, results_json(name, results, found, options, commit=commit(), versions=versions))
    finally:
        for worker in workers.values():
            worker.close()
    if options.breakdown and "step" in options.benchmarks:
        print("\n" + breakdowns(options))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
