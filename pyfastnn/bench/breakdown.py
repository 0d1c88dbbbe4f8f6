"""Where the time of a training step goes: microseconds, share and rate of every step of the plan."""

from __future__ import annotations

import inspect
import math
import time

import numpy as np
from numpy.typing import NDArray

from pyfastnn.bench import tasks
from pyfastnn.bench.step import Bare
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import LEAST_CLEAN, WAITED, waiting_ns
from pyfastnn.graph.schema import schema
from pyfastnn.reference import Cost, specs

_ARITHMETIC = ("linear_forward", "linear_dx", "linear_dw")
_SAMPLE_FLOP = 4e9


def cost_of(op: str, shapes: list[tuple[int, ...] | None], itemsize: int) -> Cost:
    """Return the least work of an op for inputs of these shapes, from its spec.

    Parameters
    ----------
    op : str
        Name in the op table.
    shapes : list of tuple or None
        One shape per input in table order, None where an input is left out.
    itemsize : int
        Bytes of a float of the call.
    """
    sizes: dict[str, int] = {}
    for arg, shape in zip(schema(op).inputs, shapes, strict=True):
        if shape is None:
            continue
        rest = len(shape) - len(arg.dims) + 1
        at = 0
        for dim in arg.dims:
            if dim == "*":
                sizes["*"] = math.prod(shape[at : at + rest])
            elif not dim.isdigit():
                sizes[dim] = shape[at]
            at += rest if dim == "*" else 1
    if "*" in sizes:
        sizes["n" if "c" in sizes else "size"] = sizes.pop("*")
    cost = specs()[op].cost
    # A size that no input has (the width of x in a bias gradient) is one the cost does not depend on.
    wanted = [k for k, p in list(inspect.signature(cost).parameters.items())[1:] if p.default is p.empty]
    return cost(itemsize, **{k: sizes.get(k, 0) for k in wanted})


def breakdown(task: tasks.Task, seconds: float = 1.0) -> str:
    """Run a task for about some seconds and return a table of the steps of its plan.

    Parameters
    ----------
    task : Task
        The task.
    seconds : float, default 1
        How long to sample, at least. The table shows means over the fastest fifth of the epochs in which no thread waited for a
        CPU. Reading the clock adds about 0.03 us to each step of the plan.
    """
    bare = Bare(task)
    bare.reset()
    bare.run(min(task.steps, 3))
    calls = min(task.steps, max(1, round(_SAMPLE_FLOP / task.flop)))
    clean: list[NDArray[np.int64]] = []
    disturbed: list[NDArray[np.int64]] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(clean) + len(disturbed) < 5:
        before = waiting_ns()
        ns = bare.step_ns(calls)
        (clean if waiting_ns() - before <= WAITED * ns.sum() else disturbed).append(ns)
    samples = np.array(clean if len(clean) >= LEAST_CLEAN else clean + disturbed) * 1e-3 / calls
    fastest = np.argsort(samples.sum(axis=1))[: -(-len(samples) // 5)]
    us = samples[fastest].mean(axis=0)
    values = bare.plan.graphs["train"].values
    sizes = {"n": task.batch, "m": task.rows}

    def shape_of(name: str | None) -> tuple[int, ...] | None:
        if name is None:
            return None
        return tuple(d if isinstance(d, int) else sizes[d] for d in values[name.removeprefix("train:")].shape)

    rows = []
    for node, took in zip(bare.plan.native.layout("train"), us, strict=True):
        shapes = [shape_of(name) for name in node["inputs"]]
        cost = cost_of(node["op"], shapes, 4)
        rate = (
            f"{cost.flop / took * 1e-3:.1f} GF/s"
            if node["op"] in _ARITHMETIC
            else f"{cost.byte / took * 1e-3:.1f} GB/s"
        )
        written = node["outputs"][0].removeprefix("train:") + (", .." if len(node["outputs"]) > 1 else "")
        where = "x".join(map(str, shapes[0] or ()))
        rows.append((f"{node['op']} -> {written}", where, f"{took:.2f}", f"{100 * took / us.sum():.1f} %", rate))
    rows.append(("sum", "", f"{us.sum():.2f}", "100 %", f"{task.flop / us.sum() * 1e-3:.1f} GF/s"))
    return format_table(("step", "first input", "us", "share", "rate"), rows)
