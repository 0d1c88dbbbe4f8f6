"""Trials in other processes, on this machine or on a cluster: the backends of joblib."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pyfastnn.diagnose.verdicts import TrainingWarning
from pyfastnn.search.fits import Data, Fold, How, Job, Outcome, run
from pyfastnn.train.many import first_of_shared
from pyfastnn.train.trainer import Trainer


def joblib_module() -> Any:
    """Return joblib.

    Raises
    ------
    ImportError
        If it is missing; names the extra.
    """
    try:
        import joblib
    except ImportError as error:
        raise ImportError("parallel='joblib' needs joblib: pip install pyfastnn[cluster]") from error
    return joblib


def run_elsewhere(
    jobs: Sequence[Job],
    how: How,
    data: Data,
    at_once: int | None,
    begins: Callable[[Job], bool],
    folder: Callable[[Job], Any],
    ended: Callable[[Job, Outcome | None], None],
) -> None:
    """Run jobs through `joblib.Parallel`, with the backend that `joblib.parallel_config` names.

    Trainers travel there and back: a job ends with the one that was trained. Bits are those of a run here on a processor of the same
    instruction set.

    Parameters
    ----------
    jobs : sequence of Job
        Ended in their order.
    how : How
        What fits have in common.
    data : Data
        The rows, handed over as they are.
    at_once : int or None
        ``n_jobs``; None leaves it to the backend and its configuration.
    begins, folder, ended : callable
        Whether a job is to run, where it is written down, and what came of it.
    """
    joblib = joblib_module()
    # A preprocessing that models share is fitted by the first of them, as side by side.
    here = set(first_of_shared([job.trainer for job in jobs]))
    for place in sorted(here):
        job = jobs[place]
        threads, job.trainer.threads = job.trainer.threads, 1
        outcome = run(job.trainer, job.fold, how, data, least=True, run_dir=folder(job)) if begins(job) else None
        job.trainer.threads = threads
        ended(job, outcome)
    rest = [job for place, job in enumerate(jobs) if place not in here]
    sent: list[Job] = []

    def calls() -> Iterator[Any]:
        for job in rest:
            least = job.trial is jobs[0].trial
            if begins(job) and (least or not how.over):
                sent.append(job)
                yield joblib.delayed(_run)(job.trainer, job.fold, how, least, folder(job), *data.given)
            else:
                ended(job, None)

    more = {} if at_once is None else {"n_jobs": at_once}
    results = joblib.Parallel(return_as="generator", **more)(calls())
    done = 0
    try:
        for trainer, outcome in results:
            job = sent[done]
            done += 1
            job.trainer = trainer
            ended(job, outcome)
    except KeyboardInterrupt:
        for job in rest:
            if job.outcome is None:
                job.trainer.history.stop_reason = "interrupted"
    finally:
        results.close()


def _run(
    trainer: Trainer, fold: Fold | None, how: How, least: bool, run_dir: Any, X: Any, y: Any, X_val: Any, y_val: Any
) -> tuple[Trainer, Outcome | None]:
    """Train and judge in another process, on one thread."""
    threads, trainer.threads = trainer.threads, 1
    X, y, X_val, y_val = (_aligned(part) for part in (X, y, X_val, y_val))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        outcome = run(trainer, fold, how, Data(X, y, X_val, y_val), least=least, run_dir=run_dir)
    trainer.threads = threads
    return trainer, outcome


def _aligned(rows: Any) -> Any:
    """Return rows as arrays that plans can read: those that dask hands over begin anywhere in a message."""
    if isinstance(rows, Mapping):
        return {name: _aligned(part) for name, part in rows.items()}
    if isinstance(rows, np.ndarray):
        return rows if rows.flags.aligned else rows.copy()
    if hasattr(rows, "tocsr"):
        found = rows.tocsr(copy=False)
        parts = (found.data, found.indices, found.indptr)
        return found if all(part.flags.aligned for part in parts) else found.copy()
    return rows
