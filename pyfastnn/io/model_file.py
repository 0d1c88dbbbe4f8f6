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
from pyfastnn.nn.model import Model, Sequential

Array = NDArray[Any]

FORMAT_VERSION = 1
"""Raised when a reader of the old version could not read the new files."""

LAYERS: dict[str, type[Layer]] = {
    c.kind: c
    for c in (nn.BatchNorm, nn.Dropout, nn.ELU, nn.Flatten, nn.LeakyReLU, nn.Linear, nn.ReLU, nn.Sigmoid, nn.Tanh)
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
    assert model.input_shape is not None
    architecture: dict[str, Any] = {
        "kind": "sequential",
        "layers": [{"kind": layer.kind, **layer.config()} for layer in model.layers.values()],
        "dtype": model.dtype.name,
        "input_shape": list(model.input_shape),
        "task": model.task,
        "classes": None if model.classes_ is None else model.classes_.tolist(),
        "preprocess": None,
    }
    if model.preprocess is not None:
        architecture["preprocess"] = model.preprocess.to_config()
        if hasattr(model.preprocess, "shift_"):
            tensors.update({_PREPROCESS + k: v for k, v in model.preprocess.state().items()})
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
        model = _sequential(architecture, tensors)
        own = {k: v for k, v in tensors.items() if not k.startswith(_PREPROCESS) and "/" not in k}
        model.load_state_dict(own)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
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


def _sequential(architecture: Mapping[str, Any], tensors: Mapping[str, Array]) -> Model:
    if architecture["kind"] != "sequential":
        raise ValueError(f"unknown kind of model {architecture['kind']!r}")
    layers = []
    for settings in architecture["layers"]:
        config = dict(settings)
        layers.append(from_config(LAYERS, config.pop("kind"), config))
    preprocess = None
    if architecture["preprocess"] is not None:
        if not isinstance(architecture["preprocess"], dict):
            raise ValueError(f"preprocess is {architecture['preprocess']!r}")
        state = {k.removeprefix(_PREPROCESS): v for k, v in tensors.items() if k.startswith(_PREPROCESS)}
        preprocess = preprocessing.from_config(architecture["preprocess"], state or None)
    model = Sequential(*layers, preprocess=preprocess, dtype=architecture["dtype"])
    task, classes = architecture["task"], architecture["classes"]
    if task not in (None, "classification", "regression"):
        raise ValueError(f"unknown task {task!r}")
    model.task = task
    if classes is not None:
        model.classes_ = np.array(classes)
        if model.classes_.ndim != 1 or model.classes_.dtype.kind not in "biuU":
            raise ValueError("classes are no list of labels")
        if not (model.classes_[:-1] < model.classes_[1:]).all():
            raise ValueError("classes are not sorted")
    shape = architecture["input_shape"]
    if not isinstance(shape, list) or not all(isinstance(d, int) and 0 < d < 2**40 for d in shape):
        raise ValueError(f"input_shape is {shape!r}")
    declared = sum(int(np.prod(p.shape, dtype=object)) for p in model._declare(tuple(shape)).values())
    given = sum(v.size for k, v in tensors.items())
    if declared > given:
        raise ValueError(f"the layers need {declared} numbers, the file holds {given}")
    if model.classes_ is not None and model.output_shape(tuple(shape)) != model.classes_.shape:
        raise ValueError(f"{len(model.classes_)} classes for outputs of shape {model.output_shape(tuple(shape))}")
    if preprocess is not None and hasattr(preprocess, "shift_") and preprocess.shift_.size != math.prod(shape):
        raise ValueError(
            f"the preprocessing is made for {preprocess.shift_.size} features, rows have {math.prod(shape)}"
        )
    model.build(tuple(shape))
    return model
