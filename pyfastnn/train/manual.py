"""Training steps taken apart: forward, a gradient from outside, backward, update. And gradients alone.

Policy gradients, adversarial nets and losses of other libraries need the scores first and hand in their own gradient. What forward
computes and backward reads again is kept in arrays of its own here, since the two are different native calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._inputs import as_inputs, input_arrays
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import Builder, Graph
from pyfastnn.graph.autodiff import backward
from pyfastnn.train.compiled import loss_graph, result_values
from pyfastnn.train.updates import COMMON, emit_updates, groups_of

if TYPE_CHECKING:
    from pyfastnn.train.passes import Pass
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

_DTYPES: dict[str, Any] = {"f64": np.float64, "i64": np.int64, "u8": np.uint8}


class Manual:
    """The parts of a training step of one trainer, compiled for one batch size.

    Parameters
    ----------
    trainer : Trainer
        Its model is built.
    batch : int
        Most rows of a step.
    """

    def __init__(self, trainer: Trainer, batch: int) -> None:
        model = trainer.model
        self.batch, self.rows = batch, 0
        self.key = trainer._key()
        self.groups = groups_of(model, trainer.optimizer, trainer.slots)
        builder, _, outputs = model.forward_graph(training=True)
        forward = list(builder.graph.nodes)
        self.scores = {f"scores{model.suffix(k)}": k for k in outputs}
        for name, value in outputs.items():
            builder.rename(value, f"scores{model.suffix(name)}")
        forward = list(builder.graph.nodes)
        values = builder.graph.values
        seeds = {s: builder.value(f"d({s})", values[s].shape, kind="input") for s in self.scores}
        # The rows as gathered, preprocessing undone by hand: out = (x - shift) * scale.
        self.gathered = {n.outputs[0]: n.inputs[3] for n in forward if n.op == "gather_rows" and n.name == "gather"}
        parameters = list(model.trained())
        found = backward(builder, seeds, [*parameters, *self.gathered])
        self.gradients = {name: found[name] for name in parameters if name in found}
        # The gradient of images is a view of the one of their flat rows, or the other way round.
        self.input_gradients = {x: values[found[x]].view_of or found[x] for x in self.gathered if x in found}
        backwards = builder.graph.nodes[len(forward) :]
        kept = _read_again(builder.graph, forward, backwards)
        kept |= {*self.scores, *self.gradients.values(), *self.input_gradients.values()}
        kept = {values[k].view_of or k for k in kept}
        updates = Builder()
        for name, gradient in self.gradients.items():
            updates.value(name, model.declared[name].shape, kind="parameter")
            updates.value(gradient, model.declared[name].shape, kind="input")
        emit_updates(updates, model, trainer.optimizer, self.gradients, self.groups)
        graphs = {
            "forward": Graph(values, forward),
            "backward": Graph(values, list(backwards)),
            "update": updates.graph,
        }
        self.plan = CpuPlan(graphs, dict.fromkeys(kept, "none"), max_batch=batch, dtype=model.dtype.name)
        known = {k for graph in graphs.values() for n in graph.nodes for k in (*n.inputs, *n.outputs) if k is not None}
        arrays = {**model.arrays(), **model.folded(), **trainer.slots, "index": np.arange(batch, dtype=np.int64)}
        self.arrays: dict[str, Array] = {}
        for name in kept & known:
            kept_value = values[name]
            shape = [d if isinstance(d, int) else batch for d in kept_value.shape]
            self.arrays[name] = np.zeros(shape, _DTYPES.get(kept_value.dtype, model.dtype))
        self.plan.bind({k: v for k, v in {**arrays, **self.arrays}.items() if k in known})
        self.results: dict[str, Array] = {}
        for name in self.scores:  # which may be a view, as after a Flatten
            shape = [d if isinstance(d, int) else batch for d in values[name].shape]
            self.results[name] = self.arrays[values[name].view_of or name].reshape(shape)

    def fits(self, trainer: Trainer, rows: int) -> bool:
        """Return whether the parts still are those of the trainer, for so many rows."""
        return rows <= self.batch and self.key == trainer._key()

    def forward(self, trainer: Trainer, X: Any) -> Any:
        """Return fresh scores of the training form."""
        model = trainer.model
        inputs, self.rows = as_inputs(X, "X", model)
        bound, _ = input_arrays(inputs, model)
        self._run(trainer, "forward", bound)
        self.plan.bind(dict.fromkeys(bound))
        scores = {k: self.results[s][: self.rows].copy() for s, k in self.scores.items()}
        return next(iter(scores.values())) if len(scores) == 1 else scores

    def backward(self, trainer: Trainer, dscores: Any, input_gradient: bool) -> Any:
        """Compute gradients from those of the scores; return those of the inputs if wanted."""
        given = dscores if isinstance(dscores, Mapping) else {next(iter(self.scores.values())): dscores}
        bound = {}
        for scores, output in self.scores.items():
            shape = (self.rows, *self.results[scores].shape[1:])
            if output not in given:
                raise ValueError(f"backward: 'dscores' has no gradient of output {output!r}")
            gradient = np.asarray(given[output])
            if gradient.dtype.kind not in "biuf":
                raise TypeError(f"backward: 'dscores' has dtype {gradient.dtype}, expected numbers")
            if gradient.shape != shape:
                raise ValueError(f"backward: 'dscores' has shape {gradient.shape}, expected {shape} as forward gave")
            bound[f"d({scores})"] = np.ascontiguousarray(gradient, trainer.model.dtype)
        self._run(trainer, "backward", bound)
        self.plan.bind(dict.fromkeys(bound))
        if not input_gradient:
            return None
        folded = trainer.model.folded()
        found = []
        for x, scale in self.gathered.items():
            name = self.input_gradients.get(x)
            if name is None:
                raise ValueError("backward: no gradient flows into the inputs")
            gradient = self.arrays[name][: self.rows].reshape(self.rows, -1).copy()
            found.append(gradient if scale is None else gradient * folded[scale])
        shapes = [s for k, s in trainer.model.input_shapes.items() if trainer.model.network.inputs[k].dtype == "float"]
        names = [k for k in trainer.model.input_shapes if trainer.model.network.inputs[k].dtype == "float"]
        raw = {k: g.reshape(self.rows, *s) for k, g, s in zip(names, found, shapes, strict=True)}
        return next(iter(raw.values())) if len(trainer.model.network.inputs) == 1 else raw

    def update(self, trainer: Trainer) -> None:
        """Let the update rule use the gradients."""
        self._run(trainer, "update", {}, rows=1)

    def _run(self, trainer: Trainer, name: str, bound: Mapping[str, Array], rows: int | None = None) -> None:
        hyper = trainer.hyper_row(self.groups)
        count = self.rows if rows is None else rows
        _, reason = self.plan.run(name, count, count, bound, hyper=hyper, threads=trainer.threads)
        if reason == "interrupted":
            raise KeyboardInterrupt


def _read_again(graph: Graph, forward: list[Any], backwards: list[Any]) -> set[str]:
    """Return what forward computes and backward reads."""
    computed = {output for node in forward for output in node.outputs if graph.values[output].kind == "activation"}
    read = {i for node in backwards for i in node.inputs if i is not None}
    return computed & {graph.values[name].view_of or name for name in read}


def gradients(trainer: Trainer, data: Pass) -> dict[str, Array]:
    """Return the gradients of the loss on one batch; nothing is updated, running statistics neither.

    Parameters
    ----------
    trainer : Trainer
        Its model is built.
    data : Pass
        The rows as one batch.
    """
    model = trainer.model
    builder, loss = loss_graph(model, trainer.heads, training=True, form=data.form)
    found = backward(builder, loss, list(model.trained()))
    results = dict.fromkeys(result_values(builder.graph), "step")
    outputs = {**results, **dict.fromkeys(found.values(), "none")}
    plan = CpuPlan({"gradients": builder.graph}, outputs, max_batch=data.rows, dtype=model.dtype.name)
    state = {k: v if model.declared[k].learned else v.copy() for k, v in model.arrays().items()}
    gradients = {name: np.zeros(model.declared[name].shape, model.dtype) for name in found}
    arrays = {**state, **model.folded(), **{found[name]: array for name, array in gradients.items()}}
    used = {k: v for k, v in {**arrays, **data.arrays}.items() if k in builder.graph.values}
    hyper = trainer.hyper_row(COMMON)
    plan.run("gradients", data.rows, data.rows, used, hyper=hyper, threads=trainer.threads)
    return gradients
