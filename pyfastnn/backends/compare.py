"""Holds a native plan against the NumPy reference, node by node.

Each node is judged on the inputs it had in the native run, so errors do not add up along the way and every output has the computed
bound of its op. A wrong lowering or a value overwritten too early shows at the node that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH
from pyfastnn.graph.schema import schema
from pyfastnn.reference import specs
from pyfastnn.reference.interpreter import hyper_of
from pyfastnn.reference.spec import widen

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """The first value that is outside its bound.

    Attributes
    ----------
    op, value : str
        The node and the output.
    error, bound : float
        Absolute difference and allowed difference of the worst element; infinite where NaN or infinity stand at other places.
    """

    op: str
    value: str
    error: float
    bound: float

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.op} writes {self.value!r} with an error of {self.error:.3g}, allowed are {self.bound:.3g}"


def compare(
    plan: CpuPlan,
    name: str,
    rows: int,
    arrays: Mapping[str, Array],
    *,
    hyper: NDArray[np.float64] | None = None,
) -> Difference | None:
    """Run one step natively and name the first node whose output the reference does not confirm.

    Parameters
    ----------
    plan : CpuPlan
        The compiled plan; its state is changed as by a run.
    name : str
        The step list.
    rows : int
        Rows of the step.
    arrays : mapping of str to ndarray
        Every input, parameter and state of the graph by name.
    hyper : ndarray of float64, shape (1, groups, fields), optional
        Numbers of the update rules and of dropout.

    Returns
    -------
    Difference or None
        None when every output is within the bound of its op.
    """
    graph = plan.graphs[name]
    views = graph.views()
    current: dict[str, Array] = {}

    def keep(name: str, array: Array) -> None:
        current[name] = array
        for view in views.get(name, ()):
            current[view] = array.reshape([d if isinstance(d, int) else -1 for d in graph.values[view].shape])

    for key, value in graph.values.items():
        if value.kind != "activation" and not value.view_of:
            array = np.array(arrays[key])  # a copy: the run updates state in place
            array = array[:rows] if BATCH in value.shape else array
            keep(key, array.reshape(len(array), -1) if len(value.shape) == 2 else array)
    row = None if hyper is None else hyper[0]
    traced = plan.native.trace(name, rows, dict(arrays), hyper=hyper)
    for node, (_, written, _) in zip(graph.nodes, traced, strict=True):
        if node.function is not None:  # the reference of a user's function is the function itself
            for output, have in zip(node.outputs, written.values(), strict=True):
                keep(output, have)
            continue
        spec = specs()[node.op]
        names = [a.name for a in schema(node.op).inputs]
        inputs = {a: None if i is None else current[i] for a, i in zip(names, node.inputs, strict=True)}
        fields = hyper_of(node, row)
        wide = widen(inputs, plan.dtype)
        with np.errstate(all="ignore"):
            expected = spec.reference(*wide.values(), **node.attrs, **fields)
        bounds = spec.error_bound(inputs, node.attrs, fields, plan.dtype)
        found = list(written.values())
        for output, want, have, bound in zip(node.outputs, expected, found, bounds, strict=True):
            difference = _worst(np.asarray(want), have, np.broadcast_to(bound, want.shape))
            if difference is not None:
                return Difference(node.op, output, *difference)
            keep(output, have)
    return None


def _worst(want: Array, have: Array, bound: Array) -> tuple[float, float] | None:
    """Return error and bound of the worst element when one is outside its bound.

    What overflows the dtype of ``have`` is infinite there; a bound of NaN allows nothing.
    """
    with np.errstate(all="ignore"):
        rounded = want.astype(have.dtype)
        finite = np.isfinite(rounded) & np.isfinite(have)
        if not np.array_equal(rounded[~finite], have[~finite], equal_nan=have.dtype.kind == "f"):
            return float("inf"), 0.0
        error = np.abs(have[finite].astype(want.dtype) - want[finite])
        allowed = bound[finite]
        outside = np.nonzero(~(error <= allowed))[0]
        if outside.size == 0:
            return None
        at = outside[np.argmax(error[outside] - np.nan_to_num(allowed[outside]))]
    return float(error[at]), float(allowed[at])
