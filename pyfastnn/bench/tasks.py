"""The training tasks: nets, sizes, data, first weights and minibatches, the same for every library.

A step is gather + forward + loss + backward + update on random float32 data in memory.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import unknown

Array = NDArray[Any]
Layer = tuple[Any, ...]

CLASSES = 10
WIDEST = 4096
CHECK_STEPS = 50
"""Losses of so many steps are compared before anything is timed."""
EXACT_STEPS, EXACT_ERROR = 5, 0.5e-5
"""Without Adam, the first losses of nets of convolutions agree to five decimals."""


@dataclass(frozen=True)
class Task:
    """One training task.

    Attributes
    ----------
    name, title : str
        ``"T1"``, and what it is.
    layers : tuple
        ``("linear", inputs, outputs)``, ``("relu",)``, ``("tanh",)``, ``("batch_norm", features)``; on images
        ``("conv2d", kernel size, inputs, outputs)`` (padding "same"), ``("max_pool2d", size)`` and ``("flatten",)``.
    batch, rows : int
        Rows a step, and rows of the data set (a multiple of ``batch``).
    optimizer : str
        ``"sgd"``, ``"momentum"`` (0.9) or ``"adam"`` (0.9, 0.999, 1e-8).
    learning_rate, weight_decay : float
        The decay applies to the weights of linear layers alone.
    precision : str
        ``"float32"``, or ``"bf16"`` for the large products (PyTorch: autocast).
    image : tuple of int
        Height, width and channels of a row; empty where a row is no image.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    batch: int
    rows: int
    optimizer: str
    learning_rate: float
    weight_decay: float = 0.0
    precision: str = "float32"
    image: tuple[int, ...] = ()

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return self.image or (int(self.layers[0][1]),)

    @property
    def features(self) -> int:
        """Numbers in a row."""
        return math.prod(self.row_shape)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of a row after each layer."""
        shape, found = self.row_shape, []
        for kind, *sizes in self.layers:
            if kind == "linear":
                shape = (sizes[1],)
            elif kind == "conv2d":
                shape = (*shape[:2], sizes[2])
            elif kind == "max_pool2d":
                shape = (shape[0] // sizes[0], shape[1] // sizes[0], shape[2])
            elif kind == "flatten":
                shape = (math.prod(shape),)
            found.append(shape)
        return found

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return self.rows // self.batch

    @property
    def tolerance(self) -> float:
        """Largest relative difference of losses: Adam magnifies rounding where gradients are small."""
        if self.precision == "bf16":
            return 1e-2
        return 1e-3 if self.optimizer == "adam" else 1e-4

    @property
    def flop(self) -> float:
        """Floating point operations of the matrix products and convolutions of one step, every term counted.

        A layer computes its output and two gradients, the first one only that of its weights. A convolution multiplies each pixel of its
        output by each weight of a filter, at the edges too. Where max pools let a quarter of a gradient through, that of the weights in
        front of them needs fewer: a step may be quicker than these at the peak.
        """
        products = []
        for (kind, *sizes), shape in zip(self.layers, self.shapes, strict=True):
            if kind == "linear":
                products.append(math.prod(sizes))
            elif kind == "conv2d":
                products.append(math.prod(shape) * sizes[0] ** 2 * sizes[1])
        return float(2 * self.batch * (3 * sum(products) - products[0]))


def _dense(*sizes: int, activation: str = "relu", norm: bool = False) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for at, (i, o) in enumerate(itertools.pairwise(sizes)):
        layers.append(("linear", i, o))
        if at < len(sizes) - 2:
            layers += ([("batch_norm", o)] if norm else []) + [(activation,)]
    return tuple(layers)


TASKS = {
    task.name: task
    for task in (
        Task(
            "T1",
            "3072-50-10 ReLU, batch 100, momentum + L2",
            _dense(3072, 50, CLASSES),
            100,
            5000,
            "momentum",
            1e-3,
            1e-3,
        ),
        Task(
            "T2",
            "500-[500 tanh]x10-10, batch 1000, SGD",
            _dense(*[500] * 11, CLASSES, activation="tanh"),
            1000,
            10000,
            "sgd",
            1e-2,
        ),
        Task(
            "T3",
            "784-256-BN-ReLU-128-BN-ReLU-10, batch 128, Adam",
            _dense(784, 256, 128, CLASSES, norm=True),
            128,
            9984,
            "adam",
            1e-3,
        ),
        Task(
            "T4",
            "32x32x3 - 5x5x6 ReLU pool - 3x3x16 ReLU pool - 10, batch 64, momentum",
            (
                *(("conv2d", 5, 3, 6), ("relu",), ("max_pool2d", 2)),
                *(("conv2d", 3, 6, 16), ("relu",), ("max_pool2d", 2)),
                *(("flatten",), ("linear", 8 * 8 * 16, CLASSES)),
            ),
            64,
            4992,
            "momentum",
            1e-3,
            image=(32, 32, 3),
        ),
        Task("T5", "64-32-10 ReLU, batch 32, Adam", _dense(64, 32, CLASSES), 32, 9984, "adam", 1e-3),
        Task("T6", "784-1024-1024-10 ReLU, batch 256, Adam", _dense(784, 1024, 1024, CLASSES), 256, 9984, "adam", 1e-4),
        Task(
            "T7",
            "28x28x1 - 3x3x32 ReLU - 3x3x32 ReLU pool - 3x3x64 ReLU pool - 128 ReLU - 10, batch 64, Adam",
            (
                *(("conv2d", 3, 1, 32), ("relu",)),
                *(("conv2d", 3, 32, 32), ("relu",), ("max_pool2d", 2)),
                *(("conv2d", 3, 32, 64), ("relu",), ("max_pool2d", 2)),
                *(("flatten",), ("linear", 7 * 7 * 64, 128), ("relu",), ("linear", 128, CLASSES)),
            ),
            64,
            4992,
            "adam",
            3e-5,
            image=(28, 28, 1),
        ),
    )
}


TASKS["T6b"] = replace(TASKS["T6"], name="T6b", title=f"{TASKS['T6'].title}, bf16 products", precision="bf16")


def here() -> list[str]:
    """Return the names of the tasks this processor can do."""
    from pyfastnn import _core

    return [name for name, task in TASKS.items() if task.precision == "float32" or _core.multiplies_bf16()]


def only_float32(task: Task) -> None:
    """Raise NotImplementedError for a task in another precision: for peers that have no other."""
    if task.precision != "float32":
        raise NotImplementedError(f"{task.name} asks for {task.precision}")


def no_images(task: Task) -> None:
    """Raise NotImplementedError for a task on images: for peers without convolutions."""
    if task.image:
        raise NotImplementedError(f"{task.name} asks for convolutions")


def get(name: str) -> Task:
    """Return a task by name.

    ``"W64"`` is a net of that width, 64-64-10 ReLU, batch 64, Adam: for times over sizes.

    Raises
    ------
    ValueError
        If no task has that name.
    """
    if name[:1] == "W" and name[1:].isdigit() and 0 < int(name[1:]) <= WIDEST:
        w = int(name[1:])
        return Task(name, f"{w}-{w}-10 ReLU, batch 64, Adam", _dense(w, w, CLASSES), 64, 6400, "adam", 1e-4)
    if name not in TASKS:
        raise ValueError(unknown("task", name, TASKS))
    return TASKS[name]


def named_layers(task: Task) -> list[tuple[str, Layer]]:
    """Return the layers with names counted per kind: ``linear_1``, ``relu_1``, ``linear_2``."""
    seen: dict[str, int] = {}
    named = []
    for layer in task.layers:
        seen[layer[0]] = seen.get(layer[0], 0) + 1
        named.append((f"{layer[0]}_{seen[layer[0]]}", layer))
    return named


def data(task: Task) -> tuple[Array, Array, Array]:
    """Return standard normal rows (images: height, width, channels), labels (int64), and a random order of the rows (int64).

    Step k takes the rows ``order[j * batch : (j + 1) * batch]`` with ``j = k % steps``.
    """
    X, y, order = _data(task.rows, task.features)
    return X.reshape(task.rows, *task.row_shape), y, order


@lru_cache(maxsize=1)
def _data(rows: int, features: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(20240001)
    X = rng.standard_normal((rows, features), dtype=np.float32)
    y = rng.integers(0, CLASSES, rows)
    return X, y, rng.permutation(rows)


def first_weights(task: Task) -> dict[str, Array]:
    """Return every parameter by name.

    ``"linear_1.w"`` is of shape (inputs, outputs), ``"conv2d_1.w"`` of (height, width, inputs, outputs); ``"batch_norm_1.gamma"``.
    """
    rng = np.random.default_rng(20240002)
    gain = 1.0 if ("tanh",) in task.layers else 2.0
    weights: dict[str, Array] = {}
    for name, layer in named_layers(task):
        if layer[0] == "linear":
            _, i, o = layer
            weights[f"{name}.w"] = (rng.standard_normal((i, o)) * np.sqrt(gain / i)).astype(np.float32)
            weights[f"{name}.b"] = np.zeros(o, np.float32)
        elif layer[0] == "conv2d":
            _, size, i, o = layer
            scale = np.sqrt(gain / (size * size * i))
            weights[f"{name}.w"] = (rng.standard_normal((size, size, i, o)) * scale).astype(np.float32)
            weights[f"{name}.b"] = np.zeros(o, np.float32)
        elif layer[0] == "batch_norm":
            weights[f"{name}.gamma"] = np.ones(layer[1], np.float32)
            weights[f"{name}.beta"] = np.zeros(layer[1], np.float32)
    return weights
