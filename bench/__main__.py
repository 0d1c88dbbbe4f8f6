"""Time pyfastnn against other libraries: one process per library and thread count, asked in turn.

``python -m bench all`` makes every file of results, ``python -m bench render`` the tables of docs/performance.md from them, and
``python -m bench plot`` the pictures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import targets
from bench.workers import ISA_VARIABLES, MODULES, ROOT, RemoteRunner, Worker
from pyfastnn.bench import (
    BENCHMARKS,
    add_options,
    benchmark,
    breakdowns,
    cases_of,
    check_options,
    kind,
    machine,
    peaks,
    results_json,
    rounds,
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["all"], ["render"], ["plot"]):
        from bench import publish

        return publish.main(arguments)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="+", type=kind, choices=BENCHMARKS)
    parser.add_argument("--against", nargs="*", default=["numpy", "torch"], choices=[k for k in MODULES if k != "ours"])
    parser.add_argument("--isa", choices=list(ISA_VARIABLES), help="hold every library to this instruction set")
    add_options(parser, lists=("training", "random", "skinny"))
    options = parser.parse_args(arguments)
    try:
        check_options(options)
        set_threads(max(1, options.threads))
        cases = {name: cases_of(name, options) for name in options.benchmarks}
    except ValueError as error:
        parser.error(str(error))
    workers: dict[str, Worker] = {}
    documents = []
    refused = False
    try:
        workers["ours"] = Worker("ours", options.threads, options.isa)
        about = workers["ours"].ask("machine")
        found, best = about["machine"], about["peaks"]
        print(machine.title(found), peaks.describe(best), f"commit {commit()}", sep="\n")
        for library in options.against:
            # At several threads a peer may be faster on one.
            for threads in sorted({options.threads, 1}, reverse=True):
                label = library if threads == options.threads else f"{library} {threads}t"
                workers[label] = Worker(library, threads, options.isa)
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
                rounds=rounds(name, options),
                seconds=sample_seconds(name, options),
                pause=PAUSE if options.threads > 1 else 0.0,
            )
            refused |= any(result.refused for result in results)
            print(f"\n## {name}, {options.threads} thread(s)\n\n{module.report(results, best)}", flush=True)
            more = {"commit": commit(), "versions": versions, "dtype": options.dtype, "isa_forced": options.isa}
            documents.append(results_json(name, results, found, best, options, **more))
            if options.json:
                path = Path(options.json)
                if len(options.benchmarks) > 1:
                    path = path.with_name(f"{path.stem}-{name}{path.suffix}")
                write_json(path, documents[-1])
    finally:
        for worker in workers.values():
            worker.close()
    print(f"\n## Targets\n\n{targets.table(documents)}")
    if options.breakdown and "step" in options.benchmarks:
        print("\n" + breakdowns(options))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
