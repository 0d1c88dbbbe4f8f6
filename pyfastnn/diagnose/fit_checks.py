"""The cheap half of the preflight, which every fit begins with: what a sample of the rows, the targets and the first weights show.

NumPy alone, on a few rows that no random stream picks. Each check is a function that returns what is wrong and what to do, or nothing.
They are conservative, as verdicts are: where a good run could look the same, nothing is said. `pyfastnn.diagnose.preflight` looks closer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.diagnose.statistics import SUMMARY, Records

if TYPE_CHECKING:
    from pyfastnn.nn.model import Model
    from pyfastnn.nn.symbolic import Network
    from pyfastnn.train.compiled import Head
    from pyfastnn.train.passes import Pass

Array = NDArray[Any]

LEAST_ROWS = 10
"""Fewer rows say nothing about a data set."""
ROWS, ITEMS, TARGETS, MORE_TARGETS = 128, 1 << 15, 4096, 1 << 17
"""Rows and items of them that inputs are judged by, and targets; more of these if all of them are equal."""
LARGE, OFF_CENTRE, BESIDE, APART, WIDEST = 16.0, 1.0, 0.25, 20.0, 1e3
"""Inputs are far from 0 if their root mean square is so large and their mean so many deviations away, less if all lie on one side of 0;
or if the features' means are so many of their deviations away. The widest feature may have so many times the deviation of the middle
one."""
MAJORITY, MAJORITY_ROWS = 0.98, 500
"""Share of one label from which on the accuracy misleads, and the rows it takes to tell."""
TARGET_STD, TARGET_MEAN = (1e-4, 1e3), 100.0
"""Deviation of targets of regression, and their mean in deviations."""
CHANCE, MORE_THAN_CHANCE, CHANCE_OF_VALUES, USUAL = 10.0, 10.0, 100.0, 4.0
"""The first loss is too large above so many times that of scores of 0 and so much more; of values, above so many times. Inputs of a larger
root mean square make larger scores, which is not the fault of the weights."""
DEAD, SATURATED, ANSWERS = 0.9, 0.95, 16
"""Shares of dead units and saturated answers to a batch of so many rows at least."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_SAME_ROWS = frozenset(("flatten", "dropout", "dropout2d", "random_flip", "random_crop", "cutout"))
_AFFINE = frozenset(("linear", "conv2d", "maxout"))
_NORMS = frozenset(("batch_norm", "layer_norm", "group_norm"))
_EVEN = _NORMS | frozenset(
    (
        "relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "exp", "add", "concat", "flatten",
        "max_pool2d", "avg_pool2d", "global_avg_pool2d",
    )
)  # fmt: skip
"""Layers that do the same with equal units: dropout does not, nor can be said what a layer of the user's own does."""


class PreflightWarning(RuntimeWarning):
    """Something is wrong with the data or the first weights of a fit."""


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return the numbers of all rows, or of about ``most`` that lie evenly but in step with no pattern of the rows."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return (np.arange(1, most + 1) * _GOLDEN % 1.0 * count).astype(np.int64)


def rows_of(data: Pass, most: int) -> NDArray[np.int64]:
    """Return the numbers of some rows of a pass."""
    if data.chosen is None:
        return spread(data.rows, most)
    picked: NDArray[np.int64] = data.chosen[spread(len(data.chosen), most)]
    return picked


@dataclass(frozen=True)
class Sample:
    """Some rows of an input.

    Attributes
    ----------
    name : str
        Of the input, as it is shown.
    x : ndarray of float64, shape (rows, features), or None
        Those features that vary, as the first layers see them; None where that is not known.
    size : float
        Root mean square of what the first layers see; infinite where it is not known.
    """

    name: str
    x: NDArray[np.float64] | None = None
    size: float = math.inf


def sample(model: Model, name: str, data: Pass) -> Sample | str:
    """Return some rows of an input after its preprocessing, or what is wrong if all of them are the same."""
    X = data.arrays[f"X{model.suffix(name, 'inputs')}"]
    shown = "the inputs" if len(model.network.inputs) == 1 else f"the inputs {name!r}"
    rows = rows_of(data, ROWS)
    flat = X.reshape(len(X), -1)
    stride = _stride(flat.shape[1], ITEMS // len(rows))
    x = flat[:, ::stride][rows].astype(np.float64)
    if not np.isfinite(x).all():  # which the guard says, with the column
        return Sample(shown)
    varying = x.max(axis=0) > x.min(axis=0)
    if not varying.any():
        if any((flat[row] != flat[rows[0]]).any() for row in rows):
            return Sample(shown)
        return f"{shown} are the same in all of {len(rows)} rows: nothing can be learned from them; look at how they are read"
    preprocess = model.preprocessors.get(name)
    if preprocess is not None:
        if preprocess.matrix_ is not None:
            return Sample(shown)
        x = (x - preprocess.shift_[::stride]) * preprocess.scale_[::stride]
    return Sample(shown, x[:, varying], math.sqrt(float(np.square(x).mean())))


def inputs(model: Model, name: str, found: Sample) -> str | None:
    """Judge the rows of an input that layers multiply by weights: they lie around 0, and the features have one scale."""
    x, shown = found.x, found.name
    if x is None or not any(kind in _AFFINE for kind in _readers(model.network, name)):
        return None
    means, stds = x.mean(axis=0), x.std(axis=0)
    mean, std = float(means.mean()), float(x.std())
    beside = math.inf if x.min() < 0.0 < x.max() else BESIDE  # pixels, counts: nothing is on the other side of 0
    apart = math.sqrt(float(np.mean(means**2) / np.mean(stds**2)))
    remedy = "give the model preprocess=fnn.data.Standardize()"
    if apart > APART or (found.size > LARGE and abs(mean) > min(OFF_CENTRE, beside) * std):
        return f"{shown} are far from 0 (mean {mean:.3g}, standard deviation {std:.3g}): centre them, {remedy}, or Center()"
    wide = float(stds.max() / np.median(stds))
    if wide > WIDEST:
        each = "give the model preprocess=fnn.data.Standardize(per='feature')"
        return (
            f"{shown} differ in scale: the widest feature has {wide:.2g} times the deviation of the middle one; {each}"
        )
    return None


def _stride(features: int, most: int) -> int:
    """Return a step through the features that leaves about so many and is in step with no channels or lines of images."""
    step = max(1, -(-features // max(most, 1)))
    while step > 1 and math.gcd(step, 2 * 3 * 5 * 7) > 1:
        step += 1
    return step


def _readers(network: Network, name: str) -> list[str]:
    """Return the kinds of the layers that first work on an input; flattened rows are the same rows."""
    values, found = {list(network.inputs).index(name)}, []
    for place, call in enumerate(network.calls, len(network.inputs)):
        if values.intersection(call.sources):
            kind = network.layers[call.layer].kind
            if kind in _SAME_ROWS:
                values.add(place)
            else:
                found.append(kind)
    return found


def targets(model: Model, head: Head, data: Pass) -> str | None:
    """Judge the targets of an output: they vary, no label has nearly all rows, and values have a usable scale."""
    y = data.arrays[f"y{head.suffix}"]
    some = _that_count(head, data, rows_of(data, TARGETS))
    if len(some) < LEAST_ROWS:
        return None
    sample = y[some]
    name = ("labels" if head.counts else "targets") + (f" of {head.output!r}" if head.suffix else "")
    if (sample == sample[0]).all():
        more = y[_that_count(head, data, rows_of(data, MORE_TARGETS))]
        if (more == sample[0]).all():
            what = _label(model, head, int(sample[0])) if head.counts else "the same"
            return f"the {name} are {what} in all of {len(more)} rows: there is nothing to learn; look at how they are read"
        sample = more
    if head.counts:
        weighted = data.form.weighted or getattr(head.loss, "class_weight", None) is not None
        share = float(np.bincount(sample).max() / len(sample))
        if weighted or len(sample) < MAJORITY_ROWS or share < MAJORITY:
            return None
        most = _label(model, head, int(np.bincount(sample).argmax()))
        return (
            f"{share:.1%} of the {name} are {most}, so whoever says nothing else has an accuracy of {share:.3f}: "
            "try SoftmaxCrossEntropy(class_weight='balanced'), and look at the loss or at each class"
        )
    if head.loss.task != "regression" or head.loss.kind == "custom":
        return None
    flat = sample.reshape(len(sample), -1).astype(np.float64)
    mean, std = float(flat.mean()), math.sqrt(float(flat.var(axis=0).mean()))
    if TARGET_STD[0] <= std <= TARGET_STD[1] and abs(mean) <= TARGET_MEAN * std:
        return None
    return f"the {name} have mean {mean:.3g} and standard deviation {std:.3g}: train on (y - mean) / deviation, and undo it after predict"


def _that_count(head: Head, data: Pass, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out rows of weight 0, those of the ignored label among them."""
    weights = data.arrays.get(f"weights{head.suffix}")
    return rows if weights is None else rows[weights[rows, 0] != 0]


def _label(model: Model, head: Head, code: int) -> str:
    return repr(model.classes[head.output].tolist()[code])


def weights(model: Model) -> str | None:
    """Find layers whose units are equal, and equal to those who read them: they get equal gradients and stay equal for ever.

    Where only the units are equal (zeros at the end of a residual branch), the layers after them tell them apart.
    """
    network = model.network
    calls: dict[str, list[int]] = {}
    for place, call in enumerate(network.calls, len(network.inputs)):
        calls.setdefault(call.layer, []).append(place)
    found = []
    for name, places in calls.items():
        layer = network.layers[name]
        if (
            layer.kind not in ("linear", "conv2d")
            or getattr(layer, "groups", 1) != 1
            or f"{name}.w" not in model.trained()
        ):
            continue
        w = model.arrays()[f"{name}.w"]
        if (
            w.shape[-1] > 1
            and _equal(w.reshape(-1, w.shape[-1]))
            and all(_read_alike(model, place) for place in places)
        ):
            found.append(name)
    if not found:
        return None
    of = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
    return f"the units of {of} begin equal and will stay so: draw the first weights at random, as init='he_normal' does"


def _equal(rows: Array) -> bool:
    """Return whether each row holds one number; most often the first rows tell."""
    return bool((rows[:4] == rows[:4, :1]).all() and (rows == rows[:, :1]).all())


def _read_alike(model: Model, value: int) -> bool:
    """Return whether the layers that read the units of a value give all of them the same weights."""
    network = model.network
    values, known = {value}, False
    if value in network.outputs.values():
        return False
    for place, call in enumerate(network.calls, len(network.inputs)):
        if not values.intersection(call.sources):
            continue
        kind = network.layers[call.layer].kind
        if kind in ("linear", "conv2d"):
            w = model.arrays()[f"{call.layer}.w"]
            known = True
            if not _equal(np.swapaxes(w, -1, -2).reshape(-1, w.shape[-2])):
                return False
        elif kind not in _EVEN or place in network.outputs.values():
            return False
        else:
            values.add(place)
    return known


def first_loss(model: Model, heads: Sequence[Head], data: Pass, size: float) -> str | None:
    """Hold the loss of the first step of a pass, on inputs of this root mean square, against that of scores of 0."""
    found, batch = float(data.arrays["loss"][0]), data.arrays["index"][: data.batch]
    chance = sum(head.weight * _loss_of_zeros(model, head, data, batch) for head in heads)
    values = any(head.loss.task in ("regression", "counts") for head in heads)
    factor = max(1.0, size / USUAL)
    limit = CHANCE_OF_VALUES * chance * factor**2 if values else (CHANCE * chance + MORE_THAN_CHANCE) * factor
    if not math.isfinite(found) or not found > limit > 0.0:
        return None
    return (
        f"the loss of the first step was {found:.4g}, that of scores of 0 is {chance:.4g}: the first scores are too large; "
        "draw smaller first weights, those of the last layer above all"
    )


def _loss_of_zeros(model: Model, head: Head, data: Pass, batch: NDArray[np.int64]) -> float:
    """Return the loss of scores of 0 on some rows (of counts what no sensible scores exceed); NaN of a loss that is not known."""
    loss: Any = head.loss
    row = data.arrays.get(f"weights{head.suffix}")
    counted = np.ones(len(batch)) if row is None else row[batch, 0].astype(np.float64)
    if not counted.sum() > 0.0:
        return 0.0
    if head.counts:
        classes = len(model.classes[head.output])
        if loss.kind == "softmax_cross_entropy":
            return math.log(classes)
        return (classes - 1) * float(loss.margin) if loss.kind == "multiclass_hinge" else math.nan
    t = data.arrays[f"y{head.suffix}"][batch].reshape(len(batch), -1).astype(np.float64)
    size = np.abs(t)
    if loss.kind == "binary_cross_entropy":
        each = (t * np.asarray(data.arrays.get(f"pos_weight{head.suffix}", 1.0), np.float64) + 1.0 - t) * math.log(2.0)
    elif loss.kind == "mean_squared_error":
        each = t**2
    elif loss.kind == "mean_absolute_error":
        each = size
    elif loss.kind == "huber":
        each = np.where(size <= loss.delta, t**2 / 2, loss.delta * (size - loss.delta / 2))
    elif loss.kind == "poisson":
        each = 1.0 + t
    else:
        return math.nan
    return float(np.average(each.mean(axis=1), weights=counted))


def activations(records: Records, first: float, batch: int) -> Iterator[str]:
    """Judge the answers of the first watched step: no layer has fallen silent, or is stuck at the ends of its range."""
    if batch < ANSWERS:
        return
    for layer, op in records.ops.items():
        summary = records.results[f"summary({layer})"][0]
        dead, saturated = (float(summary[SUMMARY.index(kind)]) for kind in ("dead", "saturated"))
        where = f"at step {int(records.steps[0])}"
        if op == "relu_forward" and dead >= DEAD:
            yield (
                f"{dead:.0%} of the units of {layer} answer 0 to the whole batch {where}: "
                "try a smaller learning_rate, He's first weights with biases of 0, centred inputs, or nn.LeakyReLU"
            )
        elif saturated >= SATURATED and records.losses[0] > first / 2:
            yield (
                f"{saturated:.0%} of the answers of {layer} lie at the ends of its range {where}, where gradients vanish: "
                "try smaller first weights (init='xavier_normal'), inputs of deviation 1, or nn.BatchNorm before it"
            )
