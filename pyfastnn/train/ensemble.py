"""Several models as one: votes, means, and averages of their weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn.nn.model import Model

Array = NDArray[Any]

VOTING = ("soft", "hard")


class Ensemble:
    """Predicts with several trained models.

    Parameters
    ----------
    models : sequence of Model or path
        Trained models, or files of `Model.save` and `Trainer.checkpoint`. All classify into the same classes, or all predict values of
        one shape. They may differ in everything else.
    weights : array_like, shape (models,), optional
        How much each counts: 0 or more, not all 0; scaled to sum 1. By default all count the same.
    voting : {"soft", "hard"}, default "soft"
        For classifiers: ``"soft"`` takes the class with the highest mean probability, ``"hard"`` the one that most models predict, the
        first in ``classes_`` if several do.

    Attributes
    ----------
    models : list of Model
        The models themselves, not copies: training one on shows in the ensemble.
    weights : ndarray of float64
        Their sum is 1.
    task : str
        That of the models: ``"classification"``, ``"regression"``, ``"multilabel"`` or ``"counts"``.
    classes_ : ndarray or None
        Labels in the order of the columns of `predict_proba`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, a model is not trained, or the models differ in task, classes or outputs.
    """

    @helpful_keywords
    def __init__(
        self, models: Sequence[Model | str | Path], *, weights: ArrayLike | None = None, voting: str = "soft"
    ) -> None:
        if voting not in VOTING:
            raise ValueError(f"Ensemble: {unknown('voting', voting, VOTING)}")
        self.models = _models("Ensemble", models)
        self.weights = _weights("Ensemble", weights, len(self.models))
        self.voting = voting
        first = self.models[0]
        for place, model in enumerate(self.models):
            if len(model.network.outputs) > 1:
                raise ValueError(
                    f"Ensemble: models[{place}] has the outputs {', '.join(model.network.outputs)}, expected one"
                )
            if model.task is None:
                raise ValueError(f"Ensemble: models[{place}] is not trained yet")
            if model.task != first.task:
                raise ValueError(f"Ensemble: models[0] is for {first.task}, models[{place}] for {model.task}")
            _check_classes("Ensemble", first, model, place)
            shapes = [next(iter(m.output_shapes().values())) for m in (first, model)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"Ensemble: models[0] gives rows of shape {shapes[0]}, models[{place}] of {shapes[1]}")
        self.task: str = first.task
        self.classes_ = first.classes_

    def predict(self, X: Any) -> Array:
        """Return labels (classification) or the weighted mean of the predicted values (regression, counts) for raw inputs.

        Parameters
        ----------
        X : array_like, shape (n, ...)
            Raw rows; every model applies its own preprocessing.

        Returns
        -------
        ndarray, shape (n,) or (n, outputs)
            Items of ``classes_``, values in float64 (one output gives shape (n,)), or True where a label of a multi-label model has a
            mean probability (``"hard"``: a share of the votes) above 1/2.
        """
        if self.task == "multilabel":
            soft = self.voting == "soft"
            parts = [model.predict_proba(X) if soft else model.predict(X) for model in self.models]
            return self._mean(parts) > 0.5
        if self.task in ("regression", "counts"):
            return self._mean([model.predict(X) for model in self.models])
        assert self.classes_ is not None
        shares = self._votes(X) if self.voting == "hard" else self.predict_proba(X)
        labels: Array = self.classes_[shares.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Return the weighted mean of the models' class probabilities.

        Parameters
        ----------
        X : array_like, shape (n, ...)
            Raw rows.

        Returns
        -------
        ndarray of float64, shape (n, classes)
            Columns in the order of ``classes_``; rows sum to 1 up to rounding, unless labels are independent.

        Raises
        ------
        RuntimeError
            If the ensemble is no classifier, or votes ``"hard"``.
        """
        if self.task in ("regression", "counts"):
            raise RuntimeError("predict_proba: the ensemble predicts values, not classes")
        if self.voting == "hard":
            raise RuntimeError("predict_proba: hard voting has no probabilities; write Ensemble(..., voting='soft')")
        return self._mean([model.predict_proba(X) for model in self.models])

    def _mean(self, parts: list[Array]) -> Array:
        """Return the weighted mean in float64; a NaN of a model that does not count stays out."""
        total = np.zeros(parts[0].shape)
        for part, weight in zip(parts, self.weights.tolist(), strict=True):
            if weight > 0.0:
                total += weight * part.astype(np.float64)
        return total

    def _votes(self, X: Any) -> Array:
        """Return the weight that voted for each class, row by row."""
        assert self.classes_ is not None
        first = self.models[0].predict(X)
        votes = np.zeros((len(first), len(self.classes_)))
        for place, weight in enumerate(self.weights.tolist()):
            labels = first if place == 0 else self.models[place].predict(X)
            votes[np.arange(len(labels)), np.searchsorted(self.classes_, labels)] += weight
        return votes

    def __len__(self) -> int:
        """Return the number of models."""
        return len(self.models)

    def __repr__(self) -> str:
        """Show task and size."""
        how = "" if self.task in ("regression", "counts") else f", voting={self.voting!r}"
        return f"<Ensemble of {len(self.models)} models for {self.task}{how}>"


def average_weights(models: Sequence[Model | str | Path], *, weights: ArrayLike | None = None) -> Model:
    """Return one model whose arrays are the means of those of several models of one architecture.

    For snapshots and checkpoints of one run, or of runs that started from one trained model: stochastic weight averaging (Izmailov et
    al. 2018). Models that were trained apart from the start average to nonsense; use `Ensemble` for them.

    Parameters
    ----------
    models : sequence of Model or path
        Built models, or files of `Model.save` and `Trainer.checkpoint`: the same layers, arrays, dtype, classes and preprocessing.
    weights : array_like, shape (models,), optional
        How much each counts: 0 or more, not all 0; scaled to sum 1. By default all count the same.

    Returns
    -------
    Model
        A new one, with the preprocessing and classes of the first. Sums are made in float64, in the order given, and rounded once to the
        models' dtype. The running statistics of batch normalization are averaged like all other arrays, which is close for snapshots of
        one run but not what a pass of the averaged model over the training rows would give.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the models differ in more than the values of their arrays; the message says in what.
    RuntimeError
        If a model is not built.
    """
    found = _models("average_weights", models)
    shares = _weights("average_weights", weights, len(found)).tolist()
    first = found[0]
    for place, model in enumerate(found[1:], start=1):
        _check_alike(first, model, place)
    averaged = copy.deepcopy(first)
    for name, array in averaged.arrays().items():
        total = np.zeros(array.shape)
        for model, share in zip(found, shares, strict=True):
            if share > 0.0:
                total += share * model.arrays()[name].astype(np.float64)
        array[...] = total
    averaged.refresh()
    return averaged


def _models(owner: str, models: Sequence[Model | str | Path]) -> list[Model]:
    from pyfastnn.io.model_file import load

    if isinstance(models, (Model, str, Path)):
        raise TypeError(f"{owner}: 'models' is {models!r}, expected a list of models or files")
    found = []
    for place, model in enumerate(models):
        if isinstance(model, (str, Path)):
            model = load(model)
        if not isinstance(model, Model):
            raise TypeError(f"{owner}: models[{place}] is {model!r}, expected a model or a file")
        model.arrays()
        found.append(model)
    if not found:
        raise ValueError(f"{owner}: 'models' is empty")
    return found


def _weights(owner: str, weights: ArrayLike | None, count: int) -> NDArray[np.float64]:
    found = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (count,):
        raise ValueError(f"{owner}: 'weights' has shape {found.shape}, expected ({count},), one per model")
    total = float(found.sum())
    if not (np.isfinite(found).all() and (found >= 0.0).all() and 0.0 < total < math.inf):
        raise ValueError(f"{owner}: 'weights' is {found.tolist()}, expected numbers of 0 or more, not all 0")
    return found / total


def _check_classes(owner: str, first: Model, model: Model, place: int) -> None:
    a, b = first.classes_, model.classes_
    if (a is None) != (b is None) or (a is not None and b is not None and not np.array_equal(a, b)):
        shown = ["none" if c is None else str(c.tolist()) for c in (a, b)]
        raise ValueError(f"{owner}: models[0] has the classes {shown[0]}, models[{place}] has {shown[1]}")


def _check_alike(first: Model, model: Model, place: int) -> None:
    """Raise ValueError unless two models differ in the values of their arrays alone."""
    owner = "average_weights"
    pairs: dict[str, list[Any]] = {
        "layers": [{k: v.kind for k, v in m.layers.items()} for m in (first, model)],
        "arrays": [{k: v.shape for k, v in m.arrays().items()} for m in (first, model)],
        "settings": [[repr(v) for v in m.layers.values()] for m in (first, model)],
        "dtype": [m.dtype.name for m in (first, model)],
        "connections": [[(c.layer, c.sources) for c in m.network.calls] for m in (first, model)],
        "input_shapes": [m.input_shapes for m in (first, model)],
        "task": [m.task for m in (first, model)],
        "preprocess": [repr(m.preprocess) for m in (first, model)],
    }
    for what, (a, b) in pairs.items():
        if a != b:
            raise ValueError(f"{owner}: models[{place}] has other {what} than models[0]: {b}, not {a}")
    _check_classes(owner, first, model, place)
    mine, other = _fitted(first), _fitted(model)
    for name, array in mine.items():
        if name not in other or not np.array_equal(array, other[name]):
            raise ValueError(
                f"{owner}: the preprocessing of models[{place}] was fitted on other rows than that of models[0]"
            )


def _fitted(model: Model) -> dict[str, Array]:
    """Return what the preprocessing learned."""
    try:
        return model.folded()
    except RuntimeError:
        return {}
