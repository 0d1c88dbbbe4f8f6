"""Models: layers with their arrays, preprocessing and class labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn.graph import BATCH, Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.layer import Layer, Parameter, Shape, number, whole
from pyfastnn.nn.prediction import Predicting
from pyfastnn.nn.summary import summary_html, summary_table
from pyfastnn.nn.symbolic import Call, Network, Symbol, named_inputs, named_outputs, row_shape, trace

if TYPE_CHECKING:
    from pyfastnn.data.preprocessing import Preprocessor

Array = NDArray[Any]

_ALIGN = 64


class Model(Predicting):
    """Layers between named inputs and outputs, with their arrays, preprocessing and classes.

    Parameters
    ----------
    inputs : Symbol, or sequence or dict of Symbol
        What `nn.Input` gave. Several need names, those of the dict or of the inputs.
    outputs : Symbol, or sequence or dict of Symbol
        What calls of layers gave, values in the midst of the network too. Several are named by the dict, or after their layers; those
        that a `Trainer` has no loss for are only predicted.
    preprocess : Preprocessor, or dict of str to Preprocessor, optional
        Of the input, or of inputs by name; fitted on the first training rows, applied everywhere, saved with the model. Where it decides
        with the data how many values a row keeps (``data.PCA(components=0.9)``), the first fit makes the arrays of the model too.
    dtype : str, default "float32"
        ``"float32"`` or ``"float64"``.

    Attributes
    ----------
    layers : dict of str to Layer
        By name; names count per model (``linear_1``, ``relu_1``, ``linear_2``).
    network : Network
        The calls of the layers.
    preprocess : Preprocessor, dict or None
        As given.
    classes_ : ndarray, dict or None
        Labels in the order of the outputs; None for regression or before training. A dict by output if there are several.
    frozen : set of str
        Layers whose arrays training leaves alone.
    drawn : dict of str to int
        How often first values of each array were drawn: what an optimizer keeps for an array that is drawn anew has no meaning any more.
    dtype : numpy dtype
        float32 or float64.
    version : int
        Counts replaced arrays, frozen layers and changed preprocessing: plans compiled for an earlier version are stale.

    Raises
    ------
    TypeError, ValueError
        If something else than symbols is given, names are missing or taken, or an output does not depend on the inputs.
    """

    @helpful_keywords
    def __init__(
        self,
        inputs: Symbol | Sequence[Symbol] | Mapping[str, Symbol],
        outputs: Symbol | Sequence[Symbol] | Mapping[str, Symbol],
        *,
        preprocess: Preprocessor | Mapping[str, Preprocessor] | None = None,
        dtype: str = "float32",
    ) -> None:
        given = named_inputs(inputs)
        network = trace(given, named_outputs(outputs))
        if isinstance(outputs, Sequence) and len(outputs) > 1:  # named after their layers, which have names only now
            of = {number + len(given): call.layer for number, call in enumerate(network.calls)}
            named = {of.get(number, f"output_{i}"): number for i, number in enumerate(network.outputs.values())}
            if len(named) < len(network.outputs):
                raise ValueError("Model: two outputs come from one layer; pass a dict with their names")
            network = replace(network, outputs=named)
        self._start(network, preprocess, dtype)
        if not any(p.needs_fit_for_shape for p in self.preprocessors.values()):
            self.build()

    def _start(
        self, network: Network, preprocess: Preprocessor | Mapping[str, Preprocessor] | None, dtype: str
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
        self.network = network
        self.layers = network.layers
        if isinstance(preprocess, Mapping):
            for name in preprocess:
                if name not in network.inputs:
                    raise ValueError(f"preprocess: {unknown('input', name, network.inputs)}")
                if network.inputs[name].dtype != "float":
                    raise ValueError(f"preprocess: input {name!r} holds whole numbers, expected one of floats")
        elif preprocess is not None and len(network.inputs) > 1:
            raise TypeError("preprocess: the model has several inputs, expected a dict by input")
        for given in preprocess.values() if isinstance(preprocess, Mapping) else [preprocess]:
            if given is not None and (isinstance(given, type) or not hasattr(given, "output_shape")):
                raise TypeError(f"preprocess is {given!r}, expected a preprocessing such as fnn.data.Standardize()")
        self.preprocess = preprocess
        self.classes: dict[str, Array] = {}
        self.tasks: dict[str, str] = {}
        self.frozen: set[str] = set()
        self.dtype = np.dtype(dtype)
        self.input_shapes: dict[str, Shape] = {}
        self.declared: dict[str, Parameter] = {}
        self.drawn: dict[str, int] = {}
        self._arrays: dict[str, Array] = {}
        self.refresh()

    version = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled plans behind when copied or pickled."""
        return {**self.__dict__, "_plans": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Own the arrays, which come read-only where processes share the memory they are sent in."""
        self.__dict__.update(state)
        if not all(array.flags.writeable for array in self._arrays.values()):
            given, self._arrays = self._arrays, self.allocate({k: v.shape for k, v in self._arrays.items()})
            self.load_state_dict(given)

    # What goes in and out

    @property
    def input_shape(self) -> Shape | None:
        """Shape of one row of the only input; None before the model is built."""
        return next(iter(self.input_shapes.values()), None)

    @property
    def row_shapes(self) -> dict[str, Shape]:
        """Shapes of one raw row of the inputs that are known: of all once the model is built, before that what `nn.Input` said."""
        return self.input_shapes or {
            k: x.shape for k, x in self.network.inputs.items() if x.shape or x.dtype == "int64"
        }

    def shapes_of(self, rows: Mapping[str, Any]) -> dict[str, Shape]:
        """Return the shapes of one raw row of all inputs: those that are known, else those of these rows."""
        known = self.row_shapes
        return {name: known.get(name, array.shape[1:]) for name, array in rows.items()}

    @property
    def classes_(self) -> Any:
        """Labels in the order of the outputs; by output if there are several."""
        return self._of_outputs(self.classes)

    @classes_.setter
    def classes_(self, classes: Any) -> None:
        self.classes = self._by_output(classes)

    @property
    def task(self) -> Any:
        """What `predict` answers: ``"classification"``, ``"regression"``, ``"multilabel"``, ``"counts"``, or None before training.

        By output if there are several.
        """
        return self._of_outputs(self.tasks)

    @task.setter
    def task(self, task: Any) -> None:
        self.tasks = self._by_output(task)

    def _of_outputs(self, values: Mapping[str, Any]) -> Any:
        if len(self.network.outputs) == 1:
            return values.get(next(iter(self.network.outputs)))
        return dict(values) or None

    def _by_output(self, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return dict(value)
        return {next(iter(self.network.outputs)): value}

    def suffix(self, name: str, of: str = "outputs") -> str:
        """Return what names of graph values end with for an input or output: nothing if it is the only one."""
        return "" if len(getattr(self.network, of)) == 1 else f".{name}"

    @property
    def preprocessors(self) -> dict[str, Preprocessor]:
        """Preprocessing by input."""
        if self.preprocess is None:
            return {}
        if isinstance(self.preprocess, Mapping):
            return dict(self.preprocess)
        return {next(iter(self.network.inputs)): self.preprocess}

    def seen_shape(self, name: str, input_shape: Shape) -> Shape:
        """Return the shape of one row of an input as the layers see it, after the preprocessing."""
        preprocess = self.preprocessors.get(name)
        return input_shape if preprocess is None else preprocess.output_shape(input_shape)

    def value_shapes(self, input_shapes: Mapping[str, Shape]) -> list[Shape]:
        """Return the shape of one row of every value: the inputs after their preprocessing, then the result of each call.

        Raises
        ------
        ValueError
            If a layer does not fit its input; the message names the layer.
        """
        shapes = [self.seen_shape(name, input_shapes[name]) for name in self.network.inputs]
        for call in self.network.calls:
            try:
                shapes.append(self.layers[call.layer].output_shape(*(shapes[i] for i in call.sources)))
            except ValueError as error:
                raise ValueError(f"{call.layer}: {error}") from None
        return shapes

    def output_shapes(self, input_shapes: Mapping[str, Shape] | None = None) -> dict[str, Shape]:
        """Return the shape of one row of every output."""
        shapes = self.value_shapes(self.input_shapes if input_shapes is None else input_shapes)
        return {name: shapes[number] for name, number in self.network.outputs.items()}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row of the output for one row of the input, for models with one of each."""
        return next(iter(self.output_shapes(self._shapes(input_shape)).values()))

    # Building

    def build(self, input_shape: Shape | int | Mapping[str, Shape] | None = None, *, seed: int = 0) -> Model:
        """Make the arrays for inputs of one shape.

        Parameters
        ----------
        input_shape : tuple of int, int, or dict of str to tuple, optional
            Shape of one row, such as ``(784,)`` or ``(28, 28)``; by input if there are several. A model made from `nn.Input` knows it.
        seed : int, default 0
            Fixes the first values, 0 or more. A Trainer passes its own.

        Returns
        -------
        Model
            The model itself.

        Raises
        ------
        TypeError
            If a size or the seed is no whole number.
        ValueError
            If a size is under 1, or a layer does not fit its input; the message names the layer.
        RuntimeError
            If the preprocessing decides with the data how many values a row keeps, and is not fitted.
        """
        seed = whole("build", "seed", seed, 0)
        if input_shape is None:
            if not self.row_shapes:
                raise TypeError("build: 'input_shape' is missing, expected the shape of one row, such as (784,)")
            input_shape = self.row_shapes
        shapes = self._shapes(input_shape)
        self.declared = self._declare(shapes)
        self.input_shapes = shapes
        self._arrays = self.allocate({k: p.shape for k, p in self.declared.items()})
        for position, (name, parameter) in enumerate(self.declared.items()):
            self._draw(name, parameter, position, seed)
        self.refresh()
        return self

    def _draw(self, name: str, parameter: Parameter, position: int, seed: int) -> None:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, position])))
        self._arrays[name][...] = initializers.draw(parameter.init, rng, parameter.shape)
        self.drawn[name] = self.drawn.get(name, 0) + 1

    def _shapes(self, input_shape: Any) -> dict[str, Shape]:
        """Return checked input shapes by name."""
        names = list(self.network.inputs)
        if not isinstance(input_shape, Mapping):
            if len(names) > 1:
                raise TypeError(f"build: the model has the inputs {', '.join(names)}, expected a dict of shapes")
            input_shape = {names[0]: input_shape}
        shapes = {}
        for name in names:
            if name not in input_shape:
                raise ValueError(f"build: 'input_shape' has no shape of input {name!r}")
            single = self.network.inputs[name].dtype == "int64"
            shapes[name] = row_shape("build", "input_shape", input_shape[name], empty=single)
        return shapes

    def _declare(self, input_shapes: Mapping[str, Shape]) -> dict[str, Parameter]:
        """Return every array by full name (``"linear_1.w"``)."""
        shapes = self.value_shapes(input_shapes)
        declared: dict[str, Parameter] = {}
        for call in self.network.calls:
            if type(self.layers[call.layer]).parameters is Layer.parameters:
                continue
            for parameter in self.layers[call.layer].parameters(*(shapes[i] for i in call.sources)):
                name = f"{call.layer}.{parameter.name}"
                if name in declared and declared[name].shape != parameter.shape:
                    raise ValueError(
                        f"{call.layer}: called on inputs that need {parameter.name!r} of shape {declared[name].shape} "
                        f"and of shape {parameter.shape}"
                    )
                declared[name] = parameter
        return declared

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
        return bool(self.input_shapes)

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

    def trained(self) -> dict[str, Parameter]:
        """Return the arrays that training changes by gradients: learned ones of layers that are not frozen."""
        return {k: p for k, p in self.declared.items() if p.learned and k.rsplit(".", 1)[0] not in self.frozen}

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
        TypeError
            If this is no mapping, or an array holds no numbers.
        ValueError
            If a name or shape does not fit. Nothing is changed in either case.
        """
        mine = self.arrays()
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: 'state' is {type(state).__name__}, expected arrays by name")
        for name, array in state.items():
            if name not in mine:
                if strict:
                    raise ValueError(unknown("parameter", name, mine))
            elif np.shape(array) != mine[name].shape:
                raise ValueError(f"{name!r} has shape {np.shape(array)}, expected {mine[name].shape}")
            elif np.asarray(array).dtype.kind not in "biuf":
                raise TypeError(f"{name!r} has dtype {np.asarray(array).dtype}, expected numbers")
        if strict and (missing := [k for k in mine if k not in state]):
            raise ValueError(f"state has no {missing[0]!r}")
        for name, array in state.items():
            if name in mine:
                mine[name][...] = array

    def copy_from(self, other: Model, *, tau: float = 1.0) -> None:
        """Move all arrays towards those of another model: ``mine += tau * (other - mine)``.

        Parameters
        ----------
        other : Model
            With arrays of the same names and shapes, such as a deep copy.
        tau : float, default 1
            In (0, 1]; 1 copies. Small ones make the slowly following target networks of Lillicrap et al. (2016).

        Raises
        ------
        TypeError
            If ``other`` is no model or ``tau`` no number.
        ValueError
            If names or shapes differ, or ``tau`` lies outside.
        """
        if not isinstance(other, Model):
            raise TypeError(f"copy_from: 'other' is {other!r}, expected a model")
        tau = number("copy_from", "tau", tau, -math.inf, math.inf)
        if not 0 < tau <= 1:
            raise ValueError(f"copy_from: 'tau' is {tau!r}, expected above 0 to 1")
        if tau == 1:
            self.load_state_dict(other.arrays())
            return
        mine, theirs = self.arrays(), other.arrays()
        if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
            raise ValueError("copy_from: the models have arrays of other names or shapes")
        for name, array in mine.items():
            array += tau * (theirs[name] - array)

    # Fine-tuning

    def freeze(self, *names: str) -> None:
        """Let training leave layers alone: no gradients, no updates, and a `BatchNorm` uses its running statistics.

        Parameters
        ----------
        *names : str
            Layers (``"conv2d_1"``); all layers without any, which `Trainer.fit` then refuses to train.

        Raises
        ------
        ValueError
            If a name is unknown.
        """
        self.frozen |= self._layer_names(names)
        self.refresh()

    def unfreeze(self, *names: str) -> None:
        """Undo `freeze`, for all layers without names."""
        self.frozen -= self._layer_names(names)
        self.refresh()

    def _layer_names(self, names: Iterable[str]) -> set[str]:
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"{name!r} is no name of a layer, expected one or more, such as 'linear_1', 'linear_2'")
        wanted = set(names) or set(self.layers)
        for name in wanted:
            if name not in self.layers:
                raise ValueError(unknown("layer", name, self.layers))
        return wanted

    def replace_head(self, layer: Layer, *, seed: int = 0) -> None:
        """Put another layer in the place of the last one; all other arrays stay, and what an optimizer keeps for them.

        Parameters
        ----------
        layer : Layer
            Such as ``nn.Linear(5)`` for five new classes, which the next fit finds.
        seed : int, default 0
            Fixes the first values of its arrays, 0 or more.

        Raises
        ------
        TypeError
            If ``layer`` is no layer, or the seed no whole number.
        RuntimeError
            If the model is not built.
        ValueError
            If the model has several outputs, the last layer is called more than once, or the new one does not fit.
        """
        if not isinstance(layer, Layer):
            raise TypeError(f"replace_head: 'layer' is {layer!r}, expected a layer such as nn.Linear(5)")
        seed = whole("replace_head", "seed", seed, 0)
        kept = dict(self.arrays())
        if len(self.network.outputs) > 1:
            raise ValueError(f"replace_head: the model has the outputs {', '.join(self.network.outputs)}, expected one")
        (last,) = self.network.outputs.values()
        number = last - len(self.network.inputs)
        old = self.network.calls[number].layer
        if sum(call.layer == old for call in self.network.calls) > 1:
            raise ValueError(f"replace_head: {old!r} is called more than once")
        before = self.network
        name = old if layer.kind == self.layers[old].kind else _free_name(layer.kind, self.layers)
        layers = {(name if k == old else k): (layer if k == old else v) for k, v in before.layers.items()}
        calls = tuple(Call(name, c.sources) if i == number else c for i, c in enumerate(before.calls))
        self.network = replace(before, layers=layers, calls=calls)
        self.layers = layers
        try:
            declared = self._declare(self.input_shapes)
        except ValueError:
            self.network, self.layers = before, before.layers
            raise
        self.declared = declared
        self._arrays = self.allocate({k: p.shape for k, p in declared.items()})
        for position, (key, parameter) in enumerate(declared.items()):
            if key.rsplit(".", 1)[0] == name:
                self._draw(key, parameter, position, seed)
            else:
                self._arrays[key][...] = kept[key]
        self.frozen.discard(old)
        self.classes, self.tasks = {}, {}
        self.refresh()

    # Graphs

    def forward_graph(self, *, training: bool, sparse: Collection[str] = ()) -> tuple[Builder, str, dict[str, str]]:
        """Return a builder that holds gather and layers, the row index's name and the outputs' value names.

        The graph's inputs are ``X`` (rows of a data set, flat), or ``X.name`` for each of several inputs, ``index`` (rows of the
        batch), and what preprocessing reads. Of inputs in ``sparse``, ``X`` holds the stored items, beside ``columns`` and ``starts``.
        """
        builder = Builder(training)
        index = builder.value("index", (BATCH,), "i64")
        values = [self._gather(builder, name, index, name in sparse) for name in self.network.inputs]
        for name, parameter in self.declared.items():
            builder.value(name, parameter.shape, kind="parameter" if parameter.learned else "state")
        for call in self.network.calls:
            builder.training = training and call.layer not in self.frozen
            values.append(self.layers[call.layer].forward(builder, call.layer, *(values[i] for i in call.sources)))
        builder.training = training
        outputs: dict[str, str] = {}
        memory: set[str] = set()
        for name, value in ((k, values[at]) for k, at in self.network.outputs.items()):
            read = builder.graph.values[value].view_of or value
            shared = read in memory  # with another output, whose name and gradient are its own
            outputs[name] = builder.emit("scale", (value,), name=name)[0] if shared else value
            memory.add(read)
        return builder, index, outputs

    def _gather(self, builder: Builder, name: str, index: str, sparse: bool) -> str:
        """Add the rows of one input, preprocessed, and return their value."""
        shape, suffix = self.input_shapes[name], self.suffix(name, "inputs")
        if self.network.inputs[name].dtype == "int64":
            data = builder.value(f"X{suffix}", ("m", *shape), "i64")
            return builder.emit("gather_labels", (data, index), outputs=(f"x{suffix}",), name="gather")[0]
        prefix = f"{name}." if suffix else ""
        if sparse:
            parts = (("X", "stored", "T"), ("columns", "stored", "i64"), ("starts", "rows", "i64"))
            read = [builder.value(f"{what}{suffix}", (f"{size}{suffix}",), dtype) for what, size, dtype in parts]
            features = {"features": math.prod(shape)}
            scale = builder.value(f"{prefix}scale", (math.prod(shape),)) if name in self.preprocessors else None
            x = builder.emit("gather_csr", (*read, index, scale), features, outputs=(f"{prefix}x",), name="gather")[0]
            return builder.view(x, (BATCH, *shape), f"{prefix}x as rows")
        data = builder.value(f"X{suffix}", ("m", math.prod(shape)), "any")
        preprocess = self.preprocessors.get(name)
        if preprocess is not None:
            x = preprocess.emit(builder, data, index, prefix)
        else:
            x = builder.emit("gather_rows", (data, index, None, None), outputs=(f"{prefix}x",), name="gather")[0]
        return builder.view(x, (BATCH, *self.seen_shape(name, shape)), f"{prefix}x as rows")

    def folded(self) -> dict[str, Array]:
        """Return the arrays that preprocessing reads in a graph.

        Raises
        ------
        RuntimeError
            If a preprocessing is not fitted yet.
        """
        found: dict[str, Array] = {}
        for name, preprocess in self.preprocessors.items():
            found.update(preprocess.arrays(f"{name}." if self.suffix(name, "inputs") else "", self.dtype))
        return found

    def refresh(self) -> None:
        """Make plans compile again, those of trainers too: call it after a change of preprocessing."""
        self._plans = {}
        self.version += 1

    # Files and printing

    def save(self, path: str | Path) -> None:
        """Write the model (arrays, architecture, preprocessing, classes) to a safetensors file; `pyfastnn.load` reads it.

        Raises
        ------
        RuntimeError
            If the model is not built.
        TypeError
            If a layer is a function of Python: code is never saved.
        """
        from pyfastnn.io.model_file import save

        save(self, path)

    def summary(self) -> str:
        """Return a table of layers, output shapes and parameter counts."""
        return summary_table(self)

    def _repr_html_(self) -> str:
        """Show the summary in a notebook."""
        return summary_html(self)

    def __repr__(self) -> str:
        """Show inputs, outputs and the number of layers."""
        ins = ", ".join(f"{k}{list(self.row_shapes.get(k, ()))}" for k in self.network.inputs)
        return f"Model({ins} -> {', '.join(self.network.outputs)}; {len(self.layers)} layers)"


def _free_name(kind: str, taken: Iterable[str]) -> str:
    names, k = set(taken), 1
    while f"{kind}_{k}" in names:
        k += 1
    return f"{kind}_{k}"
