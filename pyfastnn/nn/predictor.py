"""Prediction of a few rows at a time, as services and control loops need it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import _core
from pyfastnn._inputs import as_rows
from pyfastnn.graph.lowering import lower
from pyfastnn.nn.layer import whole

if TYPE_CHECKING:
    from pyfastnn.nn.model import Model

Array = NDArray[Any]


class Predictor:
    """Scores of a few rows, with the bits of ``model(x)``; made by `Model.predictor`.

    All memory is taken when it is made. Short calls keep the GIL, which would cost more to give away than they take; calls of
    more than about 20 us of work release it. Threads need a predictor each: one that is entered twice raises RuntimeError.
    The weights are the model's own, so that training on shows at once; a model that is built or refreshed anew is noticed.

    Parameters
    ----------
    model : Model
        A built model.
    max_batch : int, default 1
        Most rows of a call.
    threads : int, default 1
        Threads of a call.

    Raises
    ------
    RuntimeError
        If the model is not built.
    TypeError, ValueError
        If a number is no whole one or under 1.
    """

    __slots__ = ("_apply", "_version", "max_batch", "model", "threads")

    def __init__(self, model: Model, max_batch: int = 1, threads: int = 1) -> None:
        model.arrays()
        network = model.network
        if len(network.inputs) > 1 or len(network.outputs) > 1 or "int64" in {x.dtype for x in network.inputs.values()}:
            raise ValueError(f"predictor: {model!r} has no single input and output of floats; call the model")
        self.model = model
        self.max_batch = whole("predictor", "max_batch", max_batch)
        self.threads = whole("predictor", "threads", threads)
        for name, value in (("max_batch", self.max_batch), ("threads", self.threads)):
            if value >= 2**31:
                raise ValueError(f"predictor: {name!r} is {value}, expected less than 2**31")
        self._compile()

    def _compile(self) -> None:
        model = self.model
        arrays = model.arrays()
        graph = model.prediction_graph()
        lowered = lower({"predict": graph}, {"scores": "row"})
        if lowered.functions:
            called = next(node.name for node in graph.nodes if node.op == "python")
            raise ValueError(f"predictor: {called!r} is a function of Python, which only the model itself can call")
        bound = {k: v for k, v in arrays.items() if k in graph.values}
        bound |= model.folded()
        bound["index"] = np.arange(self.max_batch, dtype=np.int64)
        native = _core.Predictor(
            lowered.values,
            lowered.lists,
            bound,
            max_batch=self.max_batch,
            dtype=model.dtype.name,
            threads=self.threads,
        )
        self._apply = native.apply
        self._version = model.version

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy anew, with its own plan over the weights of its own model."""
        return type(self), (self.model, self.max_batch, self.threads)

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """Return the scores of some rows.

        Parameters
        ----------
        x : array_like, shape (n, ...), n up to ``max_batch``
            Raw rows, as for ``model(x)``; C-contiguous arrays of float32, float64 and uint8 are read as they are.
        out : ndarray of the model's dtype, shape (n, outputs), optional
            Overwritten; must not overlap ``x``.

        Returns
        -------
        ndarray of the model's dtype, shape (n, outputs)
            ``out`` if given, else a new array.

        Raises
        ------
        TypeError, ValueError
            If rows or ``out`` do not fit.
        RuntimeError
            If the predictor is in use by another thread.
        """
        if self._version != self.model.version:
            self._compile()
        if type(x) is np.ndarray:
            scores: Array = self._apply(x, out)
            if scores is not NotImplemented:
                return scores
        return self._convert(x, out)

    def _convert(self, x: Any, out: Array | None) -> Array:
        """Do what ``model(x)`` does to its rows, then predict."""
        model = self.model
        assert model.input_shape is not None
        rows = as_rows(x, "x", math.prod(model.input_shape), model.dtype)
        if len(rows) == 0:
            if out is not None:
                raise ValueError("predictor: 'out' was given for no rows")
            return np.empty((0, *model.output_shape(model.input_shape)), model.dtype)
        found: Array = self._apply(rows, out)
        return found

    def __repr__(self) -> str:
        """Show how it was made."""
        return f"{self.model!r}.predictor(max_batch={self.max_batch}, threads={self.threads})"
