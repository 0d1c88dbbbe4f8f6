"""A copy of a network and some rows: what the checks of this package look at, so that the network itself stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfastnn.nn.model import Model

if TYPE_CHECKING:
    from pyfastnn.data.stream import Stream
    from pyfastnn.graph import Graph
    from pyfastnn.nn.losses import Loss
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

_DTYPES: dict[str, Any] = {"f64": np.float64, "i64": np.int64, "u8": np.uint8}


def copied(owner: str, given: Any, loss: str | Loss | Mapping[str, str | Loss], seed: int) -> Trainer:
    """Return a trainer of its own for a model or of a trainer: whatever is done with it leaves the original alone.

    Parameters
    ----------
    owner : str
        Who asks, for errors.
    given : Model or Trainer
        What is copied.
    loss, seed : str, Loss or dict, and int
        Of the trainer of a model; a trainer has its own.

    Raises
    ------
    TypeError
        If it is neither.
    """
    from pyfastnn.train.trainer import Trainer

    if isinstance(given, Trainer):
        return quiet(copy.deepcopy(given))
    if not isinstance(given, Model):
        raise TypeError(f"{owner}: {given!r} is neither a model nor a trainer")
    return quiet(Trainer(copy.deepcopy(given), loss, seed=seed))


def quiet(trainer: Trainer) -> Trainer:
    """Return a trainer of our own that neither watches itself nor warns: its runs are not the user's."""
    for name in ("monitor", "preflight"):
        if hasattr(trainer, name):
            setattr(trainer, name, None)
    return trainer


def first_block(owner: str, stream: Stream, y: Any) -> tuple[Any, Any]:
    """Return rows and targets of the first block of a stream, copied.

    Raises
    ------
    ValueError
        If targets were given too.
    """
    if y is not None:
        raise ValueError(f"{owner}: 'y' was given, but 'X' is a Stream, which holds the targets")
    with closing(stream.blocks()) as blocks:
        rows, targets, *_ = next(blocks)
    return rows, targets


def refuse_stream(owner: str, X: Any) -> None:
    """Raise TypeError for a stream, whose rows cannot be picked by number."""
    from pyfastnn.train.prepare import as_stream

    if as_stream(X) is not None:
        raise TypeError(f"{owner}: 'X' is a Stream, expected arrays; some hundred rows of it are enough")


def some_rows(count: int, most: int | None) -> NDArray[np.int64]:
    """Return the numbers of at most ``most`` of ``count`` rows, in order; they are the same every time, and no random stream moves."""
    if most is None or most >= count:
        return np.arange(count, dtype=np.int64)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, count])))
    return np.sort(rng.choice(count, most, replace=False)).astype(np.int64)


def taken(data: Any, rows: NDArray[np.int64]) -> Any:
    """Return some rows of what a user gives: an array, a sparse matrix, a sequence, or a dict of them."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {name: taken(part, rows) for name, part in data.items()}
    if hasattr(data, "tocsr"):
        return data.tocsr()[rows]
    return np.asarray(data)[rows]


def computed(
    graph: Graph,
    wanted: Iterable[str],
    given: Mapping[str, Array],
    rows: int,
    dtype: str,
    *,
    seed: int = 0,
    threads: int = 0,
    numbers: Mapping[str, float] | None = None,
) -> dict[str, Array]:
    """Run a graph once, natively, and return some of its values.

    Parameters
    ----------
    graph : Graph
        Forward, or forward and backward.
    wanted : iterable of str
        Values that nodes compute.
    given : mapping of str to ndarray
        What the graph reads; names it does not know are passed over. State is written to.
    rows : int
        Rows of the step.
    dtype : str
        Of the values that have that of the model.
    seed : int
        Of dropout.
    threads : int
        0 for the process-wide setting.
    numbers : mapping of str to float, optional
        Fields of hyper, such as ``weight_decay``.
    """
    from pyfastnn.backends.cpu import HYPER, CpuPlan

    values = graph.values
    roots = {name: values[name].view_of or name for name in wanted}
    arrays: dict[str, Array] = {}
    for root in roots.values():
        shape = [d if isinstance(d, int) else rows for d in values[root].shape]
        arrays[root] = np.zeros(shape, _DTYPES.get(values[root].dtype, dtype))
    hyper = np.zeros((1, 1 + max((node.group for node in graph.nodes), default=0), len(HYPER)))
    hyper[..., HYPER["seed"]] = seed
    hyper[..., HYPER["step"]] = 1
    for name, number in (numbers or {}).items():
        hyper[..., HYPER[name]] = number
    plan = CpuPlan({"probe": graph}, dict.fromkeys(arrays, "none"), max_batch=rows, dtype=dtype)
    bound = {**{k: v for k, v in given.items() if k in values}, **arrays}
    _, reason = plan.run("probe", rows, rows, bound, hyper=hyper, threads=threads)
    if reason == "interrupted":
        raise KeyboardInterrupt
    return {name: arrays[root] for name, root in roots.items()}


def state_of(model: Model) -> dict[str, Array]:
    """Return the arrays of a built model for `computed`: running statistics, which a step writes, as copies."""
    arrays = {k: v if model.declared[k].learned else v.copy() for k, v in model.arrays().items()}
    return {**arrays, **model.folded()}


class Activation(NamedTuple):
    """An activation in a graph: its layer (with the number of the call, from the second on), the kind of layer, and its value."""

    layer: str
    kind: str
    value: str


KINDS = frozenset(
    ("relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh", "exp", "maxout")
)
"""Layers whose outputs count as activations."""


def activations(model: Model, graph: Graph) -> list[Activation]:
    """Return the activations of a network in the order they are computed."""
    found: list[Activation] = []
    calls: dict[str, int] = {}
    for node in graph.nodes:
        layer = model.layers.get(node.name)
        if layer is None or layer.kind not in KINDS or not node.op.startswith(layer.kind):
            continue
        calls[node.name] = calls.get(node.name, 0) + 1
        shown = node.name if calls[node.name] == 1 else f"{node.name} (call {calls[node.name]})"
        found.append(Activation(shown, layer.kind, node.outputs[0]))
    return found
