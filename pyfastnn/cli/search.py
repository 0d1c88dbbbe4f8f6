"""Search for a good learning rate and weight decay.

DATA is what `pyfastnn train` takes. Rows for validation are held out of the training rows and judge the trials; a test part, where the
source has one, is only looked at once, by the best of them.
"""

from __future__ import annotations

import argparse
import math

from pyfastnn import search
from pyfastnn.cli import network
from pyfastnn.cli.files import check_writable
from pyfastnn.cli.options import CommandError, choice, held_out, real, sizes, whole
from pyfastnn.cli.train import BATCH, default_batch, read_data, results
from pyfastnn.search.study import shown
from pyfastnn.train.trainer import Trainer

TRIALS, EPOCHS, VALIDATION = 20, 10, 0.2
RATES, DECAYS = (1e-5, 1e-1), (1e-6, 1.0)
FIXED = ("arch", "augment", "label_smoothing", "precision", "momentum", "clip_norm", "ema")
"""What `pyfastnn train` may be told and a search is not."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("data", metavar="DATA", help="what to train on")
    add = parser.add_argument_group("network").add_argument
    add("--hidden", type=sizes, metavar="N,N", help="widths of the hidden layers (default 128; 0: none)")
    add(
        "--activation",
        type=choice("activation", network.ACTIVATIONS),
        metavar="NAME",
        help=", ".join(network.ACTIVATIONS) + " (default relu)",
    )
    add("--batch-norm", action="store_true", help="batch normalization after every hidden layer")
    add("--dropout", type=real(0, 1, open_high=True), metavar="P", help="drop hidden values (default 0)")
    add(
        "--preprocess",
        type=choice("preprocessing", network.PREPROCESS),
        metavar="NAME",
        help=", ".join(network.PREPROCESS) + " (default standardize)",
    )
    add = parser.add_argument_group("search").add_argument
    add(
        "--learning-rate",
        type=interval,
        default=RATES,
        metavar="LOW,HIGH",
        help=f"in log scale (default {RATES[0]:g},{RATES[1]:g})",
    )
    add(
        "--weight-decay",
        type=interval,
        default=DECAYS,
        metavar="LOW,HIGH",
        help=f"in log scale (default {DECAYS[0]:g},{DECAYS[1]:g})",
    )
    add("--trials", type=whole(1), default=TRIALS, metavar="N", help=f"(default {TRIALS})")
    add("--epochs", type=whole(1), default=EPOCHS, metavar="N", help=f"of each trial (default {EPOCHS})")
    add(
        "--stages",
        type=stages,
        metavar="NxE,NxE",
        help="from coarse to fine: trials and epochs of each stage, such as 100x5,100x5, in place of --trials and --epochs",
    )
    add("--max-seconds", type=real(0, math.inf, open_low=True), metavar="X", help="end after so many seconds")
    add = parser.add_argument_group("training").add_argument
    add(
        "--optimizer",
        type=choice("optimizer", network.OPTIMIZERS),
        metavar="NAME",
        help=", ".join(network.OPTIMIZERS) + " (default adam)",
    )
    add("--batch-size", type=whole(1), metavar="N", help=f"rows a step (default {BATCH}; less for small data)")
    add("--seed", type=whole(0), default=0, metavar="N", help="fixes all that is drawn (default 0)")
    add("--threads", type=whole(0, 4096), default=0, metavar="N", help="trials at a time (default: all cores)")
    add = parser.add_argument_group("data").add_argument
    add(
        "--validation",
        type=held_out,
        default=VALIDATION,
        metavar="N",
        help=f"training rows to hold out, a number or a share (default {VALIDATION})",
    )
    add("--target", metavar="NAME", help="name or number of the label column of a table (default the last)")
    add(
        "--task",
        type=choice("task", ("classification", "regression")),
        metavar="NAME",
        help="classification or regression (default: what the labels suggest)",
    )
    add = parser.add_argument_group("files and output").add_argument
    add("--save", metavar="FILE", help="write the best model: for predict and pyfastnn.load")
    add("--study", metavar="FILE", help="write all trials as JSON")
    add("--run-dir", metavar="FOLDER", help="write every trial down in a folder of its own there, after every epoch")
    add(
        "--verbose",
        type=whole(0, 1),
        default=1,
        metavar="N",
        help="0 the result alone, 1 a line for each trial (default)",
    )


def run(options: argparse.Namespace) -> int:
    """Search, show the best, save."""
    check_writable("--save", options.save)
    check_writable("--study", options.study)
    if not options.validation:
        raise CommandError("--validation 0: trials need rows to be judged by")
    dataset = read_data(options, None)
    if options.verbose:
        print(dataset, flush=True)

    def build(learning_rate: float, weight_decay: float) -> Trainer:
        drawn = {"learning_rate": learning_rate, "weight_decay": weight_decay}
        return network.make_trainer(argparse.Namespace(**{**vars(options), **dict.fromkeys(FIXED), **drawn}), dataset)

    build(
        options.learning_rate[0], options.weight_decay[0]
    )  # what the options contradict is said once, not by every trial
    wanted = options.stages or [(options.trials, options.epochs)]
    study = search.coarse_to_fine(
        build,
        {
            "learning_rate": search.log_uniform(*options.learning_rate),
            "weight_decay": search.log_uniform(*options.weight_decay),
        },
        dataset.X_train,
        dataset.y_train,
        X_val=dataset.X_val,
        y_val=dataset.y_val,
        stages=wanted,
        batch_size=options.batch_size or default_batch(dataset),
        max_seconds=options.max_seconds,
        threads=options.threads or None,
        seed=options.seed,
        run_dir=options.run_dir,
        verbose=options.verbose,
    )
    if options.study is not None:
        study.save(options.study)
        print(f"study written to {options.study} ({len(study)} trials)")
    best = next(iter(study.top(1)), None)
    if best is not None and best.trainer is not None:
        total = sum(trials for trials, _ in wanted)
        of = f"{len(study)} of {total}" if len(study) < total else f"{total}"
        late = " (the time is over)" if study.stop_reason == "max_seconds" else ""
        print(f"best of {of} trials{late}: " + ", ".join(f"{name} {shown(v)}" for name, v in best.params.items()))
        for line in results(best.trainer, dataset):
            print(line)
        if options.save is not None:
            best.trainer.model.save(options.save)
            print(f"model written to {options.save}")
    if study.stop_reason == "interrupted":
        raise KeyboardInterrupt
    study.best  # noqa: B018 - says why when there is none
    return 0


def interval(text: str) -> tuple[float, float]:
    """Read a range in log scale: ``1e-5,1e-1``."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0.0 < low < high < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no range such as 1e-5,1e-1 (both above 0)")
    return low, high


def stages(text: str) -> list[tuple[int, int]]:
    """Read trials and epochs of stages: ``100x5,100x5``."""
    found = []
    for part in text.split(","):
        trials, _, epochs = part.strip().partition("x")
        if not (trials.isdecimal() and epochs.isdecimal() and int(trials) and int(epochs)):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of trials and epochs such as 100x5,100x5")
        found.append((int(trials), int(epochs)))
    return found
