"""Many fits side by side in one process: searches, folds, ensembles."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn._inputs import Csr, as_csr, as_rows, is_sparse
from pyfastnn.train.history import History
from pyfastnn.train.interrupts import HeldInterrupts
from pyfastnn.train.prepare import as_stream
from pyfastnn.train.settings import is_whole
from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]


class TrainManyError(RuntimeError):
    """Some trainers of `train_many` failed; the others are trained.

    Attributes
    ----------
    errors : dict of int to Exception
        What each failed trainer raised, by its place in the list.
    """

    def __init__(self, errors: dict[int, Exception], count: int) -> None:
        self.errors = errors
        first = min(errors)
        error = errors[first]
        super().__init__(
            f"train_many: {len(errors)} of {count} trainers failed, the others are trained; "
            f"trainers[{first}]: {type(error).__name__}: {error}"
        )


def train_many(
    trainers: Sequence[Trainer],
    X: Any,
    y: Any = None,
    *,
    rows: Sequence[Any] | None = None,
    X_val: Any = None,
    y_val: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    shuffle: bool = True,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    threads: int | None = None,
) -> list[History]:
    """Train several trainers at once, each on one thread.

    For nets too small to be worth several threads this uses all cores: a fit is a native call an epoch, without the GIL. Every
    trainer ends with the bits that ``trainer.fit`` gives it alone, whatever runs beside it.

    Parameters
    ----------
    trainers : sequence of Trainer
        All different, with models of their own.
    X, y : array_like
        Rows and targets for all, as for `Trainer.fit`; read in place by all of them. A stream is read by each on its own.
    rows : sequence of array_like of int or None, optional
        For each trainer the numbers of the rows it trains on; None for all.
    X_val, y_val : array_like, optional
        Validation rows and targets for all.
    epochs, batch_size, shuffle, max_steps, max_seconds
        As for `Trainer.fit`, for each trainer; ``max_seconds`` counts from the start of its own fit.
    threads : int, optional
        Fits at a time; by default the number of threads of the process (`pyfastnn.set_num_threads`).

    Returns
    -------
    list of History
        Those of the trainers, in order. Ctrl-C ends all fits cleanly: ``stop_reason`` is ``"interrupted"`` then, also of those that
        had not begun.

    Raises
    ------
    TypeError, ValueError
        If trainers, ``rows`` or ``threads`` do not fit; nothing has been trained then.
    TrainManyError
        When all have ended, if some raised an error.

    Warns
    -----
    RuntimeWarning
        If the guard stopped a run.
    """
    if isinstance(trainers, Trainer) or not isinstance(trainers, Iterable):
        raise TypeError(f"train_many: 'trainers' is {trainers!r}, expected a list of trainers")
    trainers = list(trainers)
    chosen = _check(trainers, rows)
    if threads is not None and (not is_whole(threads) or threads < 1):
        raise ValueError(f"train_many: 'threads' is {threads!r}, expected a whole number of 1 or more, or None")
    at_once = min(len(trainers), _core.num_threads() if threads is None else int(threads))
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "shuffle": shuffle,
        "max_steps": max_steps,
        "max_seconds": max_seconds,
        "y_val": y_val,
        "verbose": 0,
    }
    data = SharedRows(X, "X")
    validation = SharedRows(X_val, "X_val")
    errors: dict[int, Exception] = {}

    def fit(place: int) -> None:
        trainer = trainers[place]
        try:
            here = data.of(trainer), validation.of(trainer)
            trainer.fit(here[0], y, rows=chosen[place], X_val=here[1], **settings)
        except Exception as error:
            errors[place] = error

    side_by_side(trainers, fit, at_once)
    if errors:
        raise TrainManyError(errors, len(trainers)) from errors[min(errors)]
    return [trainer.history for trainer in trainers]


def side_by_side(trainers: Sequence[Trainer], fit: Callable[[int], None], at_once: int) -> None:
    """Call ``fit(place)`` for every trainer, some at a time in threads of their own.

    Each trainer has one thread for its steps. The first one alone looks at its data before it trains, if it is to.

    Parameters
    ----------
    trainers : sequence of Trainer
        All different, with models of their own.
    fit : callable
        Fits the trainer at a place of the list; must not raise. It is not called any more after Ctrl-C: the ``stop_reason`` of those left
        out is ``"interrupted"``, as it is of those whose fits end early.
    at_once : int
        Fits at a time.
    """
    before = [(trainer.threads, trainer.preflight) for trainer in trainers]
    with HeldInterrupts() as interrupts:
        interrupts.fits = at_once

        def work() -> None:
            for place in places:
                if interrupts.pressed:
                    trainers[place].history.stop_reason = "interrupted"
                else:
                    fit(place)

        for trainer in trainers:
            trainer.threads = 1
            trainer.shared_interrupts = interrupts
        for trainer in trainers[1:]:  # what is wrong with data that all share is said once
            trainer.preflight = False
        try:
            # One after the other: a preprocessing that models share is fitted by the first of them, as in separate fits.
            places = _Places(first_of_shared(trainers))
            work()
            places = _Places(iter([place for place in range(len(trainers)) if place not in places.taken]))
            workers = [threading.Thread(target=work, name=f"train_many {i}") for i in range(at_once)]
            try:
                for worker in workers:
                    worker.start()
            finally:
                _join([worker for worker in workers if worker.ident is not None], interrupts)
        finally:
            for trainer, (threads_before, preflight) in zip(trainers, before, strict=True):
                trainer.threads, trainer.preflight = threads_before, preflight
                trainer.shared_interrupts = None


class _Places:
    """An iterator that several threads may take from."""

    def __init__(self, places: Iterator[int]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self.taken: set[int] = set()

    def __iter__(self) -> _Places:
        return self

    def __next__(self) -> int:
        with self._lock:
            place = next(self._places)
            self.taken.add(place)
            return place


class SharedRows:
    """Rows that all trainers read; numbers of other kinds are converted once for each dtype of a model."""

    def __init__(self, rows: Any, name: str) -> None:
        self._rows = rows
        self._name = name
        self._converted: dict[str, Array | Csr] = {}
        self._lock = threading.Lock()

    def of(self, trainer: Trainer) -> Any:
        """Return the rows as the model of a trainer reads them."""
        if self._rows is None or isinstance(self._rows, Mapping) or as_stream(self._rows) is not None:
            return self._rows
        dtype = trainer.model.dtype
        with self._lock:
            if dtype.name not in self._converted:
                convert = as_csr if is_sparse(self._rows) else as_rows
                self._converted[dtype.name] = convert(self._rows, self._name, None, dtype)
            return self._converted[dtype.name]


def _check(trainers: list[Trainer], rows: Any) -> list[Any]:
    """Return the rows of each trainer; what would let two threads write the same arrays is an error."""
    if not trainers:
        raise ValueError("train_many: 'trainers' is empty")
    places: dict[int, int] = {}
    for place, trainer in enumerate(trainers):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"train_many: trainers[{place}] is {trainer!r}, expected a Trainer")
        first = places.setdefault(id(trainer.model), place)
        if first != place:
            raise ValueError(f"train_many: trainers[{first}] and trainers[{place}] have the same model")
    if rows is None:
        return list(repeat(None, len(trainers)))
    if isinstance(rows, np.ndarray) and rows.ndim < 2:
        raise ValueError(
            f"train_many: 'rows' has shape {rows.shape}, expected one array of row numbers for each trainer"
        )
    chosen = list(rows)
    if len(chosen) != len(trainers):
        raise ValueError(f"train_many: 'rows' has {len(chosen)} items, expected {len(trainers)}, one for each trainer")
    return chosen


def first_of_shared(trainers: Sequence[Trainer]) -> Iterator[int]:
    """Yield the place of the first trainer of each group that shares a preprocessing not fitted yet."""
    groups: dict[int, list[int]] = {}
    for place, trainer in enumerate(trainers):
        for preprocess in trainer.model.preprocessors.values():
            if not preprocess.fitted:
                groups.setdefault(id(preprocess), []).append(place)
    for group in groups.values():
        if len(group) > 1:
            yield group[0]


def _join(workers: list[threading.Thread], interrupts: HeldInterrupts) -> None:
    """Wait for all; a second Ctrl-C is raised when they have stopped."""
    again: KeyboardInterrupt | None = None
    for worker in workers:
        while worker.is_alive():
            try:
                worker.join()
            except KeyboardInterrupt as error:
                interrupts.pressed = True
                again = error
    if again is not None:
        raise again
