"""Holds a native plan against the NumPy reference, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.reference.interpreter import interpret

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """The first value that differs.

    Attributes
    ----------
    op, value : str
        The node and the output.
    error : float
        Largest absolute difference over the largest magnitude of the reference value.
    """

    op: str
    value: str
    error: float

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.op} writes {self.value!r} with a relative error of {self.error:.3g}"


def compare(
    plan: CpuPlan,
    name: str,
    rows: int,
    arrays: Mapping[str, Array],
    *,
    hyper: NDArray[np.float64] | None = None,
    tolerance: float = 1e-4,
) -> Difference | None:
    """Run one step natively and in float64 NumPy, and name the first node whose output differs.

    Parameters
    ----------
    plan : CpuPlan
        The compiled plan; its state is changed as by a run.
    name : str
        The step list.
    rows : int
        Rows of the step.
    arrays : mapping of str to ndarray
        Every input, parameter and state of the graph by name. Bound to the plan; copied for the reference beforehand.
    hyper : ndarray of float64, shape (1, groups, fields), optional
        Numbers of the update rules and of dropout.
    tolerance : float, default 1e-4
        Largest difference allowed, relative to the largest magnitude of the value.

    Returns
    -------
    Difference or None
        None when all values agree; NaN and infinity must stand at the same places.
    """
    graph = plan.graphs[name]
    start = {k: np.array(v) for k, v in arrays.items() if k in graph.values}
    for value in graph.values.values():
        if value.kind == "input" and "n" in value.shape:
            start[value.name] = start[value.name][:rows]
    expected = interpret(graph, start, None if hyper is None else hyper[0], np.float64)
    found, _ = plan.trace(name, rows, arrays, hyper=hyper)
    final: dict[str, int] = {o: i for i, node in enumerate(graph.nodes) for o in node.outputs}
    for i, node in enumerate(graph.nodes):
        for out in node.outputs:
            if final[out] != i:
                continue
            want = np.asarray(expected[out], dtype=np.float64).ravel()
            have = np.asarray(found[out], dtype=np.float64).ravel()
            if not (np.array_equal(np.isnan(want), np.isnan(have)) and np.array_equal(np.isinf(want), np.isinf(have))):
                return Difference(node.op, out, float("inf"))
            finite = np.isfinite(want)
            if not finite.any():
                continue
            scale = max(float(np.abs(want[finite]).max()), 1e-30)
            error = float(np.abs(want[finite] - have[finite]).max()) / scale
            if error > tolerance:
                return Difference(node.op, out, error)
    return None
