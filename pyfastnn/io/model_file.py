"""Model files: the arrays of a model as safetensors, its architecture as JSON in the metadata. Never code, never pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn import nn
from pyfastnn.data import preprocessing
from pyfastnn.io import safetensors
from pyfastnn.io.safetensors import ModelFileError
from pyfastnn.nn.layer import Layer, from_config
from pyfastnn.nn.loss import TASKS
from pyfastnn.nn.model import Model
from pyfastnn.nn.sequential import Sequential
from pyfastnn.nn.symbolic import Call, Input, Network

Array = NDArray[Any]

FORMAT_VERSION = 1
"""Raised when a reader of the old version could not read the new files."""

LAYERS: dict[str, type[Layer]] = {
    c.kind: c
    for c in (
        nn.Add,
        nn.AvgPool2d,
        nn.BatchNorm,
        nn.Concat,
        nn.Conv2d,
        nn.Cutout,
        nn.Dropout,
        nn.Dropout2d,
        nn.ELU,
        nn.Embedding,
        nn.Exp,
        nn.Flatten,
        nn.GlobalAvgPool2d,
        nn.GELU,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.LeakyReLU,
        nn.Linear,
        nn.MaxPool2d,
        nn.LogSoftmax,
        nn.Maxout,
        nn.PReLU,
        nn.RandomCrop,
        nn.RandomFlip,
        nn.ReLU,
        nn.SELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.Softmax,
        nn.Softplus,
        nn.Tanh,
    )
}
"""The layers a file may name."""

_PREPROCESS = "preprocess."


def save(model: Model, path: str | Path) -> None:
    """Write a model to a file.

    Parameters
    ----------
    model : Model
        A built model.
    path : path
        The file; replaced as a whole or not at all.

    Raises
    ------
    RuntimeError
        If the model is not built.
    """
    tensors, metadata = to_file(model)
    safetensors.write(path, tensors, metadata)


def load(path: str | Path) -> Model:
    """Read a model.

    Parameters
    ----------
    path : path
        A file written by ``model.save``, or a checkpoint of a Trainer.

    Returns
    -------
    Model
        Built, with its preprocessing and classes.

    Raises
    ------
    ModelFileError
        If the file is damaged, is no model, or was written by a later version.
    FileNotFoundError
        If there is no such file.
    """
    tensors, metadata = safetensors.read(path)
    return from_file(tensors, metadata)


def to_file(model: Model) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the tensors and the metadata of a model."""
    from pyfastnn import _core

    tensors = dict(model.arrays())
    architecture: dict[str, Any] = {
        **_network_to_json(model),
        "dtype": model.dtype.name,
        "task": model.task,
        "classes": {k: v.tolist() for k, v in model.classes.items()} or None,
        "preprocess": None,
        "frozen": sorted(model.frozen),
    }
    if isinstance(model, Sequential):
        architecture["classes"] = None if model.classes_ is None else model.classes_.tolist()
    if isinstance(model.preprocess, Mapping):
        architecture["preprocess"] = {k: p.to_config() for k, p in model.preprocess.items()}
    elif model.preprocess is not None:
        architecture["preprocess"] = model.preprocess.to_config()
    for name, preprocess in model.preprocessors.items():
        if preprocess.fitted:
            prefix = _PREPROCESS + (f"{name}." if isinstance(model.preprocess, Mapping) else "")
            tensors.update({prefix + k: v for k, v in preprocess.state().items()})
    metadata = {
        "format": "pyfastnn model",
        "format_version": str(FORMAT_VERSION),
        "pyfastnn_version": _core.__version__,
        "architecture": json.dumps(architecture),
    }
    return tensors, metadata


def from_file(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> Model:
    """Build the model that tensors and metadata describe.

    Raises
    ------
    ModelFileError
        If they do not describe one.
    """
    check_version(metadata, "pyfastnn model")
    architecture = parse_json(metadata, "architecture")
    try:
        model = _model(architecture, tensors)
        own = {k: v for k, v in tensors.items() if not k.startswith(_PREPROCESS) and "/" not in k}
        model.load_state_dict(own)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise ModelFileError(f"the architecture does not describe a model: {error}") from None
    return model


def check_version(metadata: Mapping[str, str], kind: str) -> None:
    """Raise ModelFileError unless the metadata are ours and not newer than this version."""
    from pyfastnn import _core

    if not metadata.get("format", "").startswith("pyfastnn"):
        raise ModelFileError(f"the file is no {kind}: its metadata do not say so")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version[:9]) > FORMAT_VERSION:
        raise ModelFileError(
            f"the file was written by pyfastnn {metadata.get('pyfastnn_version', '?')[:20]} (format {version[:9] or '?'}), "
            f"this is {_core.__version__} (format {FORMAT_VERSION}); update pyfastnn to read it"
        )


def parse_json(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Return one metadata entry that holds a JSON object.

    Raises
    ------
    ModelFileError
        If it is missing or no object.
    """
    try:
        found = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelFileError(f"the metadata have no readable {key!r}")
    return found


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    return {"kind": layer.kind, **layer.config()}


def _network_to_json(model: Model) -> dict[str, Any]:
    """Return layers and shapes; of anything but a chain also what is called on what."""
    if isinstance(model, Sequential):
        layers = [_layer_to_json(layer) for layer in model.layers.values()]
        return {"kind": "sequential", "layers": layers, "input_shape": list(model.input_shape or ())}
    network = model.network
    return {
        "kind": "graph",
        "layers": {name: _layer_to_json(layer) for name, layer in network.layers.items()},
        "calls": [[call.layer, list(call.sources)] for call in network.calls],
        "inputs": {k: {"shape": list(model.input_shapes[k]), "dtype": x.dtype} for k, x in network.inputs.items()},
        "outputs": network.outputs,
    }


def _layer_from_json(settings: Any) -> Layer:
    config = dict(settings)
    return from_config(LAYERS, config.pop("kind"), config)


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(_is_count(d) and 0 < d < 2**40 for d in shape):
        raise ValueError(f"input_shape is {shape!r}")
    return tuple(shape)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _network_from_json(architecture: Mapping[str, Any]) -> Network:
    """Return the network of a graph, checked: a file may say anything."""
    layers = {str(name): _layer_from_json(settings) for name, settings in architecture["layers"].items()}
    inputs = {}
    for name, settings in architecture["inputs"].items():
        inputs[str(name)] = Input(_shape(settings["shape"]), name=str(name), dtype=settings["dtype"])
    calls: list[Call] = []
    for layer, sources in architecture["calls"]:
        known = len(inputs) + len(calls)
        if layer not in layers or not sources or not all(_is_count(i) and i < known for i in sources):
            raise ValueError(f"call {len(calls)} is {layer!r} on {sources!r}")
        calls.append(Call(layer, tuple(sources)))
    outputs = dict(architecture["outputs"])
    if not inputs or not outputs:
        raise ValueError("the network has no inputs or outputs")
    for name, number in outputs.items():
        if not _is_count(number) or not len(inputs) <= number < len(inputs) + len(calls):
            raise ValueError(f"output {name!r} is value {number!r}")
    if {call.layer for call in calls} != set(layers):
        raise ValueError("a layer is called nowhere")
    return Network(layers, tuple(calls), inputs, outputs)


def _preprocess(settings: Any, tensors: Mapping[str, Array], prefix: str) -> Any:
    if not isinstance(settings, dict):
        raise ValueError(f"preprocess is {settings!r}")
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return preprocessing.from_config(settings, state or None)


def _classes(classes: Any) -> Array:
    found = np.array(classes)
    if found.ndim != 1 or found.dtype.kind not in "biuU":
        raise ValueError("classes are no list of labels")
    if not (found[:-1] < found[1:]).all():
        raise ValueError("classes are not sorted")
    return found


def _model(architecture: Mapping[str, Any], tensors: Mapping[str, Array]) -> Model:
    kind, settings = architecture["kind"], architecture["preprocess"]
    if kind not in ("sequential", "graph"):
        raise ValueError(f"unknown kind of model {kind!r}")
    preprocess: Any = None
    model: Model
    if kind == "sequential":
        if settings is not None:
            preprocess = _preprocess(settings, tensors, _PREPROCESS)
        layers = [_layer_from_json(layer) for layer in architecture["layers"]]
        model = Sequential(*layers, preprocess=preprocess, dtype=architecture["dtype"])
        shapes = {"X": _shape(architecture["input_shape"])}
        if not shapes["X"]:
            raise ValueError("input_shape is []")
    else:
        network = _network_from_json(architecture)
        if isinstance(settings, dict) and settings and all(isinstance(v, dict) for v in settings.values()):
            preprocess = {k: _preprocess(v, tensors, f"{_PREPROCESS}{k}.") for k, v in settings.items()}
        elif settings is not None:
            preprocess = _preprocess(settings, tensors, _PREPROCESS)
        model = Model.__new__(Model)
        model._start(network, preprocess, architecture["dtype"])
        shapes = {name: symbol.shape for name, symbol in network.inputs.items()}
    task, classes = architecture["task"], architecture["classes"]
    outputs = model.output_shapes(shapes)
    model.task = task
    for name, each in model.tasks.items():
        if name not in outputs or each not in TASKS:
            raise ValueError(f"unknown task {each!r}")
    if classes is not None:
        given = classes if isinstance(classes, dict) else {next(iter(outputs)): classes}
        model.classes = {name: _classes(labels) for name, labels in given.items()}
    declared = sum(int(np.prod(p.shape, dtype=object)) for p in model._declare(shapes).values())
    held = sum(v.size for v in tensors.values())
    if declared > held:
        raise ValueError(f"the layers need {declared} numbers, the file holds {held}")
    for name, labels in model.classes.items():
        if name not in outputs or outputs[name] != labels.shape:
            raise ValueError(f"{len(labels)} classes for outputs of shape {outputs.get(name)}")
    for name, one in model.preprocessors.items():
        features = math.prod(shapes[name])
        if one.fitted and one.shift_.size != features:
            raise ValueError(f"the preprocessing is made for {one.shift_.size} features, rows have {features}")
    model.build(shapes)
    if frozen := architecture.get("frozen"):
        model.freeze(*frozen)
    return model
