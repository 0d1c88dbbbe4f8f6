"""Single training steps: what does not change from one to the next is made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._core import batch_fits

if TYPE_CHECKING:
    from pyfastnn.train.compiled import Compiled
    from pyfastnn.train.passes import Pass
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

_OF_ROWS = ("X", "columns", "starts", "y", "weights")
"""What the names of the arrays begin with that every batch has its own of."""


class Stepper:
    """Steps of one trainer on batches of one size.

    Parameters
    ----------
    trainer : Trainer
        Its plans are compiled.
    compiled : Compiled
        Those plans.
    data : Pass
        The rows of the last step, checked.
    """

    def __init__(self, trainer: Trainer, compiled: Compiled, data: Pass) -> None:
        classes = trainer.model.classes_
        # One input, one output, no weights, not sparse: the next batch needs no more than two arrays.
        self.given = [name for name in data.arrays if name.split(".")[0] in _OF_ROWS]
        self.plain = sorted(self.given) == ["X", "y"]
        codes = isinstance(classes, np.ndarray) and np.array_equal(classes, np.arange(len(classes)))
        self.labels = len(classes) if codes else 0
        self.classes = classes
        self.rows = data.rows
        self.items = data.arrays["X"].size // data.rows if self.plain else 0
        self.compiled = compiled
        self.loss = trainer._loss
        # Class weights by label are a dict, which may be changed in place; what else a loss is made of is fixed.
        weighing = any(arrays for _, arrays in trainer.loss_arrays.values())
        self.weighing = trainer.heads[0].loss if weighing else None
        self.settings = None if self.weighing is None else self.weighing.config()
        self.slots = trainer.slots
        self.native = compiled.train.native
        self.arrays = {**data.arrays, **dict.fromkeys(self.given)}
        self.losses = data.arrays["loss"]

    def fits(self, trainer: Trainer, X: Any, y: Any) -> bool:
        """Return whether nothing has changed since, and these rows and labels need no conversion.

        What is turned down goes through every check and conversion of `Trainer.fit`.
        """
        return (
            self.plain
            and batch_fits(X, y, self.rows, self.items, self.labels)
            and trainer._current() is self.compiled
            and trainer._loss is self.loss
            and (self.weighing is None or self.weighing.config() == self.settings)
            and trainer.slots is self.slots
            and trainer.model.classes_ is self.classes
        )

    def run(self, trainer: Trainer, given: dict[str, Array]) -> str:
        """Take one step and return why it ended; the loss is ``losses[0]``."""
        arrays = self.arrays
        arrays.update(given)
        hyper = trainer.hyper_row(self.compiled.groups)
        try:
            return self.native.run("train", self.rows, self.rows, arrays, hyper=hyper, threads=trainer.threads)[1]
        finally:
            for name in self.given:
                arrays[name] = None
