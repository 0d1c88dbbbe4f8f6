"""The part of a training step after the gradients: clipping, penalties, update rules, bounds on norms, running means.

All of it stands on the optimizer's settings; what is off adds no node. The nodes are named ``"update"``, which lets
`pyfastnn.graph.rewrites.hoist_updates` move each up to where its gradient is still in cache.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown
from pyfastnn.graph import Builder, Graph
from pyfastnn.nn.layer import Parameter
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer

Array = NDArray[Any]

_NONE: Mapping[str, int] = MappingProxyType({})

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
    begun : tuple of int
        Steps of the run before the first of these parameters, for each row: rules that correct for the start of their moments count from
        there.
    of : dict of str to int
        Row of each parameter.
    """

    factors: tuple[float, ...] = (1.0, 1.0)
    decays: tuple[bool, ...] = (True, False)
    begun: tuple[int, ...] = (0, 0)
    of: dict[str, int] = field(default_factory=dict, compare=False)


COMMON = Groups()
"""Rows of a run without rate factors, all of whose parameters are trained from the first step on."""


class Slots(dict[str, Array]):
    """The arrays of an optimizer by name (``"linear_1.w.velocity"``), and what they belong to.

    Attributes
    ----------
    rule : str
        Kind of the update rule.
    drawn : dict of str to int
        The parameters, and how often each had been drawn (`Model.drawn`).
    begun : dict of str to int
        Steps of the run before the first of a parameter, where the rule counts steps and there were some.
    """

    def __init__(self, arrays: Mapping[str, Array] | None = None, rule: str = "") -> None:
        super().__init__(arrays or {})
        self.rule = rule
        self.drawn: dict[str, int] = {}
        self.begun: dict[str, int] = {}

    def own(self) -> None:
        """Copy arrays that are read-only."""
        self.update({name: array.copy() for name, array in self.items() if not array.flags.writeable})


def groups_of(model: Model, optimizer: Optimizer, slots: Mapping[str, Array]) -> Groups:
    """Return the hyper rows of a run of a model with an optimizer and its arrays."""
    begun = slots.begun if isinstance(slots, Slots) else {}
    return parameter_groups(model.declared, optimizer.rate_factors, begun)


def parameter_groups(
    declared: Mapping[str, Parameter], rate_factors: Mapping[str, float], begun: Mapping[str, int] = _NONE
) -> Groups:
    """Return a row of hyper for every combination of rate factor, decay and first step that occurs.

    Parameters
    ----------
    declared : mapping of str to Parameter
        All arrays of the model by full name (``"linear_1.w"``).
    rate_factors : mapping of str to float
        By layer or array; the longest name that fits an array counts.
    begun : mapping of str to int
        Steps before the first of an array, where there were some.

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
    rows = [(1.0, True, 0), (1.0, False, 0)]
    of = {}
    for name, parameter in learned.items():
        fitting = [k for k in rate_factors if name == k or name.startswith(f"{k}.")]
        factor = rate_factors[max(fitting, key=len)] if fitting else 1.0
        row = (factor, parameter.decay, begun.get(name, 0))
        if row not in rows:
            rows.append(row)
        of[name] = rows.index(row)
    factors, decays, first = zip(*rows, strict=True)
    return Groups(factors, decays, first, of)


def emit_updates(
    builder: Builder, model: Model, optimizer: Optimizer, gradients: Mapping[str, str], groups: Groups
) -> None:
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
    groups : Groups
        Which row of hyper each parameter reads.
    """
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


def penalty_graph(model: Model, optimizer: Optimizer, groups: Groups, written: Collection[str]) -> Graph:
    """Return the penalty of every parameter that decays: L2 unless the decay is decoupled, and L1 if it is on.

    Those that a training step does not write, since no loss depends on them, have none.
    """
    builder = Builder()
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


def start_slots(model: Model, optimizer: Optimizer, kept: Slots | None = None, step: int = 0) -> Slots:
    """Return the optimizer's arrays as they are before the first step: zeros, and running means that are the weights.

    Parameters
    ----------
    model, optimizer : Model and Optimizer
        A built model and its update rule.
    kept : Slots, optional
        Those so far: what belongs to the same rule, and to a parameter that was not drawn anew, goes on where it was.
    step : int, default 0
        Steps of the run so far.
    """
    slots = Slots(model.allocate(slot_shapes(model, optimizer)), optimizer.kind)
    old = kept if kept is not None and kept.rule == optimizer.kind else Slots()
    counts_steps = bool(optimizer.following(np.ones(1)))
    for name in model.trained():
        slots.drawn[name] = model.drawn[name]
        goes_on = old.drawn.get(name) == model.drawn[name]
        begun = old.begun.get(name, 0) if goes_on else step
        if begun and counts_steps:
            slots.begun[name] = begun
        if optimizer.ema is not None:
            slots[f"{name}.ema"][...] = model.arrays()[name]
        for slot in optimizer.slots if optimizer.ema is None else (*optimizer.slots, "ema"):
            if goes_on and f"{name}.{slot}" in old:
                slots[f"{name}.{slot}"][...] = old[f"{name}.{slot}"]
    return slots


def renewed_slots(slots: Slots, model: Model, optimizer: Optimizer, step: int) -> Slots:
    """Return the optimizer's arrays themselves while they fit, else new ones (`start_slots`)."""
    drawn = {name: model.drawn[name] for name in model.trained()}
    shapes = {name: slot.shape for name, slot in slots.items()}
    if slots.rule == optimizer.kind and slots.drawn == drawn and shapes == slot_shapes(model, optimizer):
        return slots
    return start_slots(model, optimizer, slots, step)


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
