"""The best of a search as one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyfastnn._names import helpful_keywords
from pyfastnn.search.study import Study
from pyfastnn.train.ensemble import Ensemble
from pyfastnn.train.many import train_many
from pyfastnn.train.settings import is_whole
from pyfastnn.train.trainer import Trainer


@helpful_keywords
def ensemble(
    study: Study,
    build: Callable[..., Trainer],
    X: Any,
    y: Any = None,
    *,
    k: int = 5,
    epochs: int = 10,
    batch_size: int = 32,
    shuffle: bool = True,
    threads: int | None = None,
    voting: str = "soft",
) -> Ensemble:
    """Train the parameters of the best trials anew, side by side, and let the models vote.

    Parameters
    ----------
    study : Study
        Of any search, also one by folds.
    build : callable
        The one of the search.
    X, y : array_like
        Rows and targets to train on: often all there are, those that trials were judged by among them.
    k : int, default 5
        How many trials; fewer if fewer have a score.
    epochs, batch_size, shuffle, threads
        As for `pyfastnn.train_many`.
    voting : {"soft", "hard"}, default "soft"
        As for `pyfastnn.Ensemble`.

    Returns
    -------
    Ensemble
        Of new models, each with the seed of its trial, best trial first. What the search itself trained is
        ``Ensemble([t.trainer.model for t in study.top(5)])``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    RuntimeError
        If no trial has a score.
    TrainManyError
        If a trainer raised an error.
    """
    if not isinstance(study, Study):
        raise TypeError(f"ensemble: 'study' is {study!r}, expected what a search returned")
    if not is_whole(k) or k < 1:
        raise ValueError(f"ensemble: 'k' is {k!r}, expected a whole number of 1 or more")
    best = study.top(k) or [study.best]  # without any score `best` says why
    trainers = []
    for trial in best:
        trainer = build(**trial.params)
        trainer.seed = trial.seed
        trainers.append(trainer)
    train_many(trainers, X, y, epochs=epochs, batch_size=batch_size, shuffle=shuffle, threads=threads)
    return Ensemble([trainer.model for trainer in trainers], voting=voting)
