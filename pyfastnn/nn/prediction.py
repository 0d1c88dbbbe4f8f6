"""What a trained model answers: scores, labels, probabilities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.graph.rewrites import fuse_conv_pool, pool_before_relu

if TYPE_CHECKING:
    from pyfastnn.backends.cpu import CpuPlan
    from pyfastnn.graph import Graph
    from pyfastnn.nn.model import Model
    from pyfastnn.nn.predictor import Predictor

Array = NDArray[Any]

_BATCH = 256


class Predicting:
    """The half of `Model` that predicts."""

    _plans: dict[frozenset[str], list[CpuPlan]]

    def __call__(self: Any, X: Any) -> Any:
        """Return the raw outputs (scores) of the prediction form, for raw inputs.

        Parameters
        ----------
        X : array_like, shape (n, ...), or dict of str to array_like
            Raw rows; preprocessing is applied. float32, float64 and uint8 are read as they are, anything else is converted to the model's
            dtype. A sparse matrix of SciPy is read row by row, as `Trainer.fit` says. A dict by input if there are several.

        Returns
        -------
        ndarray, shape (n, outputs), or dict of str to ndarray
            New arrays; a dict by output if there are several. Row i has the same bits whatever other rows are in ``X``. Several threads
            may predict at the same time.

        Raises
        ------
        RuntimeError
            If the model is not built.
        ValueError
            If a row has another number of values than the training rows.
        KeyboardInterrupt
            If Ctrl-C was pressed meanwhile.
        """
        model: Model = self
        scores = _run(model, X)
        return next(iter(scores.values())) if len(scores) == 1 else scores

    def predict(self: Any, X: Any) -> Any:
        """Return what the targets of the training were, predicted for raw inputs: labels, values, yes or no, or rates.

        Parameters
        ----------
        X : array_like, shape (n, ...), or dict of str to array_like
            Raw rows.

        Returns
        -------
        ndarray, shape (n,) or (n, outputs), or dict of str to ndarray
            By ``task``: items of ``classes_`` (classification); True where the score is above 0 (multilabel, as under
            `BinaryCrossEntropy`); ``exp(score)`` (counts, as under `Poisson`, whose scores are logarithms of rates); else the scores. One
            output gives shape (n,). The scores themselves are ``model(X)``.
        """
        from pyfastnn.functional import exp

        model: Model = self
        found = {}
        for name, scores in _run(model, X).items():
            if name in model.classes:
                found[name] = model.classes[name][scores.argmax(axis=1)]
            elif model.tasks.get(name) == "multilabel":
                found[name] = scores > 0
            else:
                if model.tasks.get(name) == "counts":
                    scores = exp(scores, out=scores)
                found[name] = scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores
        return next(iter(found.values())) if len(found) == 1 else found

    def predict_proba(self: Any, X: Any) -> Any:
        """Return class probabilities: the softmax of the scores, or their sigmoid for multi-label outputs.

        Parameters
        ----------
        X : array_like, shape (n, ...), or dict of str to array_like
            Raw rows.

        Returns
        -------
        ndarray, shape (n, classes), or dict of str to ndarray
            Rows sum to 1, but for multi-label outputs; columns in the order of ``classes_``. Of several outputs those that classify.
            `MulticlassHinge` trains scores that order the classes: their softmax tells no frequencies.

        Raises
        ------
        RuntimeError
            If the model was not trained as a classifier.
        """
        model: Model = self
        if not model.classes and "multilabel" not in model.tasks.values():
            raise RuntimeError("predict_proba: the model is no trained classifier")
        found = {}
        for name, scores in _run(model, X).items():
            if name in model.classes:
                scores -= scores.max(axis=1, keepdims=True)
                np.exp(scores, out=scores)
                scores /= scores.sum(axis=1, keepdims=True)
                found[name] = scores
            elif model.tasks.get(name) == "multilabel":
                with np.errstate(over="ignore"):
                    found[name] = 1 / (1 + np.exp(-scores))
        return next(iter(found.values())) if len(model.network.outputs) == 1 else found

    def predictor(self: Any, max_batch: int = 1, threads: int = 1) -> Predictor:
        """Return a function of a few rows, for prediction row by row with the least delay.

        Parameters
        ----------
        max_batch : int, default 1
            Most rows of a call.
        threads : int, default 1
            Threads of a call; with 1 it never starts or wakes any.

        Returns
        -------
        Predictor
            ``p(x)`` has the bits of ``model(x)``. It has a workspace of its own and reads the model's weights in place.

        Raises
        ------
        RuntimeError
            If the model is not built.
        TypeError
            If a number is no whole one.
        ValueError
            If a number is under 1, or the model has several inputs or outputs, an input of whole numbers or a layer of Python functions.
        """
        from pyfastnn.nn.predictor import Predictor

        return Predictor(self, max_batch, threads)

    def prediction_graph(self: Any, sparse: Collection[str] = (), *, fuse_pools: bool = True) -> Graph:
        """Return the prediction form as a graph to ``scores``, or ``scores.name`` for each of several outputs.

        Parameters
        ----------
        sparse : collection of str
            Inputs given as sparse matrices.
        fuse_pools : bool, default True
            Whether convolutions pool as they go where they can, and ReLUs come after max pools (`fuse_conv_pool` and `pool_before_relu`
            of `pyfastnn.graph.rewrites`). Values that are no outputs may be missing then; no bit of the scores depends on it.
        """
        model: Model = self
        builder, _, outputs = model.forward_graph(training=False, sparse=sparse)
        scores = {f"scores{model.suffix(name)}": value for name, value in outputs.items()}
        for name, value in scores.items():
            builder.rename(value, name)
        return fuse_conv_pool(pool_before_relu(builder.graph, scores), scores) if fuse_pools else builder.graph


def _run(model: Model, X: Any) -> dict[str, Array]:
    """Return fresh scores by output."""
    from pyfastnn._inputs import as_inputs, input_arrays

    model.arrays()
    rows, count = as_inputs(X, "X", model)
    arrays, sparse = input_arrays(rows, model)
    arrays["index"] = np.arange(count, dtype=np.int64)
    scores = {name: np.empty((count, *shape), model.dtype) for name, shape in model.output_shapes().items()}
    results: Mapping[str, Array] = {f"scores{model.suffix(k)}": v for k, v in scores.items()}
    idle = model._plans.setdefault(sparse, [])  # lists of their own for every version of the model
    try:
        plan = idle.pop()
    except IndexError:
        plan = _plan(model, sparse)
    arrays.update(results)
    _, reason = plan.run("predict", count, _BATCH, arrays)
    plan.bind(dict.fromkeys(arrays))
    idle.append(plan)
    if reason == "interrupted":
        raise KeyboardInterrupt
    return scores


def _plan(model: Model, sparse: frozenset[str]) -> CpuPlan:
    from pyfastnn.backends.cpu import CpuPlan

    graph = model.prediction_graph(sparse)
    results = {f"scores{model.suffix(name)}": "row" for name in model.network.outputs}
    plan = CpuPlan({"predict": graph}, results, max_batch=_BATCH, dtype=model.dtype.name)
    plan.bind({k: v for k, v in model.arrays().items() if k in graph.values})
    plan.bind({k: v for k, v in model.folded().items() if k in graph.values})
    return plan
