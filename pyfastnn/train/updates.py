"""The part of a training step behind the gradients: clipping, penalties, update rules, bounds on norms, running means.

All of it stands on the optimizer's settings; what is off adds no node. The nodes are named ``"update"``, which lets
`pyfastnn.graph.rewrites.hoist_updates` move each up to where its gradient is still in cache.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.graph import Builder, Graph
from pyfastnn.nn.layer import Parameter
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer

Array = NDArray[Any]

DECAY_GROUP, PLAIN_GROUP = 0, 1
"""Hyper rows that are always there: parameters that penalties apply to, and those exempt, at the common learning rate."""


@dataclass(frozen=True)
class Groups:
    """Which row of hyper each parameter reads.

    Attributes
    ----------
    factors : tuple of float
        What the learning rate is multiplied by, for each row.
    decays : tuple of bool
        Whether weight decay and L1 apply, for each row.
    of : dict of str to int
        Row of each parameter.
    """

    factors: tuple[float, ...] = (1.0, 1.0)
    decays: tuple[bool, ...] = (True, False)
    of: dict[str, int] = field(default_factory=dict, compare=False)


COMMON = Groups()
"""Rows of a run without rate factors."""


def parameter_groups(declared: Mapping[str, Parameter], rate_factors: Mapping[str, float]) -> Groups:
    """Return a row of hyper for every pair of rate factor and decay that occurs.

    Parameters
    ----------
    declared : mapping of str to Parameter
        All arrays of the model by full name (``"linear_1.w"``).
    rate_factors : mapping of str to float
        By layer or array; the longest name that fits an array counts.

    Raises
    ------
    ValueError
        If a name fits no learned array; names the nearest.
    """
    learned = {k: p for k, p in declared.items() if p.learned}
    layers = {name.rsplit(".", depth)[0]: None for name in learned for depth in range(1, name.count(".") + 1)}
    for name in rate_factors:
        if name not in learned and name not in layers:
            raise ValueError(f"rate_factors: {unknown('layer or array', name, [*layers, *learned])}")
    pairs = [(1.0, True), (1.0, False)]
    of = {}
    for name, parameter in learned.items():
        fitting = [k for k in rate_factors if name == k or name.startswith(f"{k}.")]
        factor = rate_factors[max(fitting, key=len)] if fitting else 1.0
        pair = (factor, parameter.decay)
        if pair not in pairs:
            pairs.append(pair)
        of[name] = pairs.index(pair)
    return Groups(tuple(f for f, _ in pairs), tuple(d for _, d in pairs), of)


def emit_updates(builder: Builder, model: Model, optimizer: Optimizer, gradients: Mapping[str, str]) -> None:
    """Append the nodes that turn gradients into new parameters.

    Gradients are cut by value, then scaled by the norm of all of them, then L1 is added; what stands in the graph as the gradient stays
    what backpropagation found, each of these is a value of its own. The sum of squares goes through the gradients in the order they are
    made, so that each is read while it is in cache.

    Parameters
    ----------
    builder : Builder
        Holds forward and backward; the optimizer's slots and the nodes are added to it.
    model : Model
        Says which parameters decay.
    optimizer : Optimizer
        The update rule.
    gradients : mapping of str to str
        Parameter name to gradient name.
    """
    groups = parameter_groups(model.declared, optimizer.rate_factors)
    values = builder.graph.values
    made = {output: at for at, node in enumerate(builder.graph.nodes) for output in node.outputs}
    names = sorted(gradients, key=lambda name: made.get(values[gradients[name]].view_of or gradients[name], -1))
    final = {name: gradients[name] for name in names}

    def emit(op: str, inputs: tuple[str | None, ...], output: str = "", group: int = DECAY_GROUP) -> str:
        return builder.emit(op, inputs, outputs=(output,) if output else None, group=group, name="update")[0]

    if optimizer.clip_value is not None:
        final = {name: emit("clip_by_value", (g,), f"clipped({name})") for name, g in final.items()}
    total: str | None = None
    if optimizer.clip_norm is not None:
        for name, gradient in final.items():
            total = emit("sum_of_squares", (gradient, total), f"squares({name})")
    for name, gradient in final.items():
        parameter, group = model.declared[name], groups.of[name]
        if total is not None:
            gradient = emit("clip_by_norm", (gradient, total), f"scaled({name})")
        if optimizer.l1 > 0 and parameter.decay:
            gradient = emit("l1_gradient", (gradient, name), f"with_l1({name})", group)
        slots = [builder.value(f"{name}.{slot}", parameter.shape, kind="state") for slot in optimizer.slots]
        emit(optimizer.op, (name, gradient, *slots), group=group)
        if optimizer.max_norm is not None and parameter.decay and len(parameter.shape) > 1:
            emit("max_norm", (name,), group=group)
        if optimizer.ema is not None:
            emit("ema_step", (builder.value(f"{name}.ema", parameter.shape, kind="state"), name), group=group)


def penalty_graph(model: Model, optimizer: Optimizer, written: Collection[str]) -> Graph:
    """Return the penalty of every parameter that decays: L2 unless the decay is decoupled, and L1 if it is on.

    Those that a training step does not write, since no loss depends on them, have none.
    """
    builder = Builder()
    groups = parameter_groups(model.declared, optimizer.rate_factors)
    ops = [*(() if optimizer.decoupled else ("l2_penalty",)), *(("l1_penalty",) if optimizer.l1 > 0 else ())]
    for name, parameter in model.trained().items():
        if parameter.decay and ops and name in written:
            w = builder.value(name, parameter.shape, kind="parameter")
            for op in ops:
                builder.emit(op, (w,), outputs=(f"{op}({name})",), group=groups.of[name], name="penalty")
    return builder.graph


def slot_shapes(model: Model, optimizer: Optimizer) -> dict[str, tuple[int, ...]]:
    """Return the optimizer's arrays by name (``"linear_1.w.velocity"``)."""
    slots = (*optimizer.slots, *(() if optimizer.ema is None else ("ema",)))
    return {f"{name}.{slot}": parameter.shape for name, parameter in model.trained().items() for slot in slots}


def start_slots(model: Model, optimizer: Optimizer, kept: Mapping[str, Array]) -> dict[str, Array]:
    """Return the optimizer's arrays as they are before the first step: zeros, and running means that are the weights.

    Those of ``kept`` that fit go on where they were: Adam's step number does too, and would be too large for new moments.
    """
    slots = model.allocate(slot_shapes(model, optimizer))
    if optimizer.ema is not None:
        for name in model.trained():
            slots[f"{name}.ema"][...] = model.arrays()[name]
    for name, slot in slots.items():
        if name in kept and kept[name].shape == slot.shape:
            slot[...] = kept[name]
    return slots


def mean_model(model: Model, optimizer: Optimizer, slots: Mapping[str, Array]) -> Model:
    """Return a copy of the model with the running means of its weights: see `pyfastnn.Trainer.ema_model`."""
    if optimizer.ema is None:
        raise RuntimeError(
            "ema_model: the optimizer keeps no running means; make it with ema=, such as optim.Adam(ema=0.999)"
        )
    if not slots:
        raise RuntimeError("ema_model: there are no running means yet: call fit or step first")
    mean = copy.deepcopy(model)
    for name in model.trained():
        mean.arrays()[name][...] = slots[f"{name}.ema"]
    return mean
