"""Where the time of a training step goes: microseconds, share and rate of every step of the plan."""

from __future__ import annotations

import inspect
import math

import numpy as np

from pyfastnn.bench import tasks
from pyfastnn.bench.step import Bare
from pyfastnn.bench.table import format_table
from pyfastnn.graph.schema import schema
from pyfastnn.reference import Cost, specs

_ARITHMETIC = ("linear_forward", "linear_dx", "linear_dw")


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
    wanted = inspect.signature(cost).parameters
    return cost(itemsize, **{k: v for k, v in sizes.items() if k in wanted})


def breakdown(task: tasks.Task, seconds: float = 1.0) -> str:
    """Run a task for about some seconds and return a table of the steps of its plan.

    Parameters
    ----------
    task : Task
        The task.
    seconds : float, default 1
        How long to sample. Each epoch gives one sample per step of the plan; the table shows the 20 % quantile over epochs and the
        share in the sum of them. Reading the clock adds about 0.03 us to each.
    """
    bare = Bare(task)
    bare.reset()
    bare.run(min(task.steps, 3))
    samples: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    spent, calls = 0.0, min(task.steps, max(1, round(2e8 * 50 * seconds / task.flop)))
    while spent < seconds or len(samples) < 3:
        ns = bare.step_ns(calls)
        samples.append(ns * 1e-9 / calls)
        spent += float(ns.sum()) * 1e-9
    us = np.quantile(np.array(samples), 0.2, axis=0) * 1e6
    values = bare.plan.graphs["train"].values
    sizes = {"n": task.batch, "m": task.rows}

    def shape_of(name: str | None) -> tuple[int, ...] | None:
        if name is None:
            return None
        return tuple(d if isinstance(d, int) else sizes[d] for d in values[name.removeprefix("train:")].shape)

    rows = []
    for node, time in zip(bare.plan.native.layout("train"), us, strict=True):
        shapes = [shape_of(name) for name in node["inputs"]]
        cost = cost_of(node["op"], shapes, 4)
        rate = f"{cost.flop / time * 1e-3:.1f} GF/s" if node["op"] in _ARITHMETIC else f"{cost.byte / time * 1e-3:.1f} GB/s"
        written = ", ".join(name.removeprefix("train:") for name in node["outputs"])
        where = "x".join(map(str, shapes[0] or ()))
        rows.append((f"{node['op']} -> {written}", where, f"{time:.2f}", f"{100 * time / us.sum():.1f} %", rate))
    rows.append(("sum", "", f"{us.sum():.2f}", "100 %", f"{task.flop / us.sum() * 1e-3:.1f} GF/s"))
    return format_table(("step", "first input", "us", "share", "rate"), rows)
