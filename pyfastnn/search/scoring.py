"""What trials are judged by: accuracy, loss, area under the ROC curve, or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyfastnn._names import unknown
from pyfastnn.metrics.ranking import roc_auc
from pyfastnn.train.trainer import Trainer

SCORINGS = ("accuracy", "loss", "roc_auc")
Function = Callable[[Trainer, Any, Any], float]


@dataclass(frozen=True)
class Scoring:
    """A way to judge a trained trainer.

    Attributes
    ----------
    name : str
        What the score is called.
    column : str
        Its name in a line: ``val_acc``, ``val_loss``.
    maximize : bool
        Whether a higher score is better.
    recorded : str
        The column of a history that holds the same number, ``""`` if there is none.
    function : callable
        ``function(trainer, X, y)``.
    """

    name: str
    column: str
    maximize: bool
    recorded: str
    function: Function


def get(owner: str, scoring: str | Function | None, trainer: Trainer) -> Scoring:
    """Return a way to judge; None means accuracy for classifiers and loss for everything else.

    Raises
    ------
    TypeError, ValueError
        If it is neither a known name nor a function, or does not fit what the trainer is for.
    """
    if callable(scoring):
        name = getattr(scoring, "__name__", "score")
        return Scoring(name, "score" if name == "<lambda>" else name, True, "", scoring)
    if scoring is None:
        heads = trainer.heads
        scoring = "accuracy" if len(heads) == 1 and heads[0].counts else "loss"
    if not isinstance(scoring, str):
        raise TypeError(f"{owner}: 'scoring' is {scoring!r}, expected a name or a function of trainer, X and y")
    if scoring not in SCORINGS:
        raise ValueError(f"{owner}: {unknown('scoring', scoring, SCORINGS)}, or a function of trainer, X and y")
    if scoring == "accuracy" and not any(head.counts for head in trainer.heads):
        raise ValueError(f"{owner}: scoring='accuracy' is for classifiers; the loss here is {trainer.loss!r}")
    if scoring == "roc_auc":
        return Scoring("roc_auc", "val_roc_auc", True, "", _roc_auc_of)
    figure = scoring

    def evaluated(trainer: Trainer, X: Any, y: Any) -> float:
        return trainer.evaluate(X, y)[figure]

    accuracy = figure == "accuracy"
    return Scoring(figure, "val_acc" if accuracy else "val_loss", accuracy, f"val_{figure}", evaluated)


def _roc_auc_of(trainer: Trainer, X: Any, y: Any) -> float:
    """Return the area for two classes, the second being positive; for more the mean over the classes, each against the rest."""
    classes = trainer.model.classes_
    if classes is None:
        raise ValueError("scoring='roc_auc' is for classifiers with one output")
    return roc_auc(y, trainer.model.predict_proba(X), labels=classes)
