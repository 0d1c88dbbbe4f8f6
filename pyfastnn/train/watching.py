"""What a fit does with its `pyfastnn.diagnose.Monitor`: which steps of a run are watched, what is kept of them, and what is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._warnings import warn
from pyfastnn.diagnose.monitor import Monitor
from pyfastnn.diagnose.statistics import Records
from pyfastnn.diagnose.verdicts import Seen, TrainingWarning, Verdict, new_verdicts
from pyfastnn.train.probes import Probes

if TYPE_CHECKING:
    from pyfastnn.train.passes import Pass
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

_OFTEN = 6
"""Of 2**k to 2**(k + 1) epochs about 2**5 are judged, so that reading the history never takes long beside making it."""


@dataclass
class Watching:
    """The watching of one fit.

    Attributes
    ----------
    trainer : Trainer
        Its history is written.
    monitor : Monitor
        Its monitor.
    probes : Probes
        What the watched step of its plans writes.
    """

    trainer: Trainer
    monitor: Monitor
    probes: Probes

    def request(self, steps: int) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return arrays to bind and arguments of `CpuPlan.run` for the next steps; nothing if none of them is watched."""
        records = self._records(steps)
        if not records:
            return {}, {}
        every = self.monitor.every
        offset = (self.trainer.step_count + 1) % every
        return self.probes.arrays(records), {"also": "watched", "every": every, "offset": offset}

    def _records(self, steps: int) -> int:
        begun, every = self.trainer.step_count, self.monitor.every
        return (begun + steps) // every - begun // every

    def keep(self, results: dict[str, Array], losses: Array, steps: int) -> None:
        """Keep what the watched ones of the steps just done have written; ``step_count`` does not have them yet."""
        records = self._records(steps)
        if not records:
            return
        every, begun = self.monitor.every, self.trainer.step_count
        numbers = (begun // every + 1 + np.arange(records, dtype=np.int64)) * every
        part = Records(
            numbers,
            np.full(records, self.trainer.epoch + 1, np.int64),
            losses[numbers - begun - 1],
            {name: array[:records] for name, array in results.items()},
            self.probes.activations,
        )
        self.trainer.history.statistics.parts.append(part)

    def judge(self, steps: int, batch: int) -> None:
        """Say what the epoch just done has shown, each verdict once.

        Parameters
        ----------
        steps : int
            Steps of the epoch.
        batch : int
            Rows of one.
        """
        trainer = self.trainer
        stride = 1 << max(trainer.epoch.bit_length() - _OFTEN, 0)
        every, done = self.monitor.every, trainer.step_count
        if trainer.epoch % stride or done // every == max(done - steps * stride, 0) // every:
            return
        for verdict in new_verdicts(Seen(trainer.history, self.monitor, done, trainer.first_loss, batch, steps)):
            trainer.history.verdicts.append(verdict)
            warn(str(verdict), TrainingWarning)


def stopped(trainer: Trainer, step: int, text: str, remedy: str, value: float) -> None:
    """Keep the verdict that the guard stopped a run, if the trainer keeps any."""
    monitor, verdicts = trainer.monitor, trainer.history.verdicts
    if monitor is None or "exploding" in monitor.silence or any(verdict.kind == "exploding" for verdict in verdicts):
        return
    verdicts.append(Verdict("exploding", text, remedy, step, value=value))


def watching(trainer: Trainer, probes: Probes | None) -> Watching | None:
    """Return the watching of a fit, if there is to be any."""
    return None if trainer.monitor is None or probes is None else Watching(trainer, trainer.monitor, probes)


def steps_of(data: Pass, rows: int) -> int:
    """Return the steps that so many rows of a pass are."""
    return -(-rows // data.batch)
