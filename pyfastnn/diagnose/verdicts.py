"""Verdicts about a training run, in words: each a function of what was recorded, so that a resumed run goes on as it was.

They are conservative. Single layers are judged by several records in a row, curves by several epochs; where a good run could look the same,
nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfastnn.diagnose.monitor import Monitor
from pyfastnn.diagnose.statistics import SUMMARY, Records

if TYPE_CHECKING:
    from pyfastnn.train.history import History

_FEW_ROWS = 16
"""Units that answer 0 to so few rows are nothing unusual."""
_LAST = 3
"""Epochs in a row that must show a gap."""
_SOME = 5
"""Epochs in which updates that are too large bring nothing."""
_SOLVED = 0.1
"""Where the loss has come down to this part of the first one, saturated units are what the task asks for."""


class TrainingWarning(RuntimeWarning):
    """A verdict about a training run."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a training run, and what to do.

    Attributes
    ----------
    kind : str
        One of ``pyfastnn.diagnose.monitor.KINDS``.
    text : str
        What was seen.
    remedy : str
        What may help.
    step : int
        Step of the run behind which it was said.
    layer : str
        The layer or parameter it is about, if there is one.
    value : float
        The number it stands on.
    """

    kind: str
    text: str
    remedy: str
    step: int
    layer: str = ""
    value: float = math.nan

    def __str__(self) -> str:
        """Say it in one line."""
        where = f"step {self.step}, {self.layer}" if self.layer else f"step {self.step}"
        return f"{where}: {self.text}; {self.remedy}"

    def config(self) -> dict[str, Any]:
        """Return it as JSON can hold it: numbers that are not finite as None."""
        return {**asdict(self), "value": self.value if math.isfinite(self.value) else None}


def from_config(config: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `Verdict.config` describes."""
    return Verdict(**{**config, "value": math.nan if config["value"] is None else float(config["value"])})


@dataclass(frozen=True)
class Seen:
    """What verdicts are made from.

    Attributes
    ----------
    history : History
        Rows and statistics so far.
    monitor : Monitor
        Thresholds.
    step : int
        Steps done.
    first_loss : float
        Loss of the very first step.
    batch : int
        Rows of a step.
    epoch_steps : int
        Steps of an epoch.
    """

    history: History
    monitor: Monitor
    step: int
    first_loss: float
    batch: int
    epoch_steps: int

    def still(self, epochs: int, improvement: float) -> bool:
        """Return whether the last epochs, which are as many steps as records are judged over, have brought nothing.

        An equal number before them must be there to compare with. Runs of few steps are left alone: those of full batches end so.
        """
        losses = self.column("loss")
        enough = epochs * self.epoch_steps >= self.monitor.records * self.monitor.every
        if not enough or len(losses) < 2 * epochs or not all(map(math.isfinite, losses)):
            return False
        before, now = min(losses[:-epochs]), min(losses[-epochs:])
        return now > before - improvement * abs(before)

    def column(self, name: str) -> list[float]:
        """Return a column of the history; empty unless every epoch has it."""
        rows = self.history.rows
        return [row[name] for row in rows] if all(name in row for row in rows) else []

    @property
    def rate(self) -> str:
        """The learning rate of the last epoch, as it is shown."""
        return f"{self.history.rows[-1].get('learning_rate', math.nan):.3g}"

    def records(self) -> Records | None:
        """Return as many of the last records as must agree."""
        return self.history.statistics.last(self.monitor.records)

    def verdict(self, kind: str, text: str, remedy: str, value: float, layer: str = "") -> Verdict:
        """Return a verdict at this step."""
        return Verdict(kind, text, remedy, self.step, layer, value)


def new_verdicts(seen: Seen) -> list[Verdict]:
    """Return what can be said now and was not said before."""
    said = {verdict.kind for verdict in seen.history.verdicts}
    found = []
    for kind, judge in JUDGES.items():
        if kind not in said and kind not in seen.monitor.silence:
            verdict = judge(seen)
            if verdict is not None:
                found.append(verdict)
    return found


def _exploding(seen: Seen) -> Verdict | None:
    loss, first = seen.column("loss")[-1], seen.first_loss
    if math.isfinite(loss) and not (first > 0 and loss > seen.monitor.loss_factor * first):
        return None
    return seen.verdict(
        "exploding",
        f"the loss is {loss:.4g}, it began at {first:.4g}",
        f"try a smaller learning_rate than {seen.rate}",
        loss,
    )


def _stands(seen: Seen) -> bool:
    """Return whether the loss barely moves since updates are too small, and not since the run is at its end.

    Updates far below their weights say so, or an accuracy that rises: what is at its end does not get better.
    """
    loss, accuracy, statistics = seen.column("loss"), seen.column("accuracy"), seen.history.statistics
    if len(loss) < _LAST or len(statistics) < _LAST or not math.isfinite(loss[-1]):
        return False
    if abs(loss[0] - loss[-1]) >= seen.monitor.little * abs(loss[0]):
        return False
    rises = bool(accuracy) and accuracy[-1] - accuracy[0] > seen.monitor.accuracy_gain
    return rises or _largest_ratio(statistics.parts) < seen.monitor.update_ratio / 100


def _largest_ratio(parts: Sequence[Records]) -> float:
    """Return the largest update ratio of all; NaN if there is none."""
    found = [part.ratios(weight) for part in parts for weight in _weights(part)]
    known = np.concatenate(found) if found else np.zeros(0)
    known = known[np.isfinite(known)]
    return float(known.max()) if known.size else math.nan


def _weights(part: Records) -> list[str]:
    return [name[len("update(") : -1] for name in part.results if name.startswith("update(")]


def _slow(seen: Seen) -> Verdict | None:
    if not _stands(seen):
        return None
    loss = seen.column("loss")
    return seen.verdict(
        "slow",
        f"the loss barely moves: {loss[0]:.6g} in the first epoch, {loss[-1]:.6g} in the last",
        f"try a larger learning_rate than {seen.rate}",
        loss[-1],
    )


def _accuracy_without_loss(seen: Seen) -> Verdict | None:
    accuracy = seen.column("accuracy")
    if not accuracy or not _stands(seen) or accuracy[-1] - accuracy[0] <= seen.monitor.accuracy_gain:
        return None
    return seen.verdict(
        "accuracy_without_loss",
        f"the accuracy rose from {accuracy[0]:.3f} to {accuracy[-1]:.3f} though the loss barely moves: the softmax is still nearly even, "
        "but small changes in the right direction already decide which class has the highest score",
        f"it does learn, slowly: try a larger learning_rate than {seen.rate}",
        accuracy[-1],
    )


def _overfitting(seen: Seen) -> Verdict | None:
    accuracy, validation = seen.column("accuracy")[-_LAST:], seen.column("val_accuracy")[-_LAST:]
    if len(validation) == _LAST and len(accuracy) == _LAST:
        gap = min(a - v for a, v in zip(accuracy, validation, strict=True))
        text = f"the accuracy is {accuracy[-1]:.3f}, on validation rows {validation[-1]:.3f}"
        if not gap > seen.monitor.gap:
            return None
    else:
        loss, val_loss = seen.column("loss"), seen.column("val_loss")
        if len(val_loss) < 2 * _LAST or not min(val_loss) > 0:
            return None
        gap = min(val_loss[-_LAST:]) / min(val_loss) - 1
        falls = max(loss[-_LAST:]) < loss[val_loss.index(min(val_loss))]
        text = f"the validation loss rose from {min(val_loss):.4g} to {val_loss[-1]:.4g} while the loss fell to {loss[-1]:.4g}"
        if not gap > 2 * seen.monitor.gap or not falls:
            return None
    return seen.verdict(
        "overfitting",
        text,
        "try more regularisation (weight_decay, dropout, augmentation), more rows, or fewer epochs",
        gap,
    )


def _underfitting(seen: Seen) -> Verdict | None:
    m = seen.monitor
    accuracy, validation = seen.column("accuracy"), seen.column("val_accuracy")
    if not validation or not seen.still(m.epochs, 10 * m.improvement):
        return None
    last, other = np.array(accuracy[-m.epochs :]), np.array(validation[-m.epochs :])
    if last.max() >= m.good_accuracy or abs(last.mean() - other.mean()) > m.no_gap:
        return None
    return seen.verdict(
        "underfitting",
        f"the accuracy stands at {last.mean():.3f} and is no higher than the {other.mean():.3f} on validation rows",
        "try a larger model, or less regularisation",
        float(last.mean() - other.mean()),
    )


def _plateau(seen: Seen) -> Verdict | None:
    loss = seen.column("loss")
    m = seen.monitor
    if not seen.still(m.epochs, m.improvement) or min(loss) < m.little * loss[0]:
        return None
    return seen.verdict(
        "plateau",
        f"the loss has not fallen for {m.epochs} epochs: {min(loss):.4g} at best",
        f"try a smaller learning_rate than {seen.rate} from here (optim.ReduceOnPlateau), or stop",
        min(loss),
    )


def _update_ratio(seen: Seen) -> Verdict | None:
    wanted, records = seen.monitor.update_ratio, seen.records()
    if records is None:
        return None
    worst, layers, value = "", 0, math.nan
    loss = seen.column("loss")
    # Where a good run ends, updates may be large for the last time: it has come down by then.
    if loss[-1] > seen.first_loss / 2 and seen.still(_SOME, 0.01):
        for weight in _weights(records):
            low = float(records.ratios(weight).min())
            if low > 10 * wanted:
                layers += 1
                if not worst or low > value:
                    worst, value = weight, low
    if worst:
        text = f"updates have been at least {value:.1g} of the weights for {len(records.steps)} records, and the loss does not fall"
        remedy = f"about {wanted:g} is healthy: try a smaller learning_rate than {seen.rate}"
        return seen.verdict("update_ratio", text + _others(layers), remedy, value, worst)
    if len(loss) < _LAST or not loss[-1] > (1 - 5 * seen.monitor.little) * loss[0]:
        return None
    largest = _largest_ratio(seen.history.statistics.parts)
    if largest < wanted / 10 and not _stands(seen):
        return seen.verdict(
            "update_ratio",
            f"no update was larger than {largest:.1g} of its weights",
            f"about {wanted:g} is healthy: try a larger learning_rate than {seen.rate}",
            largest,
        )
    return None


def _others(layers: int) -> str:
    return f" (and {layers - 1} more)" if layers > 1 else ""


def _dead(seen: Seen) -> Verdict | None:
    if seen.batch < _FEW_ROWS:
        return None
    return _of_layers(
        seen,
        "dead",
        ("relu_forward",),
        seen.monitor.dead,
        "of the units answer 0 to every row",
        "try a smaller learning_rate, weights drawn by He's rule with biases of 0, or nn.LeakyReLU",
    )


def _saturated(seen: Seen) -> Verdict | None:
    if not seen.column("loss")[-1] > _SOLVED * seen.first_loss:
        return None
    return _of_layers(
        seen,
        "saturated",
        ("tanh_forward", "sigmoid_forward"),
        seen.monitor.saturated,
        "of the answers lie at the ends of the range, where gradients vanish",
        "try smaller first weights (Xavier's rule), a smaller learning_rate, nn.BatchNorm before it, or nn.ReLU",
    )


def _of_layers(seen: Seen, kind: str, ops: tuple[str, ...], bound: float, text: str, remedy: str) -> Verdict | None:
    """Return a verdict on the worst layer whose share is above the bound in every record."""
    records = seen.records()
    if records is None:
        return None
    shares = {
        layer: float(records.results[f"summary({layer})"][:, SUMMARY.index(kind)].min())
        for layer, op in records.ops.items()
        if op in ops
    }
    bad = {layer: share for layer, share in shares.items() if share >= bound}
    if not bad:
        return None
    worst = max(bad, key=lambda layer: bad[layer])
    said = f"{bad[worst]:.0%} {text} in {len(records.steps)} records in a row{_others(len(bad))}"
    return seen.verdict(kind, said, remedy, bad[worst], worst)


JUDGES: Mapping[str, Callable[[Seen], Verdict | None]] = {
    "exploding": _exploding,
    "slow": _slow,
    "accuracy_without_loss": _accuracy_without_loss,
    "overfitting": _overfitting,
    "underfitting": _underfitting,
    "plateau": _plateau,
    "update_ratio": _update_ratio,
    "dead": _dead,
    "saturated": _saturated,
}
"""What looks for each kind of verdict."""
