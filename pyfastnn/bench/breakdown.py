"""Where the time of a training step goes: microseconds, share, rate and part of the machine's best for every step of the plan."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.bench import peaks as machine_peaks
from pyfastnn.bench import tasks
from pyfastnn.bench.peaks import Peaks
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import LEAST_CLEAN, WAITED, waiting_ns
from pyfastnn.graph.schema import schema
from pyfastnn.reference import Cost, specs

_ARITHMETIC = (*(f"linear_{name}{form}" for name in ("forward", "dx", "dw") for form in ("", "_bf16")), "conv2d_")
_SAMPLE_FLOP = 4e9


@dataclass(frozen=True)
class StepTime:
    """One step of a plan.

    Attributes
    ----------
    op, writes : str
        The op, and the value it writes.
    shape : tuple of int
        Of its first input.
    us : float
        Microseconds.
    share : float
        Of the time of all steps.
    rate : float
        GFLOP/s of a product, GB/s of anything else, counting the least work: each array read or written once.
    arithmetic : bool
        Whether the rate is one of arithmetic.
    of_peak : float
        The time the least work takes at the machine's measured best over the time it took. Above 1 where arrays lie in a faster
        cache than their size says.
    """

    op: str
    writes: str
    shape: tuple[int, ...]
    us: float
    share: float
    rate: float
    arithmetic: bool
    of_peak: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a training step goes; prints as a table.

    Attributes
    ----------
    steps : tuple of StepTime
        The steps of the plan, in their order.
    batch, threads : int
        Rows a step and threads it ran on.
    peaks : dict
        What the machine did at best, see `pyfastnn.bench.peaks.measure`.
    """

    steps: tuple[StepTime, ...]
    batch: int
    threads: int
    peaks: Peaks

    @property
    def us(self) -> float:
        """Microseconds of a training step."""
        return sum(step.us for step in self.steps)

    def __str__(self) -> str:
        """Return the table."""
        rows = [
            (
                f"{s.op} -> {s.writes}",
                "x".join(map(str, s.shape)),
                f"{s.us:.2f}",
                f"{100 * s.share:.1f} %",
                f"{s.rate:.1f} {'GF/s' if s.arithmetic else 'GB/s'}",
                f"{100 * s.of_peak:.0f} %",
            )
            for s in self.steps
        ]
        least = sum(s.of_peak * s.us for s in self.steps) / self.us
        rows.append(("sum", "", f"{self.us:.2f}", "100 %", "", f"{100 * least:.0f} %"))
        return (
            format_table(("step", "first input", "us", "share", "rate", "of peak"), rows)
            + f"\nbatch {self.batch}, {self.threads} thread(s); {machine_peaks.describe(self.peaks)}"
        )


def cost_of(
    op: str, shapes: list[tuple[int, ...] | None], itemsize: int, outputs: Sequence[tuple[int, ...]] = ()
) -> Cost:
    """Return the least work of an op for inputs of these shapes: from its spec where its sizes are those of the inputs.

    Else it is each array moved once, and for a convolution a multiply-add for each pixel it makes and each weight that a filter has.

    Parameters
    ----------
    op : str
        Name in the op table.
    shapes : list of tuple or None
        One shape per input in table order, None where an input is left out.
    itemsize : int
        Bytes of a float of the call.
    outputs : sequence of tuple
        Shapes of the outputs.
    """
    byte = itemsize * sum(math.prod(shape) for shape in (*shapes, *outputs) if shape is not None)
    if op.startswith("conv2d_"):
        weights = outputs[0] if "_dw" in op else shapes[2 if op == "conv2d_dx_pooled" else 1]
        pixels = outputs[0] if op.endswith("_forward") else shapes[1] if "_dw" in op else shapes[0]
        cells = 4 if op == "conv2d_max_pool_forward" else 1  # of the convolution, for each that is stored
        assert weights is not None and pixels is not None
        return Cost(2.0 * cells * math.prod(pixels) * math.prod(weights[:3]), byte)
    if any(any(arg.rules) for arg in (*schema(op).inputs, *schema(op).outputs)):
        return Cost(0.0, byte)  # its sizes follow from attributes too
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
        leading = sizes.pop("*")
        sizes["n" if sizes else "size"] = leading
    cost = specs()[op].cost
    # A size that no input has (the width of x in a bias gradient) is one the cost does not depend on.
    wanted = [k for k, p in list(inspect.signature(cost).parameters.items())[1:] if p.default is p.empty]
    return cost(itemsize, **{k: sizes.get(k, 0) for k in wanted})


def _plain(name: str) -> str:
    """Return the name that a value of the plan has in its graph."""
    return name.removeprefix("train:").removeprefix("view:")


def profile_plan(
    plan: CpuPlan,
    sample: Callable[[NDArray[np.int64]], int],
    *,
    batch: int,
    rows: int,
    threads: int,
    seconds: float = 1.0,
    sizes: Mapping[str, int] | None = None,
) -> Profile:
    """Sample the training steps of a plan for about some seconds.

    Parameters
    ----------
    plan : CpuPlan
        Has a step list ``"train"``.
    sample : callable
        Gets an int64 array, one item per step of the plan; trains some batches, adds the nanoseconds of each step to it, and returns how
        many batches that were.
    batch, rows : int
        Rows a step and rows of the data set.
    threads : int
        Threads it runs on.
    seconds : float, default 1
        How long to sample, at least. What is returned are means over the fastest fifth of the samples in which no thread waited for a
        CPU. Reading the clock adds about 0.03 us to each step of the plan.
    sizes : mapping of str to int, optional
        What other letters in the shapes of values stand for.
    """
    layout = plan.native.layout("train")
    clean: list[NDArray[np.float64]] = []
    disturbed: list[NDArray[np.float64]] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(clean) + len(disturbed) < LEAST_CLEAN:
        ns, before = np.zeros(len(layout), np.int64), waiting_ns()
        count = sample(ns)
        (clean if waiting_ns() - before <= WAITED * ns.sum() else disturbed).append(ns * 1e-3 / count)
    samples = np.array(clean if len(clean) >= LEAST_CLEAN else clean + disturbed)
    fastest = np.argsort(samples.sum(axis=1))[: -(-len(samples) // 5)]
    us = samples[fastest].mean(axis=0)
    peaks = _peaks(threads)
    itemsize = np.dtype(plan.dtype).itemsize
    values, known = plan.graphs["train"].values, {"n": batch, "m": rows, **(sizes or {})}

    def shape_of(name: str | None) -> tuple[int, ...] | None:
        if name is None:
            return None
        return tuple(d if isinstance(d, int) else known[d] for d in values[_plain(name)].shape)

    steps = []
    for node, took in zip(layout, us, strict=True):
        shapes = [shape_of(name) for name in node["inputs"]]
        cost = cost_of(node["op"], shapes, itemsize, [tuple(shape) for shape, *_ in node["places"]])
        arithmetic = node["op"].startswith(_ARITHMETIC)
        written = _plain(node["outputs"][0]) + (", .." if len(node["outputs"]) > 1 else "")
        steps.append(
            StepTime(
                op=node["op"],
                writes=written,
                shape=shapes[0] or (),
                us=float(took),
                share=float(took / us.sum()),
                rate=(cost.flop if arithmetic else cost.byte) / took * 1e-3,
                arithmetic=arithmetic,
                of_peak=_least_us(node["op"], cost, shapes, itemsize, peaks) / took,
            )
        )
    return Profile(tuple(steps), batch, threads, peaks)


def _least_us(op: str, cost: Cost, shapes: list[tuple[int, ...] | None], itemsize: int, peaks: Peaks) -> float:
    """Return the microseconds an op takes at the peaks: arithmetic of a product, bytes of anything else."""
    if op.startswith(_ARITHMETIC):
        return float(cost.flop / peaks["gflops"] * 1e-3 * (itemsize / 4))
    moved, kind, size = cost.byte, "update", float(cost.byte)
    if op == "gather_rows":
        # Reading rows from where the data set lies; writing them stays in a cache.
        moved, kind, size = cost.byte / 2, "read", float(itemsize * math.prod(shapes[0] or ()))
    return float(moved / peaks[kind][machine_peaks.level_of(peaks, size)] * 1e-3)


@lru_cache(maxsize=4)
def _peaks(threads: int) -> Peaks:
    return machine_peaks.measure(threads, seconds=0.01)


def breakdown(task: tasks.Task, seconds: float = 1.0) -> Profile:
    """Run a task for about some seconds on the process-wide number of threads and say where its time goes.

    Parameters
    ----------
    task : Task
        The task.
    seconds : float, default 1
        How long to sample, at least; see `profile_plan`.
    """
    from pyfastnn.bench.step import Bare

    bare = Bare(task)
    bare.reset()
    bare.run(min(task.steps, 3))
    calls = min(task.steps, max(1, round(_SAMPLE_FLOP / task.flop)))

    def sample(ns: NDArray[np.int64]) -> int:
        ns += bare.step_ns(calls)
        return calls

    return profile_plan(
        bare.plan, sample, batch=task.batch, rows=task.rows, threads=_core.num_threads(), seconds=seconds
    )
