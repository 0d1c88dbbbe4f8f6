"""Plans of nets of convolutions hold little more than what has to be held; the least is counted from the graph alone."""

from __future__ import annotations

import math

import pytest

from pyfastnn import nn
from pyfastnn.bench import step, tasks
from pyfastnn.graph import BATCH, Graph
from pyfastnn.graph.schema import schema
from pyfastnn.train.compiled import compile_plans, training_graph
from pyfastnn.train.updates import slot_shapes

BYTES = {"T": 4, "f64": 8, "i64": 8, "u8": 1}
L2 = 1 << 20


def bytes_of(graph: Graph, name: str, rows: int) -> int:
    value = graph.values[name]
    return BYTES[value.dtype] * math.prod(rows if d == BATCH else d for d in value.shape)


def most_alive(graph: Graph, rows: int) -> int:
    """Return the largest sum of the sizes of the activations that one node writes, reads, or that are kept for later ones.

    An op that may write over its first input does so where nobody reads that later: the two count once.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, node in enumerate(graph.nodes):
        for name in filter(None, (*node.inputs, *node.outputs)):
            held = graph.values[name].view_of or name
            # Losses and counts are written to the caller's arrays.
            if graph.values[held].kind == "activation" and graph.values[held].dtype != "f64":
                first.setdefault(held, at)
                last[held] = at
    sizes = {name: bytes_of(graph, name, rows) for name in first}
    most = 0
    for at, node in enumerate(graph.nodes):
        held = sum(size for name, size in sizes.items() if first[name] <= at <= last[name])
        if schema(node.op).inplace:
            over, written = (graph.values[name].view_of or name for name in (node.inputs[0], node.outputs[0]))
            if sizes.get(over) == sizes.get(written, -1) and last[over] == first[written] == at:
                held -= sizes[over]
        most = max(most, held)
    return most


def compiled(name: str):
    """Return the graph of a task, its plan, and the bytes of parameters and optimizer state."""
    task = tasks.get(name)
    model, optimizer = step.model_of(task), step.optimizer_of(task)
    slots = model.allocate(slot_shapes(model, optimizer))
    loss = nn.SoftmaxCrossEntropy()
    plan = compile_plans(model, loss, optimizer, slots, task.batch).train
    kept = sum(a.nbytes for a in (*model.arrays().values(), *slots.values()))
    return training_graph(model, loss, optimizer), plan, kept


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", ["T4", "T7"])
def test_a_plan_holds_little_more_than_what_is_alive(name, threads):
    graph, plan, kept = compiled(name)
    steps = plan.native.layout("train")
    # The steps share one workspace, and a second one a thread.
    workspace = max(s["scratch_bytes"] for s in steps) + threads * max(s["local_bytes"] for s in steps)
    alive = most_alive(graph, tasks.get(name).batch)
    assert alive <= plan.native.scratch_bytes
    held = plan.native.scratch_bytes + workspace + kept
    assert held <= 1.3 * (kept + alive), f"{held} bytes for {kept} kept and {alive} alive"


def test_without_reuse_a_plan_would_hold_too_much():
    graph, plan, kept = compiled("T4")
    everything = sum(
        bytes_of(graph, name, tasks.get("T4").batch)
        for name, value in graph.values.items()
        if value.kind == "activation" and not value.view_of
    )
    assert everything > 1.3 * (kept + most_alive(graph, tasks.get("T4").batch))


@pytest.mark.parametrize("name", ["T4", "T7"])
def test_no_convolution_unrolls_its_images(name):
    _, plan, _ = compiled(name)
    steps = [s for s in plan.native.layout("train") if s["op"].startswith("conv2d_")]
    assert steps
    assert all(s["scratch_bytes"] + s["local_bytes"] <= L2 for s in steps)
