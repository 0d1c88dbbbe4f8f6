"""Write a page about runs: one file of HTML that asks nothing of a network.

RUNS are folders that fit(run_dir=...) or pyfastnn train --run-dir has written, or folders that hold some; runs that are not finished are
shown as far as they are. With --live the page is written anew as they go on, and loads itself anew in the browser, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import math

from pyfastnn.cli.files import check_writable
from pyfastnn.cli.options import CommandError, real
from pyfastnn.report.page import EVERY, Report, counted, follow
from pyfastnn.train.run_directory import CONFIG

PAGE = "report.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="folders of runs")
    add = parser.add_argument_group("page").add_argument
    add("-o", "--output", default=PAGE, metavar="FILE", help=f"(default {PAGE})")
    add("--title", metavar="TEXT", help="what the page is called (default: the folders)")
    add("--live", action="store_true", help="follow runs that go on, until Ctrl-C")
    add(
        "--every",
        type=real(0.1, math.inf),
        metavar="X",
        help=f"with --live, seconds between two looks (default {EVERY:g})",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page, or follow the runs."""
    check_writable("--output", options.output)
    if options.every is not None and not options.live:
        raise CommandError("--every has no meaning without --live")
    report = Report(options.runs, options.title)
    if options.live:
        print(f"following: open {options.output} in a browser; Ctrl-C ends it", flush=True)
        follow(report, options.output, options.every or EVERY, lambda line: print(line, flush=True))
        print(f"written to {options.output} ({counted(len(report))})")
        return 0
    report.look()
    for problem in report.unread:
        print(f"left out: {problem}")
    if not len(report):
        raise CommandError(f"there is no run in {', '.join(options.runs)}: no folder has a readable {CONFIG}")
    report.write(options.output)
    print(f"written to {options.output} ({counted(len(report))})")
    return 0
