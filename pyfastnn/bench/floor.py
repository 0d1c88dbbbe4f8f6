"""The physical floor of a training step: its arithmetic at the measured peak plus its compulsory bytes, nothing overlapped.

The arithmetic is that of `pyfastnn.bench.tasks.Task.flop`: for a linear layer 2 n inputs outputs for the output and as much for each of
two gradients, for a convolution 2 n (pixels of the output) (kernel height) (kernel width) inputs outputs, and no gradient of the first
layer's input.

Compulsory are, for one step: the rows of the batch, read where the data set lies and written once; every activation (a batch norm and a
pool have one of their own, a ReLU has none), written, read forward, read backward, and its gradient written; every parameter read
forward, read backward, read and written by the update; its gradient written and read; the optimizer's arrays read and written. Rows come
at the read bandwidth of the level that holds the data set beside the rest, everything else at the update bandwidth of the level that
holds the working set of a step.

A convolution's gradient after a max pool is zero but for one of the pixels of a window, and whoever uses that does less arithmetic, and
moves less, than is counted here: a net of convolutions can be quicker than this floor.
"""

from __future__ import annotations

import math
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
    for (kind, *sizes), shape in zip(task.layers, task.shapes, strict=True):
        if kind == "linear":
            parameters += sizes[0] * sizes[1] + sizes[1]
        elif kind == "conv2d":
            parameters += sizes[0] ** 2 * sizes[1] * sizes[2] + sizes[2]
        elif kind == "batch_norm":
            parameters += 2 * sizes[0]
        if kind in ("linear", "conv2d", "batch_norm", "max_pool2d"):
            activations += math.prod(shape)
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
