"""The checks behind `preflight`, each a function that gives one row of its report or several."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._inputs import Csr
from pyfastnn.diagnose.activations import LayerStatistics, Look, look
from pyfastnn.diagnose.gradients import gradient_check
from pyfastnn.diagnose.probe import computed, quiet, some_rows, state_of, taken
from pyfastnn.diagnose.sanity import Check
from pyfastnn.graph import BATCH, Builder

if TYPE_CHECKING:
    from pyfastnn.nn.losses import Loss
    from pyfastnn.nn.model import Model
    from pyfastnn.train.compiled import Head
    from pyfastnn.train.prepare import Data
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

OFF_CENTRE, APART, WIDEST = 0.25, 3.0, 1e3
"""Mean of all inputs in their deviations, root mean square of the features' means in that of their deviations, and the deviation of the
widest feature in that of the middle one."""
UNBALANCED = 10.0
"""Rows of the most frequent class against those of the rarest."""
TARGET_STD, TARGET_MEAN = (0.01, 100.0), 10.0
"""Deviation of targets of regression, and their mean in deviations."""
DEAD, SATURATED, RATIO, FADED, LOST = 0.10, 0.25, 10.0, 1e-3, 0.9
"""Shares of dead units and saturated values; deviations between layers; gradients or first activations that vanish; shares that fail."""
LEAST_PIXELS = 8
"""To a side of images; smaller ones may well have as many channels."""
PENALTY = 1000.0
OVERFITTED = 0.05
RATES, STEPS, ROUNDS = (3e-3, 3e-2, 3e-4), 100, 5
"""What overfitting is tried with: rates of Adam, one after the other, each for so many rounds of so many steps."""
CHECKED_ROWS, CHECKED_ITEMS = 6, 5


def all_checks(
    trainer: Trainer, X: Any, y: Any, data: Data, rows: NDArray[np.int64], examples: int, trained: bool
) -> Iterator[Check]:
    """Yield all rows of the report for a completed copy of a trainer."""
    seen = look(trainer, data.arrays, rows, data.form)
    yield from inputs_centred(trainer.model, seen)
    for head in trainer.heads:
        yield targets(trainer, head, data)
    chance = loss_of_zeros(trainer, data.arrays, rows)
    yield initial_loss(trainer, seen.loss, chance, trained)
    yield regularised(trainer.model, seen.loss)
    yield first_weights(trainer.model)
    yield from activation_checks(seen)
    yield gradients(trainer, X, y)
    yield overfits(trainer, X, y, examples)


def targets_name(trainer: Trainer, head: Head | None = None) -> str:
    """Return what the check of the targets is called."""
    named = head or trainer.heads[0]
    return ("labels" if named.counts else "targets") + (f" of {named.output}" if named.suffix and head else "")


def skipped(trainer: Trainer, why: str) -> list[Check]:
    """Return the checks that cannot be made where the data are refused."""
    names = ("initial loss", "loss with regularisation", "activations", "gradient check", "overfitting")
    return [Check(name, "-", "-", "skipped", why) for name in names]


def finite(inputs: Mapping[str, Array | Csr]) -> Check | None:
    """Return a failed check if an input holds NaN or infinity."""
    for name, given in inputs.items():
        array = given.data if isinstance(given, Csr) else given
        if array.dtype.kind != "f":
            continue
        bad = sum(int(np.count_nonzero(~np.isfinite(array[i : i + 65536]))) for i in range(0, len(array), 65536))
        if bad:
            shown = "inputs" if len(inputs) == 1 else f"inputs of {name}"
            return Check(shown, f"{bad} NaN or infinite", "finite numbers", "failed", "fill or remove them", float(bad))
    return None


def inputs_centred(model: Model, seen: Look) -> Iterator[Check]:
    """Check that the features are around 0 as the first layer sees them, and of one scale."""
    expected = f"mean within {OFF_CENTRE:g} std of 0"
    advice = "centre them: preprocess=fnn.data.Standardize(), or Center()"
    for name, rows in seen.inputs.items():
        shown = "inputs" if len(model.network.inputs) == 1 else f"inputs of {name}"
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        mean, std = float(flat.mean()), float(flat.std())
        means, stds = flat.mean(axis=0), flat.std(axis=0)
        value = f"mean {mean:.3g}, std {std:.3g}"
        varying = stds[stds > 0]
        if not varying.size:
            nothing = "every feature is the same in all rows: nothing can be learned"
            yield Check(shown, value, expected, "failed", nothing)
            continue
        ratio = abs(mean) / std
        apart = math.sqrt(float(np.mean(means**2) / np.mean(stds**2)))
        wide = float(varying.max() / np.median(varying))
        # The mean of n rows is off by std / sqrt(n), which says nothing about the data.
        noise = 2 / math.sqrt(len(flat))
        if ratio > OFF_CENTRE + noise:
            yield Check(shown, value, expected, "warning", advice, ratio)
        elif apart > APART + noise:
            value = f"the features' means are {apart:.3g} times their deviations"
            yield Check(shown, value, f"at most {APART:g} times", "warning", advice, apart)
        elif wide > WIDEST:
            value = f"the widest feature has {wide:.3g} times the deviation of the middle one"
            scale = "bring them to one scale: preprocess=fnn.data.Standardize(per='feature')"
            yield Check(shown, value, f"at most {WIDEST:g} times", "warning", scale, wide)
        elif _channels_first(model, shape := model.input_shapes[name]):
            value = f"images of {shape[0]} x {shape[1]} pixels with {shape[2]} channels"
            turn = f"if these are {shape[0]} channels of {shape[1]} x {shape[2]} pixels: X.transpose(0, 2, 3, 1)"
            yield Check(shown, value, "height, width, channels", "warning", turn)
        else:
            yield Check(shown, value, expected, "ok", "", ratio)


def _channels_first(model: Model, shape: tuple[int, ...]) -> bool:
    """Return whether images look as other libraries have them, 3 x 32 x 32, and a layer reads them as images."""
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2] or shape[1] < LEAST_PIXELS:
        return False
    return any("2d" in layer.kind for layer in model.layers.values())


def targets(trainer: Trainer, head: Head, data: Data) -> Check:
    """Check that labels are balanced, and targets vary on a usable scale; what is out of range was refused before."""
    name = targets_name(trainer, head)
    y = data.arrays[f"y{head.suffix}"]
    weights = data.arrays.get(f"weights{head.suffix}")
    if weights is not None:
        y = y[weights[:, 0] != 0]
    if len(y) == 0:
        return Check(name, "no row counts", "rows", "failed", "every row has weight 0 or the ignored label")
    if head.counts:
        return _labels(name, head, y, trainer.model.classes[head.output])
    flat = y.reshape(len(y), -1).astype(np.float64)
    if head.loss.task == "multilabel":
        shares = flat.mean(axis=0)
        value = f"{len(shares)} outputs, {shares.min():.1%} to {shares.max():.1%} yes"
        expected = "yes and no for every output"
        if (flat == flat[0]).all():
            return Check(name, value, expected, "failed", "all rows have the same targets: there is nothing to learn")
        if shares.min() < 0.01 or shares.max() > 0.99:
            return Check(
                name, value, expected, "warning", "an output is nearly always the same: weigh it (pos_weight=)"
            )
        return Check(name, value, expected, "ok")
    mean, std = float(flat.mean()), math.sqrt(float(flat.var(axis=0).mean()))
    value, expected = f"mean {mean:.3g}, std {std:.3g}", f"std from {TARGET_STD[0]:g} to {TARGET_STD[1]:g}"
    if std == 0.0:
        return Check(name, value, expected, "failed", "all rows have the same target: there is nothing to learn", std)
    if head.loss.task == "regression" and not TARGET_STD[0] <= std <= TARGET_STD[1]:
        return Check(name, value, expected, "warning", "scale the targets to deviation 1", std)
    if head.loss.task == "regression" and abs(mean) > TARGET_MEAN * std:
        return Check(name, value, f"mean within {TARGET_MEAN:g} std of 0", "warning", "subtract their mean", std)
    return Check(name, value, expected if head.loss.task == "regression" else "they vary", "ok", "", std)


def _labels(name: str, head: Head, y: Array, classes: Array) -> Check:
    counts = np.bincount(y, minlength=len(classes))
    value = f"{len(classes)} classes, {counts.min()} to {counts.max()} rows each"
    expected = f"all classes, at most {UNBALANCED:g} times as often as another"
    if np.count_nonzero(counts) < 2:
        return Check(
            name, value, expected, "failed", f"all labels are {classes[counts.argmax()]}: there is nothing to learn"
        )
    ratio = float(counts.max() / counts.min()) if counts.min() else math.inf
    if counts.min() == 0:
        missing = ", ".join(str(c) for c in classes[counts == 0][:5])
        return Check(name, value, expected, "warning", f"no row has the label {missing}", ratio)
    if ratio > UNBALANCED and getattr(head.loss, "class_weight", None) is None:
        advice = (
            "accuracy misleads here: SoftmaxCrossEntropy(class_weight='balanced'), or more rows of the rare classes"
        )
        return Check(name, value, expected, "warning", advice, ratio)
    return Check(name, value, expected, "ok", "", ratio)


def loss_of_zeros(trainer: Trainer, data: Mapping[str, Array], rows: NDArray[np.int64]) -> float:
    """Return the loss of scores that are all 0 on some rows: log of the number of classes under softmax."""
    model, total = trainer.model, 0.0
    for head in trainer.heads:
        builder, shape = Builder(True), model.output_shapes()[head.output]
        dtype = "i64" if head.counts else "T"
        scores = builder.value("scores", (BATCH, *shape))
        wanted = builder.value("targets", (BATCH,) if head.loss.task == "classification" else (BATCH, *shape), dtype)
        given = {"scores": np.zeros((len(rows), *shape), model.dtype), **data}
        given["targets"] = np.ascontiguousarray(data[f"y{head.suffix}"][rows])
        weights = None
        if f"weights{head.suffix}" in data:
            weights = builder.value("row weights", (BATCH,))
            given["row weights"] = np.ascontiguousarray(data[f"weights{head.suffix}"][rows, 0])
        value = head.loss.forward(builder, scores, wanted, weights, f"loss{head.suffix}")
        found = computed(builder.graph, [value], given, len(rows), model.dtype.name)
        total += head.weight * float(found[value][0])
    return total


def initial_loss(trainer: Trainer, found: float, chance: float, trained: bool) -> Check:
    """Check that an untrained network knows as little as scores of 0 do, and is no surer of itself."""
    name = "initial loss"
    head = trainer.heads[0]
    classes = len(trainer.model.classes[head.output]) if head.counts else 0
    plain = len(trainer.heads) == 1 and head.loss.kind == "softmax_cross_entropy"
    log = plain and math.isclose(chance, math.log(classes), rel_tol=1e-5)
    expected = f"{chance:.4f} ({f'log {classes}' if log else 'scores of 0'})"
    value = f"{found:.4f}"
    if not math.isfinite(found):
        return Check(
            name, value, expected, "failed", "look at the activations: the first weights or inputs are too large", found
        )
    if trained:
        return Check(name, value, expected, "skipped", "the network is trained already", found)
    if not math.isfinite(chance):
        return Check(name, value, expected, "skipped", "the loss is not finite at scores of 0", found)
    if any(each.loss.task in ("regression", "counts") for each in trainer.heads):
        low, high = -math.inf, 10 * chance if chance > 0 else math.inf
    else:
        low, high = chance / 2, chance + max(chance, 2.0)
    if found > high:
        advice = (
            "the first scores are too large: smaller first weights (of the last layer above all), or scale the inputs"
        )
        return Check(name, value, expected, "failed" if found > 10 * high else "warning", advice, found)
    if found < low:
        return Check(
            name, value, expected, "warning", "better than chance untrained: do the inputs hold the labels?", found
        )
    return Check(name, value, expected, "ok", "", found)


def regularised(model: Model, loss: float) -> Check:
    """Check that weight decay adds to the loss."""
    from pyfastnn import optim
    from pyfastnn.train.updates import groups_of, penalty_graph

    name = "loss with regularisation"
    rule = optim.SGD(weight_decay=PENALTY)
    graph = penalty_graph(model, rule, groups_of(model, rule, {}), model.trained())
    wanted = [output for node in graph.nodes for output in node.outputs]
    if not wanted:
        return Check(name, "-", "-", "skipped", "no parameter decays")
    found = computed(graph, wanted, state_of(model), 1, model.dtype.name, numbers={"weight_decay": PENALTY})
    total = loss + sum(float(penalty[0]) for penalty in found.values())
    value, expected = f"{total:.4f} at weight_decay={PENALTY:g}", f"above {loss:.4f}"
    if total > loss:
        return Check(name, value, expected, "ok", "", total)
    if total == loss:
        return Check(name, value, expected, "warning", "every weight that decays is 0: draw them at random", total)
    return Check(name, value, expected, "failed", "the weights are not finite, or the loss is not", total)


def first_weights(model: Model) -> Check:
    """Check that the units of a hidden layer differ: equal ones get equal gradients and stay equal for ever."""
    name, expected = "first weights", "units of a hidden layer differ"
    network = model.network
    places = {place - len(network.inputs) for place in network.outputs.values()}
    last = {network.calls[place].layer for place in places if place >= 0}
    same = []
    for key, parameter in model.trained().items():
        w = model.arrays()[key]
        # Scales, shifts and slopes rightly begin equal; the last layer may begin at 0, as its inputs differ.
        if key.rsplit(".", 1)[0] in last or not parameter.decay or w.ndim < 2 or w.shape[-1] < 2:
            continue
        if (w == w[..., :1]).all():
            same.append(key)
    if not same:
        return Check(name, "they differ", expected, "ok")
    advice = "equal units stay equal: draw the weights at random, such as nn.Linear(..., init='he_normal')"
    return Check(name, f"all units of {', '.join(same[:4])} are equal", expected, "failed", advice, float(len(same)))


def activation_checks(seen: Look) -> Iterator[Check]:
    """Check what comes out of every activation, and the gradient that comes back."""
    layers = seen.statistics.layers
    first: dict[str, LayerStatistics] = {}
    for each in layers:
        begin = first.setdefault(each.kind, each)
        value = f"mean {each.mean:.3g}, std {each.std:.3g}, dead {each.dead:.0%}, saturated {each.saturated:.0%}"
        value += f", gradient std {each.gradient_std:.2g}" * (not math.isnan(each.gradient_std))
        expected = f"std within {RATIO:g}x, dead < {DEAD:.0%}, saturated < {SATURATED:.0%}"
        verdict, advice = _activation(each, begin, layers[-1], seen.statistics.inputs)
        yield Check(f"activation {each.layer}", value, expected, verdict, advice, each.std)


def _activation(
    each: LayerStatistics, first: LayerStatistics, last: LayerStatistics, inputs: tuple[LayerStatistics, ...]
) -> tuple[str, str]:
    """Return verdict and advice for one activation."""
    if not math.isfinite(each.std):
        return "failed", "not finite: smaller first weights, or scale the inputs"
    if each.dead >= LOST:
        return "failed", "the units never fire: look at the biases and the scale of the inputs, or use nn.LeakyReLU()"
    if each.std == 0.0 or each.std < first.std * 1e-4:
        return "failed", "the signal is lost: larger first weights (he_normal for ReLU, xavier_normal for tanh)"
    if each.saturated >= LOST:
        return "failed", "saturated: smaller first weights (xavier_normal), or scale the inputs"
    if each.std < first.std / RATIO:
        return (
            "warning",
            "the signal fades from layer to layer: larger first weights (he_normal for ReLU), or nn.BatchNorm()",
        )
    if each.std > first.std * RATIO:
        return "warning", "the signal grows from layer to layer: smaller first weights, or nn.BatchNorm()"
    if each.dead > DEAD:
        return "warning", "dead units learn nothing: centre the inputs, he_normal, or nn.LeakyReLU()"
    if each.saturated > SATURATED:
        return (
            "warning",
            "saturated values pass no gradient: smaller first weights (xavier_normal), or scale the inputs",
        )
    widest = max((x.std for x in inputs), default=0.0)
    if each.std < FADED * widest:
        return "warning", "the signal is faint beside the inputs: larger first weights (he_normal for ReLU)"
    if each.gradient_std == 0.0:
        return "warning", "no gradient comes back to this layer: look at the layers after it"
    if each.gradient_std < FADED * last.gradient_std:
        return "warning", "gradients vanish on the way back: larger first weights, nn.BatchNorm(), or shortcuts"
    if each.gradient_std * FADED > last.gradient_std > 0.0:
        return "warning", "gradients grow on the way back: smaller first weights, nn.BatchNorm(), or clip_norm="
    return "ok", ""


def gradients(trainer: Trainer, X: Any, y: Any) -> Check:
    """Hold the gradients of a few elements of every array against differences."""
    name, expected = "gradient check", "relative error at most 1e-05"
    rows = some_rows(_count(X), CHECKED_ROWS)
    try:
        found = gradient_check(
            trainer.model, taken(X, rows), taken(y, rows), loss=trainer.loss, samples=CHECKED_ITEMS, seed=trainer.seed
        )
    except ValueError as error:
        return Check(name, "-", expected, "failed", str(error))
    value = f"{found.worst.error:.1e} in {found.worst.name}"
    if found.passed:
        return Check(name, value, expected, "ok", "", found.worst.error)
    return Check(
        name, value, expected, "failed", f"{found.verdict}: look at layers and losses of your own", found.worst.error
    )


def overfits(trainer: Trainer, X: Any, y: Any, examples: int) -> Check:
    """Check that a few rows can be learned by heart, without regularisation."""
    from pyfastnn import optim
    from pyfastnn.train.prepare import training_data
    from pyfastnn.train.trainer import Trainer

    rows = some_rows(_count(X), examples)
    name = f"overfits {len(rows)} rows"
    few, wanted = taken(X, rows), taken(y, rows)
    losses: dict[str, Loss] = {head.output: _unsmoothed(head.loss) for head in trainer.heads}
    known = all(head.loss.kind != "custom" for head in trainer.heads)
    counted = known and any(head.counts for head in trainer.heads)
    best: tuple[float, float, int] = (math.inf, 0.0, 0)
    limit = 0.0
    for rate in RATES:
        model = copy.deepcopy(trainer.model)
        parts = dict(trainer.loss_weights) or None
        alone = next(iter(losses.values()))
        named = losses if len(model.network.outputs) > 1 else alone
        own = quiet(Trainer(model, named, optim.Adam(learning_rate=rate), loss_weights=parts, guard=None))
        own.seed, own.threads = trainer.seed, trainer.threads
        data = training_data(own, few, wanted)
        lowest = _least(own, data)
        begin = loss_of_zeros(own, data.arrays, np.arange(len(rows), dtype=np.int64))
        limit = lowest + OVERFITTED * (begin - lowest) if math.isfinite(begin) else OVERFITTED
        for done in range(1, ROUNDS + 1):
            own.fit(few, wanted, epochs=STEPS, batch_size=len(rows), verbose=0)
            figures = own.evaluate(few, wanted)
            right = min((v for k, v in figures.items() if k.partition(".")[0] == "accuracy"), default=1.0)
            reached = (figures["loss"], right if counted else 1.0, done * STEPS)
            learned = reached[0] <= limit and reached[1] == 1.0
            if learned or not best[2] or (reached[1], -reached[0]) > (best[1], -best[0]):
                best = reached
            if learned:
                break
        else:
            continue
        break
    value = f"loss {best[0]:.4f}" + f", accuracy {best[1]:.2f}" * counted + f" after {best[2]} steps"
    expected = f"loss under {limit:.4f}" + ", accuracy 1.00" * counted
    if best[0] <= limit and best[1] == 1.0:
        return Check(name, value, expected, "ok", "", best[0])
    wanted = "labels" if counted else "targets and their scale"
    advice = f"the network cannot learn a handful of rows: look at inputs, {wanted}, first weights, and whether it is too narrow"
    return Check(name, value, expected, "failed" if known else "warning", advice, best[0])


def _unsmoothed(loss: Loss) -> Loss:
    """Return a loss without label smoothing, under which no network reaches 0."""
    config = loss.config()
    return type(loss)(**{**config, "label_smoothing": 0.0}) if config.get("label_smoothing") else loss


def _least(trainer: Trainer, data: Data) -> float:
    """Return the least loss any scores can have: above 0 where targets are probabilities or counts."""
    total = 0.0
    for head in trainer.heads:
        y = data.arrays[f"y{head.suffix}"].astype(np.float64)
        part = 0.0
        if head.loss.kind == "poisson":
            part = float(np.mean(y - y * np.log(np.where(y > 0, y, 1.0))))
        elif head.loss.kind == "binary_cross_entropy":
            yes = y * np.asarray(data.arrays.get(f"pos_weight{head.suffix}", 1.0), np.float64)
            no = 1.0 - y
            p = yes / np.maximum(yes + no, 1e-300)
            logs = [np.log(np.where(q > 0, q, 1.0)) for q in (p, 1.0 - p)]
            part = float(np.mean(-yes * logs[0] - no * logs[1]))
        total += head.weight * part
    return total


def _count(X: Any) -> int:
    """Return the number of rows of what a user gives."""
    first = next(iter(X.values())) if isinstance(X, Mapping) else X
    return int(first.shape[0]) if hasattr(first, "shape") else len(first)
