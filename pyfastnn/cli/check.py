"""Check a data set and a network before training.

DATA and the options of the network are those of pyfastnn train. The table says what was found, what is right, and what to do: inputs and
labels, the loss of the untrained network, its activations, its gradients, and whether it can learn a handful of rows by heart. The exit
status is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import html

from pyfastnn.cli import network, train
from pyfastnn.cli.files import check_writable
from pyfastnn.cli.options import real, whole
from pyfastnn.diagnose.sanity import Preflight, preflight

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pyfastnn check</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1.2em; color: #1f2328 }}
h1 {{ font-size: 1.35em; margin: 0 0 0.2em }}
p {{ margin: 0 0 1.2em; color: #59636e; overflow-wrap: anywhere }}
table {{ border-collapse: collapse; width: 100% }}
caption {{ text-align: left; font-weight: 600; padding: 0.5em 0 }}
th, td {{ text-align: left; vertical-align: top; padding: 0.45em 1.2em 0.45em 0; overflow-wrap: anywhere }}
th, td {{ border-bottom: 1px solid #d8dee4 }}
th {{ color: #59636e; font-weight: 600; border-bottom-width: 2px }}
td:nth-child(1), td:nth-child(4) {{ font-weight: 600; overflow-wrap: normal }}
tr.ok td:nth-child(4) {{ color: #1a7f37 }}
tr.warning td:nth-child(4) {{ color: #9a6700 }}
tr.failed td:nth-child(4) {{ color: #cf222e }}
tr.skipped td {{ color: #59636e }}
@media (max-width: 46em) {{
  table, caption, tbody, tr, td {{ display: block }}
  thead {{ display: none }}
  tr {{ border-bottom: 1px solid #d8dee4; padding: 0.6em 0 }}
  td {{ border: 0; padding: 0.05em 0 0.05em 5.5em; text-indent: -5.5em }}
  td:empty {{ display: none }}
  td::before {{ color: #59636e; font-weight: 400; display: inline-block; width: 5.5em; text-indent: 0 }}
  td:nth-child(1) {{ padding: 0; text-indent: 0 }}
  td:nth-child(2)::before {{ content: "value" }}
  td:nth-child(3)::before {{ content: "expected" }}
  td:nth-child(4)::before {{ content: "verdict" }}
  td:nth-child(5)::before {{ content: "to do" }}
}}
</style>
</head>
<body>
<h1>Before training</h1>
<p>{}</p>
{}
</body>
</html>
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("data", metavar="DATA", help="what to look at")
    train.add_network_options(parser)
    add = parser.add_argument_group("checks").add_argument
    add("--label-smoothing", type=real(0, 1, open_high=True), metavar="X", help="of the loss (default 0)")
    add(
        "--rows",
        type=whole(1),
        default=256,
        metavar="N",
        help="rows that loss and activations are looked at on (default 256)",
    )
    add("--examples", type=whole(1), default=20, metavar="N", help="rows to overfit (default 20)")
    add("--seed", type=whole(0), metavar="N", help="fixes weights and held-out rows (default 0)")
    add("--threads", type=whole(0, 4096), default=0, metavar="N", help="(default: OMP_NUM_THREADS, or all cores)")
    train.add_data_options(parser)
    add = parser.add_argument_group("files and output").add_argument
    add("--html", metavar="FILE", help="write the table as a page too")
    unused = ("optimizer", "learning_rate", "weight_decay", "momentum", "clip_norm", "ema", "precision")
    # What train says of the optimizer; no check depends on it.
    parser.set_defaults(**dict.fromkeys(unused))


def run(options: argparse.Namespace) -> int:
    """Check and print the table."""
    check_writable("--html", options.html)
    dataset = train.read_data(options, None)
    trainer = network.make_trainer(options, dataset)
    print(dataset, flush=True)
    report = preflight(trainer, dataset.X_train, dataset.y_train, rows=options.rows, examples=options.examples)
    print(report)
    if options.html is not None:
        _write(options.html, str(dataset), report)
        print(f"written to {options.html}")
    return 0 if report.passed else 1


def _write(path: str, about: str, report: Preflight) -> None:
    from pyfastnn.io.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(_PAGE.format(html.escape(about), report._repr_html_()).encode())
