"""The measurement behind `Trainer.profile`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.bench.breakdown import Profile, profile_plan
from pyfastnn.graph import BATCH
from pyfastnn.nn.layer import number
from pyfastnn.train.passes import Pass
from pyfastnn.train.prepare import training_data

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

_DEFAULT_BATCH = 32
_SAMPLE_ROWS = 20000
"""Rows of a sample, at most: short enough that some samples are undisturbed on a busy machine."""


def profile(trainer: Trainer, X: Any, y: Any, batch_size: int | None, seconds: float) -> Profile:
    """See `pyfastnn.Trainer.profile`."""
    number("profile", "seconds", seconds, 0.0, math.inf)
    if batch_size is None:
        found = trainer._current(None)
        batch_size = _DEFAULT_BATCH if found is None else found.batch
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"profile: 'batch_size' is {batch_size!r}, expected a whole number of 1 or more")
    data = Pass(training_data(trainer, X, y), int(batch_size), trainer.heads)
    compiled = trainer._compile(data.batch, form=data.form)
    plan = compiled.train
    state = {**trainer.model.arrays(), **trainer.slots}
    kept = {k: v.copy() for k, v in state.items()}
    # Whole batches alone: the last one of an epoch may be smaller.
    count = max(1, min(data.rows, _SAMPLE_ROWS) // data.batch)
    hyper = trainer.hyper_rows(compiled.groups, count)
    data.arrays["index"] = np.random.default_rng(trainer.seed).permutation(data.rows)[: count * data.batch]

    def sample(ns: NDArray[np.int64]) -> int:
        steps, reason = plan.run(
            "train",
            count * data.batch,
            data.batch,
            data.arrays,
            hyper=hyper,
            threads=trainer.threads,
            step_ns=ns,
        )
        for name, array in kept.items():
            state[name][...] = array
        if reason == "interrupted":
            raise KeyboardInterrupt
        return steps

    shapes = {k: v.shape for k, v in plan.graphs["train"].values.items() if k in data.arrays and len(v.shape) == 1}
    sizes = {
        shape[0]: len(data.arrays[k]) for k, shape in shapes.items() if isinstance(shape[0], str) and shape[0] != BATCH
    }
    threads = trainer.threads or _core.num_threads()
    try:
        sample(np.zeros(len(plan.native.layout("train")), np.int64))
        return profile_plan(
            plan, sample, batch=data.batch, rows=data.rows, threads=threads, seconds=seconds, sizes=sizes
        )
    finally:
        data.unbind(plan)
        for name, array in kept.items():
            state[name][...] = array
