"""From a model, a loss and an optimizer to compiled plans: the one place where a training step is put together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.rewrites import (
    drop_unread,
    fuse_conv_pool,
    hoist_updates,
    pool_before_relu,
    sparse_pool_gradients,
    to_bf16,
)
from pyfastnn.graph.schema import Dim
from pyfastnn.nn.losses import Loss
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer
from pyfastnn.train.probes import Probes, watched_graph
from pyfastnn.train.updates import COMMON, Groups, emit_updates, groups_of, penalty_graph

Array = NDArray[Any]


class Form(NamedTuple):
    """What the graphs of a training step depend on in the data.

    Attributes
    ----------
    weighted : bool
        Whether rows have weights.
    sparse : frozenset of str
        Inputs given as sparse matrices.
    """

    weighted: bool = False
    sparse: frozenset[str] = frozenset()


PLAIN = Form()
"""Dense rows that all count the same."""


@dataclass(frozen=True)
class Head:
    """An output of a model with its loss.

    Attributes
    ----------
    output : str
        Name of the output.
    loss : Loss
        What its scores and targets are held against each other by.
    weight : float
        Its part in the loss that is trained on.
    suffix : str
        What the names of its values end with: nothing for the only output, else ``".name"``.
    """

    output: str
    loss: Loss
    weight: float
    suffix: str

    @property
    def counts(self) -> bool:
        """Whether rows whose highest score is the label are counted."""
        return self.loss.task == "classification"

    @property
    def ignores(self) -> bool:
        """Whether rows of one label take no part: their weights are 0."""
        return self.loss.ignore_index is not None


def training_graph(
    model: Model,
    loss: Loss | Sequence[Head],
    optimizer: Optimizer,
    *,
    hoist: bool = True,
    bf16: bool = False,
    form: Form = PLAIN,
    sparse_pools: bool = True,
    fuse_pools: bool = True,
    groups: Groups | None = None,
) -> Graph:
    """Return gather, forward, loss, backward and updates as one graph.

    Parameters
    ----------
    model : Model
        A built model.
    loss : Loss or sequence of Head
        Its loss, or that of each output.
    optimizer : Optimizer
        Its update rule.
    hoist : bool, default True
        Whether updates stand right after their gradients (`pyfastnn.graph.rewrites.hoist_updates`) or all at the end.
    bf16 : bool, default False
        Whether large products round their factors to bfloat16 (`pyfastnn.graph.rewrites.to_bf16`).
    form : Form
        What the data are: weights of rows are the input ``weights`` (``weights.name`` for several outputs).
    sparse_pools : bool, default True
        Whether gradients after max pools stay pooled (`pyfastnn.graph.rewrites.sparse_pool_gradients`), and ReLUs before them come after
        (`pool_before_relu`).
    fuse_pools : bool, default True
        Whether convolutions pool as they go where they can (`pyfastnn.graph.rewrites.fuse_conv_pool`).
    groups : Groups, optional
        Which row of hyper each parameter reads; by default as in a run from its start.

    Raises
    ------
    ValueError
        If the model ends in a softmax, sigmoid or exponential, and the loss has one in it.
    """
    builder, value = loss_graph(model, loss, training=True, form=form)
    gradients = backward(builder, value, list(model.trained()))
    emit_updates(builder, model, optimizer, gradients, groups or groups_of(model, optimizer, {}))
    graph, keep = builder.graph, result_values(builder.graph)
    graph = pool_before_relu(sparse_pool_gradients(graph, keep), keep) if sparse_pools else graph
    graph = fuse_conv_pool(graph, keep) if fuse_pools else graph
    graph = to_bf16(graph) if bf16 else graph
    return hoist_updates(graph) if hoist else graph


def loss_graph(model: Model, loss: Loss | Sequence[Head], *, training: bool, form: Form = PLAIN) -> tuple[Builder, str]:
    """Return gather, layers and loss, and the name of the loss value.

    Layers that only outputs without a loss need are left out, but for those that keep running statistics, and what they read.
    """
    heads = [Head(next(iter(model.network.outputs)), loss, 1.0, "")] if isinstance(loss, Loss) else list(loss)
    builder, index, outputs = model.forward_graph(training=training, sparse=form.sparse)
    found = []
    for head in heads:
        scores = outputs[head.output]
        _refuse_twice(builder.graph, scores, head.loss)
        targets = _targets(builder, builder.graph.values[scores].shape[1:], head, index)
        weights = _weights(builder, head, index) if form.weighted or head.ignores else None
        found.append(head.loss.forward(builder, scores, targets, weights, f"loss{head.suffix}"))
    parts = [head.weight for head in heads]
    if len(heads) == 1 and heads[0].suffix:
        # The only loss of several outputs: twice the half of its part is exactly its part, under the name of the sum.
        found, parts = 2 * found, [parts[0] / 2] * 2
    total, factor = found[0], parts[0]
    for k in range(1, len(found)):
        names = ("loss",) if k + 1 == len(found) else None
        attrs = {"a_weight": factor, "b_weight": parts[k]}
        total, factor = builder.emit("add_losses", (total, found[k]), attrs, names, name="total")[0], 1.0
    if len(heads) < len(outputs):
        builder.graph = drop_unread(builder.graph, result_values(builder.graph))
    return builder, total


def result_values(graph: Graph) -> list[str]:
    """Return the values that a step of training or evaluation answers: losses, and rows that are right."""
    return [name for name in graph.values if name.split(".")[0] in ("loss", "correct")]


def _targets(builder: Builder, shape: tuple[Dim, ...], head: Head, index: str) -> str:
    """Add the gather of the targets of the batch."""
    name = f"targets{head.suffix}"
    if head.loss.task == "classification":
        y = builder.value(f"y{head.suffix}", ("m",), "i64")
        return builder.emit("gather_labels", (y, index), name=name)[0]
    y = builder.value(f"y{head.suffix}", ("m", math.prod(d for d in shape if isinstance(d, int))), "any")
    rows = builder.emit("gather_rows", (y, index, None, None), name=name)[0]
    return builder.view(rows, (BATCH, *shape))


def _weights(builder: Builder, head: Head, index: str) -> str:
    """Add the gather of the weights of the batch."""
    name = f"row_weights{head.suffix}"
    data = builder.value(f"weights{head.suffix}", ("m", 1), "any")
    return builder.view(builder.emit("gather_rows", (data, index, None, None), name=name)[0], (BATCH,), f"{name}.w")


def _refuse_twice(graph: Graph, scores: str, loss: Loss) -> None:
    """Raise where a loss would take the softmax of a softmax, and the like: such a network trains, badly, and nothing tells why."""
    root = graph.values[scores].view_of or scores
    made_by = next((node for node in graph.nodes if root in node.outputs), None)
    if loss.kind == "softmax_cross_entropy" and made_by and made_by.op in ("softmax_forward", "log_softmax_forward"):
        raise ValueError(
            f"the model ends in {made_by.name!r}, and the loss {loss!r} takes the softmax itself: leave that layer out; "
            "model.predict_proba gives probabilities"
        )
    if loss.kind == "binary_cross_entropy" and made_by and made_by.op == "sigmoid_forward":
        raise ValueError(
            f"the model ends in {made_by.name!r}, and the loss {loss!r} takes the sigmoid itself: leave that layer out; "
            "model.predict_proba gives probabilities"
        )
    if loss.kind == "poisson" and made_by and made_by.op == "exp_forward":
        raise ValueError(
            f"the model ends in {made_by.name!r}, and the loss {loss!r} takes the exponential itself: leave that layer out; "
            "model.predict gives rates"
        )


def evaluation_graph(
    model: Model, loss: Loss | Sequence[Head], form: Form = PLAIN, *, fuse_pools: bool = True
) -> Graph:
    """Return gather, prediction form and loss as one graph, by default with pools fused as in `Model.prediction_graph`."""
    graph = loss_graph(model, loss, training=False, form=form)[0].graph
    keep = result_values(graph)
    return fuse_conv_pool(pool_before_relu(graph, keep), keep) if fuse_pools else graph


@dataclass
class Compiled:
    """The plans of one trainer for one batch size.

    Attributes
    ----------
    train : CpuPlan
        The training step (and, as list ``"penalty"``, the penalties of the weights).
    evaluation : callable
        Gives the evaluation step for data of some form; compiled when it is first asked for.
    batch : int
        Rows of the largest training step.
    key : tuple
        What the plans were compiled for; another key means compiling again.
    groups : Groups
        The hyper rows of its parameters.
    penalties : ndarray of float64
        One item per penalty of a parameter that decays, written by the list ``"penalty"``.
    probes : Probes or None
        What the list ``"watched"`` writes beside all that ``"train"`` does, if there is one.
    """

    train: CpuPlan
    evaluation: Callable[[Form], CpuPlan]
    batch: int
    key: tuple[Any, ...]
    groups: Groups = COMMON
    penalties: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    probes: Probes | None = None


EVALUATION_BATCH = 256


def _scores(graph: Graph) -> list[str]:
    """Return what the losses of a training step read first: scores."""
    return [node.inputs[0] for node in graph.nodes if set(node.outputs) & set(result_values(graph)) and node.inputs[0]]


def compile_plans(
    model: Model,
    loss: Loss | Sequence[Head],
    optimizer: Optimizer,
    slots: dict[str, Array],
    batch: int,
    key: tuple[Any, ...] = (),
    *,
    bf16: bool = False,
    form: Form = PLAIN,
    watched: bool = False,
) -> Compiled:
    """Compile the plans of a trainer and bind all its arrays.

    Parameters
    ----------
    model : Model
        A built model; its arrays are bound, not copied.
    loss, optimizer : Loss or sequence of Head, and Optimizer
        Loss and update rule.
    slots : Slots or dict of str to ndarray
        The optimizer's arrays.
    batch : int
        Rows of the largest training step.
    key : tuple
        Kept as ``Compiled.key``.
    bf16, form : bool and Form
        As for `training_graph`; evaluation is never rounded.
    watched : bool, default False
        Whether the training step is also made in the form that says how training goes (`pyfastnn.train.probes`).
    """
    groups = groups_of(model, optimizer, slots)
    train_graph = training_graph(model, loss, optimizer, bf16=bf16, form=form, groups=groups)
    written = {o for node in train_graph.nodes for o in node.outputs}
    penalty = penalty_graph(model, optimizer, groups, written)
    decaying = [o for node in penalty.nodes for o in node.outputs]
    counts = result_values(train_graph)
    graphs = {"train": train_graph, "penalty": penalty} if decaying else {"train": train_graph}
    outputs = {**dict.fromkeys(counts, "step"), **dict.fromkeys(decaying, "none")}
    probes: Probes | None = None
    if watched:
        graphs["watched"], probes = watched_graph(train_graph, list(model.trained()), _scores(train_graph))
        outputs.update(dict.fromkeys(probes.widths, "record"))
    dtype = model.dtype.name
    train = CpuPlan(graphs, outputs, max_batch=batch, dtype=dtype)
    arrays = {**model.arrays(), **model.folded()}
    train.bind({k: v for k, v in {**arrays, **slots}.items() if k in train_graph.values})

    @functools.cache
    def evaluation(form: Form) -> CpuPlan:
        graph = evaluation_graph(model, loss, form)
        plan = CpuPlan({"evaluate": graph}, dict.fromkeys(counts, "step"), max_batch=EVALUATION_BATCH, dtype=dtype)
        plan.bind({k: v for k, v in arrays.items() if k in graph.values})
        return plan

    penalties = np.zeros(len(decaying))
    train.bind({name: penalties[i : i + 1] for i, name in enumerate(decaying)})
    return Compiled(train, evaluation, batch, key, groups, penalties, probes)
