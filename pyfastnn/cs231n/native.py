"""Training steps as compiled plans, for loss functions whose network is known: one native call runs the steps of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import nn
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.cs231n.rules import Rule
from pyfastnn.cs231n.steps import EXPLODED, Index, LossFunction
from pyfastnn.cs231n.two_layer import checked_labels, checked_model, checked_rows, two_layer_net
from pyfastnn.graph import Graph
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.rewrites import hoist_updates
from pyfastnn.nn.losses import Loss
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer
from pyfastnn.train.compiled import EVALUATION_BATCH, evaluation_graph, loss_graph, result_values
from pyfastnn.train.hyper import HyperRows
from pyfastnn.train.updates import Groups, emit_updates, groups_of, start_slots

Array = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """What a loss function computes, as layers.

    Attributes
    ----------
    check : callable
        Gives the arrays of the caller's model, checked and in one dtype.
    make : callable
        Gives a built model for them.
    loss : callable
        Gives its loss.
    names : dict of str to str
        The name in the built model of each array of the caller's.
    first : str
        The array whose rows are the values of a row of data.
    last : str
        The array whose items are the classes.
    """

    check: Callable[[str, Any], dict[str, Array]]
    make: Callable[[Mapping[str, Array]], Model]
    loss: Callable[[], Loss]
    names: Mapping[str, str]
    first: str
    last: str


def _two_layers(arrays: Mapping[str, Array]) -> Model:
    inputs, hidden = arrays["W1"].shape
    layers = nn.Linear(hidden, init="zeros"), nn.ReLU(), nn.Linear(arrays["W2"].shape[1], init="zeros")
    return nn.Sequential(*layers, dtype=arrays["W1"].dtype.name).build((inputs,))


_NETWORKS: list[tuple[LossFunction, Network]] = [
    (
        two_layer_net,
        Network(
            check=checked_model,
            make=_two_layers,
            loss=nn.SoftmaxCrossEntropy,
            names={"W1": "linear_1.w", "b1": "linear_1.b", "W2": "linear_2.w", "b2": "linear_2.b"},
            first="W1",
            last="b2",
        ),
    )
]


def network_of(loss_function: LossFunction) -> Network | None:
    """Return what a loss function computes, if it is one of this package."""
    return next((network for known, network in _NETWORKS if known is loss_function), None)


class NativeSteps:
    """Steps of a known network.

    Parameters
    ----------
    network : Network
        What the loss function computes.
    model : dict of str to ndarray
        Parameters of the caller, which are written by `finish`.
    data : tuple of ndarray
        ``X``, ``y``, ``X_val`` and ``y_val``.
    reg : float
        Strength of the penalty of the weights.
    rule : Rule
        Update rule.
    batch : int
        Rows a step.
    guard : str or None
        What ends the steps early.
    threads : int
        Threads of a step; 0 is the process-wide setting.
    """

    native = True

    def __init__(
        self,
        network: Network,
        model: dict[str, Array],
        data: tuple[Array, Array, Array, Array],
        reg: float,
        rule: Rule,
        batch: int,
        guard: str | None,
        threads: int,
    ) -> None:
        arrays = network.check("train", model)
        for name, array in model.items():
            if not array.flags.writeable:
                raise ValueError(f"train: model[{name!r}] is read-only, expected an array to train in place")
        X, y, X_val, y_val = data
        classes = arrays[network.last].size
        self.X, self.X_val = (checked_rows(A, k, arrays[network.first]) for A, k in ((X, "X"), (X_val, "X_val")))
        self.y = checked_labels(y, "y", len(self.X), classes)
        self.y_val = checked_labels(y_val, "y_val", len(self.X_val), classes)
        self.caller, self.names = model, network.names
        self.batch, self.guard, self.threads = batch, guard, threads
        self.model = network.make(arrays)
        self.model.load_state_dict({network.names[name]: array for name, array in arrays.items()})
        # The rate is set at each run.
        self.optimizer = rule.optimizer(1.0, reg)
        self.slots = start_slots(self.model, self.optimizer)
        self.groups = groups_of(self.model, self.optimizer, self.slots)
        loss = network.loss()
        graph, self.cost = training_graph(self.model, loss, self.optimizer, self.groups)
        self.results = dict.fromkeys([*result_values(graph), self.cost], "step")
        dtype = self.model.dtype.name
        self.train = CpuPlan({"train": graph}, self.results, max_batch=batch, dtype=dtype)
        self._bind(self.train, graph)
        graph = evaluation_graph(self.model, loss)
        counted = dict.fromkeys(result_values(graph), "step")
        self.evaluation = CpuPlan({"evaluate": graph}, counted, max_batch=EVALUATION_BATCH, dtype=dtype)
        self._bind(self.evaluation, graph)
        self.hyper = HyperRows()
        self.rate = math.nan
        self.done = 0
        self.first = math.nan

    def _bind(self, plan: CpuPlan, graph: Graph) -> None:
        arrays = {**self.model.arrays(), **self.model.folded(), **self.slots}
        plan.bind({name: array for name, array in arrays.items() if name in graph.values})

    def run(self, rows: Index | None, count: int, rate: float) -> tuple[list[float], str]:
        """Take steps in one native call."""
        self._set_rate(rate)
        index = np.tile(np.arange(len(self.X), dtype=np.int64), count) if rows is None else rows
        results = {name: np.zeros(count) for name in self.results}
        arrays = {"X": self.X, "y": self.y, "index": np.ascontiguousarray(index, np.int64), **results}
        watched = self.guard is not None
        lecture = self.guard == "lecture"
        steps, reason = self.train.run(
            "train",
            count * self.batch,
            self.batch,
            arrays,
            hyper=self.hyper.fill(self.optimizer, self.done + 1, count, 0, self.groups),
            watch=self.cost if watched else None,
            limit=EXPLODED * self.first if lecture and self.done else math.inf,
            limit_factor=EXPLODED if lecture and not self.done else 0.0,
            threads=self.threads,
        )
        costs = results[self.cost][:steps].tolist()
        if not self.done and costs:
            self.first = costs[0]
        self.done += steps
        return costs, reason

    def _set_rate(self, rate: float) -> None:
        """Set the rate; a velocity goes on as the steps it stands for: it is kept in units of the rate."""
        if self.done and rate != self.rate:
            for name, slot in self.slots.items():
                if name.endswith(".velocity"):
                    slot *= self.rate / rate
        self.rate = self.optimizer.learning_rate = rate

    def train_accuracy(self, rows: Index | None) -> float:
        """Return the accuracy on training rows, in one native call."""
        return self._accuracy(self.X, self.y, rows)

    def val_accuracy(self) -> float:
        """Return the accuracy on the validation rows, in one native call."""
        return self._accuracy(self.X_val, self.y_val, None)

    def _accuracy(self, X: Array, y: Index, rows: Index | None) -> float:
        index = np.arange(len(X), dtype=np.int64) if rows is None else np.ascontiguousarray(rows, np.int64)
        steps = -(-len(index) // EVALUATION_BATCH)
        results = {"loss": np.zeros(steps), "correct": np.zeros(steps)}
        arrays = {"X": X, "y": y, "index": index, **results}
        _, reason = self.evaluation.run("evaluate", len(index), EVALUATION_BATCH, arrays, threads=self.threads)
        if reason == "interrupted":
            raise KeyboardInterrupt
        return float(results["correct"].sum()) / len(index)

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters, in the dtypes of the caller's."""
        arrays = self.model.arrays()
        return {name: arrays[self.names[name]].astype(array.dtype) for name, array in self.caller.items()}

    def finish(self) -> None:
        """Write the parameters into the arrays of the caller."""
        for name, array in self.weights().items():
            self.caller[name][...] = array


def training_graph(model: Model, loss: Loss, optimizer: Optimizer, groups: Groups) -> tuple[Graph, str]:
    """Return a training step that gives the cost of every step, penalty included, and the name of that value."""
    builder, cost = loss_graph(model, loss, training=True)
    gradients = backward(builder, cost, list(model.trained()))
    decaying = [name for name, parameter in model.trained().items() if parameter.decay and optimizer.weight_decay > 0]
    for name in decaying:
        output = (f"l2_penalty({name})",)
        (penalty,) = builder.emit("l2_penalty", (name,), outputs=output, group=groups.of[name], name="penalty")
        output = ("cost",) if name == decaying[-1] else (f"with({penalty})",)
        (cost,) = builder.emit("add_losses", (cost, penalty), outputs=output, name="penalty")
    emit_updates(builder, model, optimizer, gradients, groups)
    return hoist_updates(builder.graph), cost
