"""What `Trainer.evaluate` finds: loss and accuracy by the compiled plan, other metrics from predictions."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._inputs import as_weights, split_ignored
from pyfastnn._names import unknown
from pyfastnn.train.compiled import EVALUATION_BATCH, Head
from pyfastnn.train.passes import evaluated_once, evaluation_passes
from pyfastnn.train.prepare import as_stream

if TYPE_CHECKING:
    from pyfastnn.metrics import Metric
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]


def evaluate(trainer: Trainer, X: Any, y: Any, sample_weight: Any, metrics: Any) -> dict[str, float]:
    """Return the figures of these rows by name.

    Raises
    ------
    RuntimeError
        If the model was not trained yet.
    TypeError, ValueError
        If rows, targets or metrics do not fit.
    KeyboardInterrupt
        If Ctrl-C was pressed.
    """
    model, heads = trainer.model, trainer.heads
    model.arrays()
    if any(head.counts and head.output not in model.classes for head in heads):
        raise RuntimeError("evaluate: the model knows no classes yet: call fit or step first")
    asked = _asked(trainer, metrics)
    if any(asked.values()) and as_stream(X) is not None:
        raise ValueError(
            "evaluate: 'metrics' was given, but 'X' is a Stream, of which loss and accuracy are known only"
        )
    data = evaluation_passes(trainer, X, y, "X", "y", sample_weight)
    plan = (trainer._current(None) or trainer._compile(EVALUATION_BATCH)).evaluation(data.form)
    found = evaluated_once(data, heads, plan, trainer.threads)
    if found is None:
        raise KeyboardInterrupt
    if not any(asked.values()):
        return found
    predictions: dict[str, Any] = {}
    for head in heads:
        for metric in asked[head.output]:
            found[f"{metric.name}{head.suffix}"] = _measured(trainer, head, metric, X, y, sample_weight, predictions)
    return found


def _asked(trainer: Trainer, metrics: Any) -> dict[str, list[Metric]]:
    """Return the metrics of each output beside loss and accuracy, which are found anyway."""
    outputs = [head.output for head in trainer.heads]
    if isinstance(metrics, Mapping):
        for key in metrics:
            if key not in outputs:
                raise ValueError(f"evaluate: 'metrics': {unknown('output', key, outputs)}")
        given = {name: metrics.get(name, ()) for name in outputs}
    elif len(outputs) == 1:
        given = {outputs[0]: metrics}
    elif metrics is None or (isinstance(metrics, (list, tuple)) and not metrics):
        given = dict.fromkeys(outputs, ())
    else:
        raise TypeError(f"evaluate: 'metrics' is {metrics!r}, expected a dict by output: {', '.join(outputs)}")
    return {head.output: _checked(trainer, head, given[head.output]) for head in trainer.heads}


def _checked(trainer: Trainer, head: Head, metrics: Any) -> list[Metric]:
    """Return the metrics of one output, all of different names, without loss and the accuracy that is counted."""
    from pyfastnn.metrics.registry import METRICS, OF_TWO, Metric, as_metric

    single = isinstance(metrics, (str, Metric)) or callable(metrics)
    listed = () if metrics is None else (metrics,) if single else metrics
    if not isinstance(listed, Iterable):
        raise TypeError(f"evaluate: 'metrics' is {metrics!r}, expected names such as 'f1_macro' or functions")
    counted = ("loss", "accuracy") if head.counts else ("loss",)
    found: dict[str, Metric] = {}
    classes = _classes(trainer, head)
    for each in listed:
        if isinstance(each, str) and each in counted:
            continue
        metric = as_metric("evaluate", each)
        name = metric.name
        if name in found or name in counted:
            raise ValueError(f"evaluate: two metrics are called {name!r}: give one another name with metrics.Metric")
        if metric.reads in ("labels", "probabilities") and classes is None:
            raise ValueError(f"evaluate: metric {name!r} is for labels, one a row; the loss here is {head.loss!r}")
        if metric.reads == "values" and head.loss.task in ("classification", "multilabel"):
            raise ValueError(f"evaluate: metric {name!r} is for regression; the loss here is {head.loss!r}")
        if name in OF_TWO and metric is METRICS[name] and classes is not None and len(classes) != 2:
            raise ValueError(
                f"evaluate: metric {name!r} is for two classes, and the model has {len(classes)}: "
                f"write '{name}_macro', '{name}_weighted' or '{name}_micro'"
            )
        found[name] = metric
    return list(found.values())


def _classes(trainer: Trainer, head: Head) -> Array | None:
    """Return the labels of an output; a single yes-or-no output has 0 and 1."""
    if head.loss.task == "multilabel" and trainer.model.output_shapes()[head.output] == (1,):
        return np.arange(2)
    return trainer.model.classes.get(head.output)


def _measured(
    trainer: Trainer, head: Head, metric: Metric, X: Any, y: Any, sample_weight: Any, predictions: dict[str, Any]
) -> float:
    """Return one metric of one output; predictions are made once and kept."""
    from pyfastnn.metrics.registry import METRICS, OF_TWO

    kind = "predict_proba" if metric.reads == "probabilities" else "predict"
    if kind not in predictions:
        predictions[kind] = getattr(trainer.model, kind)(X)
    given = predictions[kind]
    given = given[head.output] if isinstance(given, dict) else given
    wanted = np.asarray(y[head.output] if isinstance(y, Mapping) else y)
    if wanted.ndim == 2 and wanted.shape[1] == 1:
        wanted = wanted[:, 0]
    weights = None if sample_weight is None else as_weights(sample_weight, "sample_weight", len(wanted), "X")
    if head.loss.ignore_index is not None:
        wanted, ignored = split_ignored(wanted, head.loss.ignore_index, "y")
        given, weights = given[~ignored], None if weights is None else weights[~ignored]
    keywords: dict[str, Any] = {}
    classes = _classes(trainer, head)
    if metric.reads == "probabilities":
        keywords["labels"] = classes
    elif metric.name in OF_TWO and metric is METRICS[metric.name] and classes is not None:
        keywords["pos_label"] = classes[1].item()
    if weights is not None:
        if "sample_weight" not in inspect.signature(metric.function).parameters:
            raise ValueError(f"evaluate: metric {metric.name!r} takes no 'sample_weight', which was given")
        keywords["sample_weight"] = weights
    value = metric.function(wanted, given, **keywords)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"evaluate: metric {metric.name!r} returned {value!r}, expected a number") from None
