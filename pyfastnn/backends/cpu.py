"""The CPU backend: graphs in, a native plan out, with tracing and description built in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn.graph import Graph
from pyfastnn.graph.lowering import lower

Array = NDArray[Any]

HYPER: dict[str, int] = {name: i for i, name in enumerate(_core.hyper_fields())}
"""Position of each field in a hyper row."""


class CpuPlan:
    """Graphs compiled for the CPU.

    Parameters
    ----------
    graphs : mapping of str to Graph
        One step list each; parameters and state are shared by name.
    outputs : mapping of str to str
        Activations written to bound arrays, and how they advance (``"row"``, ``"step"``, ``"record"``, ``"none"``).
    max_batch : int
        Rows of the largest step.
    dtype : str
        ``"float32"`` or ``"float64"``.
    reuse, inplace, poison : bool
        Switches for tests: share memory between lifetimes; let elementwise steps overwrite a dying input; fill the scratch with NaN before
        each run. The bits of the results do not depend on them.
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        outputs: Mapping[str, str],
        *,
        max_batch: int,
        dtype: str = "float32",
        reuse: bool = True,
        inplace: bool = True,
        poison: bool = False,
    ) -> None:
        self.graphs = dict(graphs)
        self.max_batch = max_batch
        self.dtype = dtype
        lowered = lower(graphs, outputs)
        self.native = _core.Plan(
            lowered.values,
            lowered.lists,
            max_batch=max_batch,
            dtype=dtype,
            reuse=reuse,
            inplace=inplace,
            poison=poison,
            functions=lowered.functions,
        )

    def bind(self, arrays: Mapping[str, Array | None]) -> None:
        """Bind external values to arrays until they are bound again; the plan keeps the arrays alive. None lets go of one."""
        for name, array in arrays.items():
            self.native.bind(name, array)

    def run(
        self,
        name: str,
        rows: int,
        batch: int,
        arrays: Mapping[str, Array] | None = None,
        *,
        hyper: NDArray[np.float64] | None = None,
        watch: str | None = None,
        limit: float = float("inf"),
        limit_factor: float = 0.0,
        snapshot: bool = False,
        progress: Callable[[int], object] | None = None,
        threads: int = 0,
        step_ns: NDArray[np.int64] | None = None,
        then: str = "",
        also: str | None = None,
        every: int = 1,
        offset: int = 0,
    ) -> tuple[int, str]:
        """Run a step list over ``rows`` rows in batches, in one native call without the GIL.

        Parameters
        ----------
        name : str
            The step list.
        rows, batch : int
            Rows to go through, and rows a step; the last step takes what is left.
        arrays : mapping of str to ndarray, optional
            Values to bind first.
        hyper : ndarray of float64, shape (steps or 1, groups, fields), optional
            Numbers of the update rules and of dropout.
        watch, limit : str and float
            A float64 value that advances by step; the run stops after the first step where it is not finite or above ``limit``.
        limit_factor : float
            Above 0: the limit is this times the value of the first step of the run.
        snapshot : bool
            Whether to copy all state first, for `restore`.
        progress : callable, optional
            Called with the number of steps done, about every 20 ms; a true answer stops the run.
        threads : int
            0 for the process-wide setting.
        step_ns : ndarray of int64, optional
            One item per step of the list; nanoseconds are added.
        then : str
            Another step list, run once when this one is done.
        also : str, optional
            Another step list that writes the same state: taken instead of ``name`` in the steps ``k`` (from 0) with
            ``(k + offset) % every == 0``. What it alone writes may advance by ``"record"``, one row for each such step.
        every, offset : int
            Which steps those are.

        Returns
        -------
        steps : int
            Steps done.
        reason : str
            ``"finished"``, ``"nonfinite"``, ``"limit"`` or ``"interrupted"`` (Ctrl-C, or ``progress`` said so).

        Raises
        ------
        RuntimeError
            If the plan is running in another thread.
        ValueError
            If something is not bound, too short, or an index lies outside its data.
        """
        steps, reason = self.native.run(
            name,
            rows,
            batch,
            {} if arrays is None else dict(arrays),
            hyper=hyper,
            watch=watch,
            limit=limit,
            limit_factor=limit_factor,
            snapshot=snapshot,
            progress=progress,
            threads=threads,
            step_ns=step_ns,
            then=then,
            also=also,
            every=every,
            offset=offset,
        )
        return steps, reason

    def restore(self, name: str) -> None:
        """Put back the state that the last run of ``name`` with ``snapshot=True`` started from."""
        self.native.restore(name)

    def trace(
        self,
        name: str,
        rows: int,
        arrays: Mapping[str, Array] | None = None,
        *,
        hyper: NDArray[np.float64] | None = None,
        threads: int = 0,
    ) -> tuple[dict[str, Array], list[tuple[str, float]]]:
        """Run one step and return every value by name, and the time of each node.

        Parameters
        ----------
        name : str
            The step list.
        rows : int
            Rows of the step, up to ``max_batch``.
        arrays, hyper, threads
            As for `run`.

        Returns
        -------
        values : dict of str to ndarray
            Copies, taken right after the node that wrote them. State is updated as by a run.
        times : list of (str, float)
            Op and seconds per node.
        """
        rows_of = self.native.trace(name, rows, {} if arrays is None else dict(arrays), hyper=hyper, threads=threads)
        values: dict[str, Array] = {}
        times = []
        for op, written, ns in rows_of:
            values.update({k.removeprefix(f"{name}:"): v for k, v in written.items()})
            times.append((op, ns * 1e-9))
        return values, times

    def describe(self, name: str) -> str:
        """Return a table of the steps: op, inputs, outputs with shape, bytes and place, workspace."""
        lines = [
            f"plan '{name}' ({self.dtype}, up to {self.max_batch} rows, {self.native.scratch_bytes} bytes of scratch)"
        ]
        for i, row in enumerate(self.native.layout(name)):
            outs = []
            for out, (shape, size, offset) in zip(row["outputs"], row["places"], strict=True):
                place = "bound" if offset < 0 else f"@{offset}"
                outs.append(f"{out.removeprefix(name + ':')}{shape} {size} B {place}")
            ins = ", ".join("-" if x is None else x.removeprefix(name + ":") for x in row["inputs"])
            extra = row["scratch_bytes"] + row["local_bytes"]
            lines.append(f"{i:3d} {row['op']}({ins}) -> {'; '.join(outs)}" + (f"  [+{extra} B]" if extra else ""))
        return "\n".join(lines)
