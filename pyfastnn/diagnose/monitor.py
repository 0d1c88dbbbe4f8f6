"""What a training run is watched for, and from where on something is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pyfastnn._names import helpful_keywords, unknown

KINDS = (
    "exploding",
    "slow",
    "accuracy_without_loss",
    "overfitting",
    "underfitting",
    "plateau",
    "update_ratio",
    "dead",
    "saturated",
)
"""The verdicts, by kind."""


@dataclass(frozen=True)
class Monitor:
    """What `pyfastnn.Trainer` watches while it trains, and its thresholds.

    Every verdict is said once. All are meant to be right when they come: what might be the first steps, noise or the end of a good run is
    left unsaid.

    Attributes
    ----------
    every : int, default 50
        Statistics are gathered in every such step: the 50th, the 100th and so on by default.
    silence : str or sequence of str
        Kinds of verdicts that are not given: ``"exploding"``, ``"slow"``, ``"accuracy_without_loss"``, ``"overfitting"``,
        ``"underfitting"``, ``"plateau"``, ``"update_ratio"``, ``"dead"``, ``"saturated"``.
    records : int, default 10
        Watched steps in a row that must show what is said of single layers.
    epochs : int, default 10
        Epochs that plateau and underfitting are judged over.
    loss_factor : float, default 3
        ``exploding``: the loss of an epoch is so many times that of the first step.
    little : float, default 0.01
        ``slow``: the loss has moved by less than this part of that of the first epoch, and every update ratio was below a hundredth
        of ``update_ratio`` or the accuracy rises.
    accuracy_gain : float, default 0.05
        ``accuracy_without_loss``: the accuracy has risen by more while the loss barely moves.
    gap : float, default 0.2
        ``overfitting``: accuracy less validation accuracy in three epochs in a row; or, without accuracy, the part of the validation
        loss by which it exceeds its least value while the loss falls (twice this).
    no_gap : float, default 0.02
        ``underfitting``: mean accuracy and validation accuracy are closer, below ``good_accuracy``, and neither the loss nor they improve.
    good_accuracy : float, default 0.9
        See ``no_gap``.
    improvement : float, default 0.001
        ``plateau``: the least loss of the last ``epochs`` epochs is not smaller than the one before by this part.
    update_ratio : float, default 1e-3
        The wanted norm of an update over that of its weight; ``update_ratio`` is said ten times above while the loss
        stays above half of the first one and does not fall,
        or ten times below in every record of the run while the loss barely moves.
    dead : float, default 0.5
        ``dead``: share of the units of a ReLU that answer 0 to every row of ``records`` batches in a row.
    saturated : float, default 0.9
        ``saturated``: share of answers of a tanh or sigmoid beyond 0.99 of their range in
        ``records`` batches in a row, the loss being above a tenth of the first one.

    Raises
    ------
    TypeError, ValueError
        If a number is of the wrong kind or out of range, or a kind is unknown.
    """

    every: int = 50
    silence: str | tuple[str, ...] = ()
    records: int = 10
    epochs: int = 10
    loss_factor: float = 3.0
    little: float = 0.01
    accuracy_gain: float = 0.05
    gap: float = 0.2
    no_gap: float = 0.02
    good_accuracy: float = 0.9
    improvement: float = 0.001
    update_ratio: float = 1e-3
    dead: float = 0.5
    saturated: float = 0.9

    def __post_init__(self) -> None:
        """Check all numbers."""
        silence = (self.silence,) if isinstance(self.silence, str) else tuple(self.silence)
        for kind in silence:
            if kind not in KINDS:
                raise ValueError(f"Monitor: 'silence': {unknown('verdict', kind, KINDS)}")
        object.__setattr__(self, "silence", silence)
        for each in fields(self):
            value: Any = getattr(self, each.name)
            if each.name == "silence":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Monitor: {each.name!r} is {value!r}, expected a number")
            whole = isinstance(each.default, int)
            if whole and (not isinstance(value, int) or value < 1):
                raise ValueError(f"Monitor: {each.name!r} is {value!r}, expected a whole number of 1 or more")
            if not whole and not 0 < value < math.inf:
                raise ValueError(f"Monitor: {each.name!r} is {value!r}, expected a number above 0")

    def config(self) -> dict[str, Any]:
        """Return all settings, as `Monitor` takes them."""
        return {**asdict(self), "silence": list(self.silence)}


Monitor.__init__ = helpful_keywords(Monitor.__init__)  # type: ignore[method-assign]


def checked_monitor(monitor: Monitor | bool | None) -> Monitor | None:
    """Return what a Trainer watches with; True is the default, None and False are nothing."""
    if monitor is None or monitor is False:
        return None
    if monitor is True:
        return Monitor()
    if not isinstance(monitor, Monitor):
        raise TypeError(f"Trainer: 'monitor' is {monitor!r}, expected True, None or a diagnose.Monitor")
    return monitor


def from_config(config: Any) -> Monitor | None:
    """Return the monitor of a checkpoint."""
    if config is None:
        return None
    if not isinstance(config, dict) or not isinstance(config.get("silence", ()), Sequence):
        raise ValueError(f"the settings of the monitor are {config!r}")
    return Monitor(**config)
