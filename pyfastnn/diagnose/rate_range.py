"""The learning-rate range test: one short run whose rate grows until the loss explodes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords
from pyfastnn.diagnose.probe import first_block, quiet
from pyfastnn.nn.layer import number, whole

if TYPE_CHECKING:
    import os

    from pyfastnn.train.passes import Pass
    from pyfastnn.train.trainer import Trainer

Array = NDArray[np.float64]

_LEAST_FALL = 0.02
"""A loss that falls by a smaller part of where it began has not moved: there is nothing to suggest."""
_WINDOW = 5
"""Steps to either side that a slope is taken over."""


@dataclass(frozen=True, repr=False)
class LearningRateRange:
    """What `lr_find` saw; it prints as a line, and ``plot()`` draws it.

    Attributes
    ----------
    rates : ndarray of float64, shape (steps,)
        Learning rate of each step that was done.
    losses : ndarray of float64, shape (steps,)
        Loss of each batch, before its update.
    smoothed : ndarray of float64, shape (steps,)
        Running mean of the losses.
    suggestion : float
        The rate where the smoothed loss falls fastest over the logarithm of the rate, between where it begins and its least value; NaN
        if it never falls by 2 %.
    best : float
        The rate of the least smoothed loss: already too large to train with, a tenth of it is a usual choice too. NaN if every loss is.
    stop_reason : str
        ``"finished"``, ``"limit"`` (the loss exceeded the multiple of the best) or ``"nonfinite"``.
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float
    best: float
    stop_reason: str

    def __str__(self) -> str:
        """Return the suggestion in one line."""
        why = {
            "finished": "to the end of the range",
            "limit": "until the loss exploded",
            "nonfinite": "until the loss was not finite",
        }
        ran = f"{len(self.rates)} steps from {self.rates[0]:.1e} to {self.rates[-1]:.1e}, {why[self.stop_reason]}"
        if math.isnan(self.suggestion):
            return f"no rate to suggest: the loss never falls ({ran})"
        return (
            f"learning_rate={self.suggestion:.1e}: there the loss falls fastest; it is least at {self.best:.1e} ({ran})"
        )

    __repr__ = __str__

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw loss over rate, with the suggestion.

        Parameters
        ----------
        path : path, optional
            Where to save the picture; the file ending says the format.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        ImportError
            If matplotlib is missing; names the extra to install.
        """
        from pyfastnn.report.rate_range import plot_learning_rates

        return plot_learning_rates(self, path)


@helpful_keywords
def lr_find(
    trainer: Trainer,
    X: Any,
    y: Any = None,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
    smoothing: float = 0.9,
    stop_factor: float = 4.0,
) -> LearningRateRange:
    """Train with a rate that grows from step to step, and say which one to use.

    Parameters
    ----------
    trainer : Trainer
        Not changed, nor its model: a copy trains, with the trainer's optimizer and seed. A schedule has no say.
    X, y : array_like
        Training rows and targets, as for `Trainer.fit`. Of a stream the first block is trained on, its weights left out.
    low, high : float, default 1e-7 and 10
        First and last rate, above 0; between them the rates grow by one factor.
    steps : int, default 200
        Steps to take at most, 10 or more; the rows are gone through as often as that needs.
    batch_size : int, default 32
        Rows a step.
    smoothing : float, default 0.9
        In [0, 1): what a step leaves of the running mean of the losses, ``mean = smoothing * mean + (1 - smoothing) * loss``, divided by
        ``1 - smoothing**step`` so that it does not begin at 0.
    stop_factor : float, default 4
        Above 1: the test ends when the smoothed loss exceeds this times its least value so far, or is not finite.

    Returns
    -------
    LearningRateRange
        Prints the suggestion; ``plot()`` draws the curve.

    Raises
    ------
    TypeError, ValueError
        If an argument or the data do not fit.
    RuntimeError
        If no parameter is trainable.

    Notes
    -----
    Smith, "Cyclical learning rates for training neural networks" (2015), section 3.3, with a rate that grows exponentially. The slope at a
    step is that of the least squares line through the 5 smoothed losses to either side.

    Examples
    --------
    >>> import pyfastnn as fnn
    >>> from pyfastnn import nn
    >>> X, y = fnn.data.load_digits()
    >>> trainer = fnn.Trainer(nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(10), preprocess=fnn.data.Standardize()))
    >>> found = fnn.diagnose.lr_find(trainer, X, y)
    >>> 1e-4 < found.suggestion < 1
    True
    >>> trainer.optimizer.learning_rate = found.suggestion
    """
    from pyfastnn.train.loop import refuse_nonfinite
    from pyfastnn.train.passes import Pass
    from pyfastnn.train.prepare import as_stream, stream_data, training_data
    from pyfastnn.train.settings import check_trainable
    from pyfastnn.train.trainer import Trainer

    owner = "lr_find"
    if not isinstance(trainer, Trainer):
        raise TypeError(f"{owner}: {trainer!r} is no Trainer: write Trainer(model)")
    low = number(owner, "low", low, 0.0, math.inf, open_low=True)
    high = number(owner, "high", high, low, math.inf, open_low=True)
    steps = whole(owner, "steps", steps, 10)
    batch = whole(owner, "batch_size", batch_size)
    smoothing = number(owner, "smoothing", smoothing, 0.0, 1.0)
    stop_factor = number(owner, "stop_factor", stop_factor, 1.0, math.inf, open_low=True)
    check_trainable(owner, trainer.model, [head.output for head in trainer.heads])

    own = quiet(copy.deepcopy(trainer))
    stream = as_stream(X)
    if stream is not None:
        X, y = first_block(owner, stream, y)
        stream_data(own, stream)
    data = Pass(training_data(own, X, y), batch, own.heads)
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    mean, least, reason = 0.0, math.inf, "finished"
    for step, loss in enumerate(_trained(own, data, rates), 1):
        losses.append(loss)
        mean = smoothing * mean + (1.0 - smoothing) * loss
        smoothed.append(mean / (1.0 - smoothing**step))
        if not math.isfinite(loss):
            refuse_nonfinite(data)
            reason = "nonfinite"
            break
        least = min(least, smoothed[-1])
        if smoothed[-1] > stop_factor * least > 0.0:
            reason = "limit"
            break
    done = len(losses)
    curve = np.array(smoothed)
    suggestion, best = _suggested(rates[:done], curve)
    return LearningRateRange(rates[:done], np.array(losses), curve, suggestion, best, reason)


def _trained(trainer: Trainer, data: Pass, rates: Array) -> Iterator[float]:
    """Take a step at each rate and yield its loss."""
    from pyfastnn.backends.cpu import HYPER

    compiled = trainer._compile(data.batch, form=data.form)
    # Whole batches alone: the loss of a last one of few rows would be a jump in the curve.
    in_epoch = max(1, data.rows // data.batch)
    arrays = dict(data.arrays)
    try:
        for at, rate in enumerate(rates):
            epoch, place = divmod(at, in_epoch)
            if place == 0:
                data.shuffle(trainer.seed, trainer.epoch + epoch)
            arrays["index"] = data.arrays["index"][place * data.batch : (place + 1) * data.batch]
            hyper = trainer.hyper_row(compiled.groups).copy()
            hyper[..., HYPER["learning_rate"]] = rate * np.array(compiled.groups.factors)
            _, reason = compiled.train.run(
                "train", data.batch, data.batch, arrays, hyper=hyper, threads=trainer.threads
            )
            trainer.step_count += 1
            if reason == "interrupted":
                raise KeyboardInterrupt
            yield float(arrays["loss"][0])
    finally:
        data.unbind(compiled.train)


def _suggested(rates: Array, smoothed: Array) -> tuple[float, float]:
    """Return the rate of the steepest descent and that of the least loss; NaN where there is none."""
    finite = np.isfinite(smoothed)
    count = len(smoothed) if finite.all() else int(np.argmin(finite))
    if not count:
        return math.nan, math.nan
    lowest = int(np.argmin(smoothed[:count]))
    best = float(rates[lowest])
    # Where a running mean begins it is the loss of few batches: what the loss began with is the largest before the least.
    start = float(smoothed[: lowest + 1].max())
    if lowest < 2 or start - smoothed[lowest] < _LEAST_FALL * abs(start):
        return math.nan, best
    x = np.log(rates[: lowest + 1])
    slopes = np.zeros(lowest + 1)
    for k in range(lowest + 1):
        near = slice(max(0, k - _WINDOW), min(lowest + 1, k + _WINDOW + 1))
        distance = x[near] - x[near].mean()
        slopes[k] = float(distance @ smoothed[near]) / float(distance @ distance)
    return float(rates[int(np.argmin(slopes))]), best
