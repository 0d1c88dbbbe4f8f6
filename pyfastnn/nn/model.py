"""Models: layers with their arrays, preprocessing and class labels."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn.graph import BATCH, Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.layer import Layer, Parameter, Shape

if TYPE_CHECKING:
    from pyfastnn.backends.cpu import CpuPlan
    from pyfastnn.data.preprocessing import Preprocessor
    from pyfastnn.graph import Graph
    from pyfastnn.nn.predictor import Predictor

Array = NDArray[Any]

_ALIGN = 64
_PREDICT_BATCH = 256


class Model:
    """Base of all models: named layers, their parameters and state, preprocessing and classes.

    Attributes
    ----------
    layers : dict of str to Layer
        By name; names count per model (``linear_1``, ``relu_1``, ``linear_2``).
    preprocess : Preprocessor or None
        Shift and scale of the raw inputs, fitted on the first training rows and saved with the model.
    classes_ : ndarray or None
        Labels in the order of the outputs; None for regression or before training.
    dtype : numpy dtype
        float32 or float64.
    version : int
        Counts replaced arrays and changed preprocessing: plans compiled for an earlier version are stale.
    """

    def __init__(self, layers: Mapping[str, Layer], preprocess: Preprocessor | None, dtype: str) -> None:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
        self.layers = dict(layers)
        self.preprocess = preprocess
        self.classes_: Array | None = None
        self.task: str | None = None
        self.dtype = np.dtype(dtype)
        self.input_shape: Shape | None = None
        self.declared: dict[str, Parameter] = {}
        self._arrays: dict[str, Array] = {}
        self._plans: list[CpuPlan] = []
        self.version = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled plans behind when copied or pickled."""
        return {**self.__dict__, "_plans": []}

    # Building

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row of the output for one row of the input."""
        raise NotImplementedError

    def _declare(self, input_shape: Shape) -> dict[str, Parameter]:
        """Return every array by full name (``"linear_1.w"``) for an input shape."""
        raise NotImplementedError

    def _forward(self, builder: Builder, x: str) -> str:
        """Add the nodes of all layers."""
        raise NotImplementedError

    def build(self, input_shape: Shape | int, *, seed: int = 0) -> Model:
        """Make the arrays for inputs of one shape.

        Parameters
        ----------
        input_shape : tuple of int or int
            Shape of one row, such as ``(784,)`` or ``(28, 28)``.
        seed : int, default 0
            Fixes the first values. A Trainer passes its own.

        Returns
        -------
        Model
            The model itself.

        Raises
        ------
        TypeError
            If a size is no whole number.
        ValueError
            If a size is under 1, or a layer does not fit its input; the message names the layer.
        """
        shape = (
            (operator.index(input_shape),)
            if hasattr(input_shape, "__index__")
            else tuple(map(operator.index, input_shape))
        )
        if not shape or min(shape) < 1:
            raise ValueError(f"build: 'input_shape' is {shape}, expected sizes of 1 or more, such as (784,)")
        self.declared = self._declare(shape)
        self.input_shape = shape
        self._arrays = self.allocate({k: p.shape for k, p in self.declared.items()})
        for position, (name, parameter) in enumerate(self.declared.items()):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, position])))
            self._arrays[name][...] = initializers.draw(parameter.init, rng, parameter.shape)
        self.refresh()
        return self

    def allocate(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Return zeroed arrays that are views of one block, each aligned to a cache line."""
        item = self.dtype.itemsize
        sizes = {k: -(-math.prod(s) * item // _ALIGN) * _ALIGN for k, s in shapes.items()}
        block = np.zeros(sum(sizes.values()) + _ALIGN, np.uint8)
        at = -block.ctypes.data % _ALIGN
        arrays: dict[str, Array] = {}
        for name, shape in shapes.items():
            arrays[name] = block[at : at + math.prod(shape) * item].view(self.dtype).reshape(shape)
            at += sizes[name]
        return arrays

    @property
    def built(self) -> bool:
        """Whether the arrays exist."""
        return self.input_shape is not None

    def arrays(self) -> dict[str, Array]:
        """Return every parameter and state by name: the arrays themselves, not copies.

        Raises
        ------
        RuntimeError
            If the model is not built.
        """
        if not self.built:
            raise RuntimeError("the model has no parameters yet: call model.build((784,)), or fit, first")
        return self._arrays

    @property
    def parameters(self) -> dict[str, Array]:
        """Learned arrays by name (views: writing to them changes the model)."""
        return {k: v for k, v in self.arrays().items() if self.declared[k].learned}

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all parameters and state by name."""
        return {k: v.copy() for k, v in self.arrays().items()}

    def load_state_dict(self, state: Mapping[str, Array], *, strict: bool = True) -> None:
        """Copy arrays into the model.

        Parameters
        ----------
        state : mapping of str to ndarray
            By name; shapes must agree, values are converted to the model's dtype.
        strict : bool, default True
            Whether every name must be known and every array of the model given.

        Raises
        ------
        ValueError
            If a name or shape does not fit. Nothing is changed then.
        """
        mine = self.arrays()
        for name, array in state.items():
            if name not in mine:
                if strict:
                    raise ValueError(unknown("parameter", name, mine))
            elif np.shape(array) != mine[name].shape:
                raise ValueError(f"{name!r} has shape {np.shape(array)}, expected {mine[name].shape}")
        if strict and (missing := [k for k in mine if k not in state]):
            raise ValueError(f"state has no {missing[0]!r}")
        for name, array in state.items():
            if name in mine:
                mine[name][...] = array

    # Graphs

    def forward_graph(self, *, training: bool) -> tuple[Builder, str, str]:
        """Return a builder that holds gather and layers, the row index's name and the scores' name.

        The graph's inputs are ``X`` (rows of a data set, flat), ``index`` (rows of the batch), and ``shift`` and ``scale`` when the
        model has preprocessing.
        """
        assert self.input_shape is not None
        features = math.prod(self.input_shape)
        builder = Builder(training)
        data = builder.value("X", ("m", features), "any")
        index = builder.value("index", (BATCH,), "i64")
        fold: list[str | None] = [None, None]
        if self.preprocess is not None:
            fold = [builder.value("shift", (features,)), builder.value("scale", (features,))]
        x = builder.emit("gather_rows", (data, index, *fold), outputs=("x",), name="gather")[0]
        for name, parameter in self.declared.items():
            builder.value(name, parameter.shape, kind="parameter" if parameter.learned else "state")
        return builder, index, self._forward(builder, x)

    def folded(self) -> dict[str, Array]:
        """Return the preprocessing as the arrays the gather takes."""
        if self.preprocess is None:
            return {}
        if not hasattr(self.preprocess, "shift_"):
            raise RuntimeError(
                f"the model's preprocessing {self.preprocess!r} is not fitted yet: train the model first"
            )
        return {
            "shift": self.preprocess.shift_.astype(self.dtype),
            "scale": self.preprocess.scale_.astype(self.dtype),
        }

    # Prediction

    def __call__(self, X: Array) -> Array:
        """Return the raw outputs (scores) of the prediction form, for raw inputs.

        Parameters
        ----------
        X : array_like, shape (n, ...)
            Raw rows; preprocessing is applied. float32, float64 and uint8 are read as they are, anything else is converted to the model's
            dtype.

        Returns
        -------
        ndarray, shape (n, outputs)
            A new array. Row i has the same bits whatever other rows are in ``X``. Several threads may predict at the same time.

        Raises
        ------
        RuntimeError
            If the model is not built.
        ValueError
            If a row has another number of values than the training rows.
        KeyboardInterrupt
            If Ctrl-C was pressed meanwhile.
        """
        from pyfastnn._inputs import as_rows

        self.arrays()
        assert self.input_shape is not None
        rows = as_rows(X, "X", math.prod(self.input_shape), self.dtype)
        width = self.output_shape(self.input_shape)
        scores = np.empty((len(rows), *width), self.dtype)
        idle = self._plans  # a list of its own for every version of the model
        try:
            plan = idle.pop()
        except IndexError:
            plan = self._prediction_plan()
        index = np.arange(len(rows), dtype=np.int64)
        _, reason = plan.run("predict", len(rows), _PREDICT_BATCH, {"X": rows, "index": index, "scores": scores})
        plan.bind({"X": None, "index": None, "scores": None})
        idle.append(plan)
        if reason == "interrupted":
            raise KeyboardInterrupt
        return scores

    def predict(self, X: Array) -> Array:
        """Return labels (classification) or values (regression) for raw inputs.

        Parameters
        ----------
        X : array_like, shape (n, ...)
            Raw rows.

        Returns
        -------
        ndarray, shape (n,) or (n, outputs)
            Items of ``classes_``, or predicted values; one output gives shape (n,).
        """
        scores = self(X)
        if self.classes_ is not None:
            labels: Array = self.classes_[scores.argmax(axis=1)]
            return labels
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_proba(self, X: Array) -> Array:
        """Return class probabilities, the softmax of the scores.

        Parameters
        ----------
        X : array_like, shape (n, ...)
            Raw rows.

        Returns
        -------
        ndarray, shape (n, classes)
            Rows sum to 1; columns in the order of ``classes_``.

        Raises
        ------
        RuntimeError
            If the model was not trained as a classifier.
        """
        if self.task == "regression" or self.classes_ is None:
            raise RuntimeError("predict_proba: the model is no trained classifier")
        scores = self(X)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores

    def predictor(self, max_batch: int = 1, threads: int = 1) -> Predictor:
        """Return a function of a few rows, for prediction row by row with the least delay.

        Parameters
        ----------
        max_batch : int, default 1
            Most rows of a call.
        threads : int, default 1
            Threads of a call; with 1 it never starts or wakes any.

        Returns
        -------
        Predictor
            ``p(x)`` has the bits of ``model(x)``. It has a workspace of its own and reads the model's weights in place.

        Raises
        ------
        RuntimeError
            If the model is not built.
        ValueError
            If a number is under 1.
        """
        from pyfastnn.nn.predictor import Predictor

        return Predictor(self, max_batch, threads)

    def prediction_graph(self) -> Graph:
        """Return the prediction form as a graph from ``X`` and ``index`` to ``scores``."""
        builder, _, scores = self.forward_graph(training=False)
        return _renamed(builder, scores, "scores").graph

    def _prediction_plan(self) -> CpuPlan:
        from pyfastnn.backends.cpu import CpuPlan

        graph = self.prediction_graph()
        plan = CpuPlan({"predict": graph}, {"scores": "row"}, max_batch=_PREDICT_BATCH, dtype=self.dtype.name)
        plan.bind({k: v for k, v in self.arrays().items() if k in graph.values})
        plan.bind(self.folded())
        return plan

    def refresh(self) -> None:
        """Make plans compile again, those of trainers too: call it behind a change of preprocessing."""
        self._plans = []
        self.version += 1

    # Files and printing

    def save(self, path: str | Path) -> None:
        """Write the model (arrays, architecture, preprocessing, classes) to a safetensors file; `pyfastnn.load` reads it."""
        from pyfastnn.io.model_file import save

        save(self, path)

    def summary(self) -> str:
        """Return a table of layers, output shapes and parameter counts."""
        rows = [("layer", "settings", "output", "parameters")]
        shape = self.input_shape
        total = 0
        for name, layer in self.layers.items():
            count = sum(
                v.size for k, v in self._arrays.items() if k.startswith(name + ".") and self.declared[k].learned
            )
            total += count
            if shape is not None:
                shape = layer.output_shape(shape)
            rows.append((name, repr(layer), "?" if shape is None else str(shape), str(count)))
        widths = [max(len(r[i]) for r in rows) for i in range(4)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        return "\n".join([*lines, f"total parameters: {total}"])


def _renamed(builder: Builder, old: str, new: str) -> Builder:
    """Give an activation another name throughout a graph."""
    from dataclasses import replace

    graph = builder.graph
    graph.values = {
        (new if k == old else k): (replace(v, name=new) if k == old else v) for k, v in graph.values.items()
    }
    graph.nodes = [
        replace(
            n,
            inputs=tuple(new if i == old else i for i in n.inputs),
            outputs=tuple(new if o == old else o for o in n.outputs),
        )
        for n in graph.nodes
    ]
    return builder


class Sequential(Model):
    """Layers one behind the other.

    Parameters
    ----------
    *layers : Layer
        At least one. Sizes of the inputs are inferred from the data or `build`.
    preprocess : Preprocessor, optional
        Such as ``fnn.data.Standardize()``: fitted on the first training rows, applied everywhere, saved with the model.
    dtype : str, default "float32"
        ``"float32"`` or ``"float64"``.

    Raises
    ------
    TypeError
        If something else than a layer object is given.
    """

    @helpful_keywords
    def __init__(self, *layers: Layer, preprocess: Preprocessor | None = None, dtype: str = "float32") -> None:
        if not layers:
            raise TypeError("Sequential: no layers given")
        named: dict[str, Layer] = {}
        counts: dict[str, int] = {}
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: {layer!r} is no layer object, expected something like nn.ReLU()")
            if any(layer is other for other in named.values()):
                raise ValueError(f"Sequential: the same {layer!r} object stands twice; make a second one")
            counts[layer.kind] = counts.get(layer.kind, 0) + 1
            named[f"{layer.kind}_{counts[layer.kind]}"] = layer
        super().__init__(named, preprocess, dtype)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row of the output for one row of the input."""
        shape = input_shape
        for name, layer in self.layers.items():
            try:
                shape = layer.output_shape(shape)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return shape

    def _declare(self, input_shape: Shape) -> dict[str, Parameter]:
        self.output_shape(input_shape)
        declared: dict[str, Parameter] = {}
        shape = input_shape
        for name, layer in self.layers.items():
            for parameter in layer.parameters(shape):
                declared[f"{name}.{parameter.name}"] = parameter
            shape = layer.output_shape(shape)
        return declared

    def _forward(self, builder: Builder, x: str) -> str:
        for name, layer in self.layers.items():
            x = layer.forward(builder, name, x)
        return x

    def __repr__(self) -> str:
        """Show the call that makes the model."""
        return f"Sequential({', '.join(map(repr, self.layers.values()))})"
