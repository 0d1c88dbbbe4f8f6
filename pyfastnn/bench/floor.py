"""The physical floor of a training step: its arithmetic at the measured peak plus its compulsory bytes, nothing overlapped.

Compulsory are, for one step: the rows of the batch, read where the data set lies and written once; every activation (a batch norm has one
of its own), written, read forward, read backward, and its gradient written; every parameter read forward, read backward, read and
written by the update; its gradient written and read; the optimizer's arrays read and written. Rows come at the read bandwidth of the
level that holds the data set beside the rest, everything else at the update bandwidth of the level that holds the working set of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyfastnn.bench.peaks import Peaks, level_of
from pyfastnn.bench.tasks import Task

_SLOTS = {"sgd": 0, "momentum": 1, "adam": 2}
_FLOAT = 4


@dataclass(frozen=True)
class Floor:
    """The floor of a task, in seconds.

    Attributes
    ----------
    arithmetic, gather, traffic : float
        The matrix products at the peak; reading the rows of the batch; all other bytes.
    level : str
        Where the working set of a step lies.
    """

    arithmetic: float
    gather: float
    traffic: float
    level: str

    @property
    def seconds(self) -> float:
        """All three, one after the other."""
        return self.arithmetic + self.gather + self.traffic


def floor(task: Task, peaks: Peaks) -> Floor:
    """Return the floor of a task on a machine with these peaks.

    Parameters
    ----------
    task : Task
        The task.
    peaks : dict
        From `pyfastnn.bench.peaks.measure`, of as many threads as the floor is for.
    """
    parameters = activations = 0
    for layer in task.layers:
        if layer[0] == "linear":
            parameters += layer[1] * layer[2] + layer[2]
            activations += layer[2]
        elif layer[0] == "batch_norm":
            parameters += 2 * layer[1]
            activations += layer[1]
    slots = _SLOTS[task.optimizer]
    batch = _FLOAT * task.batch * task.features
    values = _FLOAT * task.batch * activations
    weights = _FLOAT * parameters
    working_set = weights * (2 + slots) + batch + 2 * values
    moved = weights * (2 + 2 + 2 + 2 * slots) + batch + 4 * values
    level = level_of(peaks, working_set)
    data = level_of(peaks, _FLOAT * task.rows * task.features + working_set)
    return Floor(
        task.flop / peaks["gflops"] * 1e-9,
        batch / peaks["read"][data] * 1e-9,
        moved / peaks["update"][level] * 1e-9,
        level,
    )
