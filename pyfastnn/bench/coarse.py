"""The coarse search of the CS231n lectures on raw pixels, a tenth of its rows and a quarter of its trials, as wall time.

The lecture tries 100 rates from 1e-6 to 1e-3 with 100 penalties from 1e-5 to 1e5, each for 5 epochs of CIFAR-10: 49,000 rows of 3072
pixels less their mean, 50 hidden units, batches of 100, momentum 0.9, the rate falling by 0.9 an epoch, 1000 validation rows after
every epoch, and an end to those whose cost exceeds three times the first. Here every library trains the first 25 of such trials on 4900
rows of random numbers of that size and spread, with 1000 more for validation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import Trainer, _core, nn, optim, search
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.race import RATIO_NOTE, Result, ratio_text
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import Case, Subject, WrongResult
from pyfastnn.search.stages import drawn

Array = NDArray[Any]

TRIALS, EPOCHS = 25, 5
ROWS, VALIDATION_ROWS, BATCH = 4900, 1000, 100
FEATURES, HIDDEN, CLASSES = 3072, 50, 10
MOMENTUM, DECAY, LIMIT = 0.9, 0.9, 3.0
SPACE = {"learning_rate": search.log_uniform(1e-6, 1e-3), "weight_decay": search.log_uniform(1e-5, 1e5)}
SEED = 20240007
PIXELS = 64.0
"""Standard deviation of a pixel, about that of CIFAR-10."""
CHECKED = 6
"""Trials that are trained in full before anything is timed."""
TOLERANCE = 1e-3
"""Largest relative difference of the mean loss of an epoch: hundreds of steps carry the rounding on."""


def cases(names: list[str] | None = None) -> list[Case]:
    """Return the one case, on as many threads as the process has now.

    Raises
    ------
    ValueError
        If ``names`` asks for another one.
    """
    for given in names or ():
        if given != "coarse":
            raise ValueError(f"coarse has no case {given!r}, its only one is 'coarse'")
    return [{"rows": ROWS, "trials": TRIALS, "epochs": EPOCHS, "at_once": _core.num_threads()}]


def name(case: Case) -> str:
    """Return ``coarse 25x5``."""
    return f"coarse {case['trials']}x{case['epochs']}"


def params(case: Case) -> list[dict[str, float]]:
    """Return the rate and the penalty of each trial, as `pyfastnn.search.random` draws them."""
    return drawn(SEED)(dict(SPACE), case["trials"], 0)


@lru_cache(maxsize=1)
def data(rows: int) -> tuple[Array, Array, Array, Array]:
    """Return rows like pixels less their mean, with labels (int64), for training and for validation."""
    rng = np.random.default_rng(20240005)
    centers = rng.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    found: list[Array] = []
    for count in (rows, VALIDATION_ROWS):
        y = rng.integers(0, CLASSES, count)
        X = rng.standard_normal((count, FEATURES), dtype=np.float32)
        X += np.float32(0.1) * centers[y]
        X *= np.float32(PIXELS)
        found += [X, y]
    return found[0], found[1], found[2], found[3]


def first_weights() -> dict[str, Array]:
    """Return the weights that every trial starts from, as the lectures draw them: 0.0001 times standard normal."""
    rng = np.random.default_rng(20240006)
    weights: dict[str, Array] = {}
    for layer, (inputs, outputs) in {"linear_1": (FEATURES, HIDDEN), "linear_2": (HIDDEN, CLASSES)}.items():
        weights[f"{layer}.w"] = np.float32(1e-4) * rng.standard_normal((inputs, outputs), dtype=np.float32)
        weights[f"{layer}.b"] = np.zeros(outputs, np.float32)
    return weights


class Search(Subject):
    """Ours: `pyfastnn.search.random`."""

    warm = False

    def __init__(self, case: Case) -> None:
        self.case = case
        self.rows = data(case["rows"])
        self.first = first_weights()

    def check(self) -> dict[str, Any]:
        """Search through the first trials, rows in their order, and return what came of each."""
        study = self._search(min(CHECKED, self.case["trials"]), shuffle=False)
        return {"trials": [[trial.history["loss"] if trial.history else [], trial.score] for trial in study]}

    def run(self, calls: int) -> None:
        """Run whole searches."""
        for _ in range(calls):
            self._search(self.case["trials"], shuffle=True)

    def _search(self, trials: int, shuffle: bool) -> search.Study:
        X, y, X_val, y_val = self.rows
        return search.random(
            self._build,
            SPACE,
            X,
            y,
            X_val=X_val,
            y_val=y_val,
            trials=trials,
            epochs=self.case["epochs"],
            batch_size=BATCH,
            shuffle=shuffle,
            threads=self.case["at_once"],
            seed=SEED,
            verbose=0,
        )

    def _build(self, learning_rate: float, weight_decay: float) -> Trainer:
        model = nn.Sequential(nn.Linear(HIDDEN), nn.ReLU(), nn.Linear(CLASSES))
        model.build((FEATURES,))
        model.load_state_dict(self.first, strict=False)
        rate = optim.Step(learning_rate, epochs=1, factor=DECAY)
        return Trainer(model, optimizer=optim.SGD(rate, momentum=MOMENTUM, weight_decay=weight_decay))


def at_once(case: Case, variant: str) -> int:
    """Return how many trials a peer runs at a time: one, or with ``"side by side"`` as many as ours, on one thread each.

    Raises
    ------
    NotImplementedError
        If this process is not the one for the variant.
    """
    if "side by side" not in variant:
        return 1
    if case["at_once"] == 1 or os.environ.get("OMP_NUM_THREADS") != "1":
        raise NotImplementedError("side by side is for several threads, and for the process whose operations have one")
    return int(case["at_once"])


def subject(case: Case, variant: str = "") -> Subject:
    """Make ours."""
    return Search(case)


def verify(case: Case, answers: Mapping[str, Any]) -> None:
    """Check that the trials agree: how many epochs each had, the loss of each of them, and the validation accuracy.

    Parameters
    ----------
    case : dict
        The case.
    answers : mapping of str to dict
        ``{"trials": [[losses of epochs, accuracy], ...]}`` by label; the first is the base.

    Raises
    ------
    WrongResult
        If they do not, or a trial has another number of epochs.
    """
    base_label, base = next(iter(answers.items()))
    for label, answer in answers.items():
        for number, ((mine, score), (want, wanted)) in enumerate(zip(answer["trials"], base["trials"], strict=True)):
            if len(mine) != len(want):
                raise WrongResult(
                    f"coarse: trial {number} has {len(mine)} epochs of {label}, {len(want)} of {base_label}"
                )
            off = max((abs(a / b - 1) for a, b in zip(mine, want, strict=True)), default=0.0)
            # A row or two of the validation rows may lie on the border of two classes.
            if not off <= TOLERANCE or not abs(score - wanted) <= 2.5 / VALIDATION_ROWS:
                raise WrongResult(
                    f"coarse: trial {number} ends with the losses {mine} and the accuracy {score:g} of {label}, {want} and {wanted:g} of "
                    f"{base_label}; the largest difference allowed is {TOLERANCE:g} of a loss. Nothing is timed"
                )


def report(results: Sequence[Result], peaks: Peaks | None = None) -> str:
    """Return the table of a race: wall times of the whole search, and ours over the peer's."""
    rows = []
    for result in results:
        if result.refused:
            rows.append([result.name, "refused", "", "", ""])
            continue
        for label, found in result.times.items():
            rows.append(
                [
                    f"{result.name} {label}",
                    f"{found.median:.3f}",
                    f"{1e3 * found.median / result.case['trials']:.1f}",
                    ratio_text(found),
                    f"{1 / found.ratio:.2f}x",
                ]
            )
    return format_table(("search", "s", "ms a trial", "ratio", "ours takes"), rows) + f"\n{RATIO_NOTE}"
