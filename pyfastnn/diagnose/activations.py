"""Statistics of the activations of a network: whether its first weights let signals and gradients through."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pyfastnn._names import helpful_keywords
from pyfastnn.diagnose.probe import Activation, activations, computed, copied, refuse_stream, some_rows, state_of, taken
from pyfastnn.nn.layer import whole
from pyfastnn.nn.model import Model

if TYPE_CHECKING:
    import os

    from pyfastnn.graph import Graph
    from pyfastnn.nn.losses import Loss
    from pyfastnn.train.compiled import Form
    from pyfastnn.train.trainer import Trainer

Array = NDArray[Any]

BINS = 24
"""Bins of a histogram, of equal width from the least to the largest value."""

BOUNDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
"""Ranges of the activations that can saturate."""
SATURATED = 0.99
"""From the middle of its range a saturated value is farther away than this share of half the range."""


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of one activation, or of the inputs as the first layer sees them, over all rows and units.

    Attributes
    ----------
    layer : str
        Name of the layer (``"relu_1"``; from its second call on ``"relu_1 (call 2)"``), or of the input.
    kind : str
        Kind of the layer (``"relu"``), or ``"input"``.
    mean, std, min, max : float
        Of all values, in float64; NaN where a value is.
    dead : float
        Share of the units that are 0 in every row; of images, of the channels that are 0 everywhere.
    saturated : float
        Share of the values of a sigmoid or tanh beyond 0.99 of its range; 0 for other layers.
    histogram : tuple of int
        Counts of the finite values in 24 bins from the least to the largest.
    gradient_mean, gradient_std : float
        Of the gradient of the mean loss with respect to the values, times the number of rows; NaN without targets.
    """

    layer: str
    kind: str
    mean: float
    std: float
    min: float
    max: float
    dead: float
    saturated: float
    histogram: tuple[int, ...]
    gradient_mean: float = math.nan
    gradient_std: float = math.nan

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, one more than there are bins."""
        return np.linspace(self.min, self.max, BINS + 1)


@dataclass(frozen=True, repr=False)
class ActivationStatistics:
    """The report of `activation_statistics`; it prints a line for each activation.

    Attributes
    ----------
    layers : tuple of LayerStatistics
        One per activation, in the order they are computed.
    inputs : tuple of LayerStatistics
        One per input of floats, after its preprocessing.
    rows : int
        Rows that were looked at.
    """

    layers: tuple[LayerStatistics, ...]
    inputs: tuple[LayerStatistics, ...]
    rows: int

    def __getitem__(self, layer: str) -> LayerStatistics:
        """Return the statistics of one layer.

        Raises
        ------
        KeyError
            If there is no such activation.
        """
        from pyfastnn._names import unknown

        found = {s.layer: s for s in (*self.layers, *self.inputs)}
        if layer not in found:
            raise KeyError(unknown("activation", layer, found))
        return found[layer]

    def __str__(self) -> str:
        """Return one line for the inputs and each activation."""
        lines = []
        for each in self.inputs:
            shown = "input layer" if len(self.inputs) == 1 else f"input {each.layer}"
            lines.append(f"{shown} had mean {each.mean:f} and std {each.std:f}")
        for number, each in enumerate(self.layers, 1):
            line = f"hidden layer {number} had mean {each.mean:f} and std {each.std:f}"
            line += f", {each.dead:.1%} of its units dead" * (each.dead > 0)
            line += f", {each.saturated:.1%} saturated" * (each.saturated > 0)
            line += f", gradient std {each.gradient_std:.3e}" * (not math.isnan(each.gradient_std))
            lines.append(line)
        return "\n".join(lines) if self.layers else "\n".join([*lines, "the model has no activation layers"])

    __repr__ = __str__

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw means, standard deviations and the histogram of every activation.

        Parameters
        ----------
        path : path, optional
            Where to save the picture; the file ending says the format.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        ImportError
            If matplotlib is missing; names the extra to install.
        ValueError
            If there are no activations, or matplotlib cannot write this format.
        """
        from pyfastnn.report.activations import plot_activations

        return plot_activations(self, path)


@helpful_keywords
def activation_statistics(
    model: Model | Trainer,
    X: Any,
    y: Any = None,
    *,
    loss: str | Loss | Mapping[str, str | Loss] = "softmax_cross_entropy",
    rows: int | None = 1000,
    training: bool = True,
    seed: int = 0,
) -> ActivationStatistics:
    """Say how the values after every activation layer are distributed, and with targets the gradients that reach them.

    Parameters
    ----------
    model : Model or Trainer
        Not changed: what is not built or fitted yet is, in a copy.
    X : array_like, shape (n, ...), sparse matrix, or dict of str to array_like
        Raw rows.
    y : array_like or dict of str to array_like, optional
        Labels or targets of the rows, for statistics of the gradients.
    loss : str, Loss or dict, default "softmax_cross_entropy"
        Of a model, with ``y``; a trainer has its own.
    rows : int or None, default 1000
        How many rows are looked at, picked without a random stream; None for all. Their activations are kept in memory at once.
    training : bool, default True
        Whether the layers act as while training (statistics of the batch, dropout) or as in prediction. With ``y``, as while training.
    seed : int, default 0
        Fixes the weights of a model that is not built, and dropout.

    Returns
    -------
    ActivationStatistics
        Prints as ``hidden layer 1 had mean -0.000117 and std 0.213081``; ``plot()`` draws it.

    Raises
    ------
    TypeError, ValueError
        If rows or targets do not fit.

    Notes
    -----
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), look at the same pictures.

    Examples
    --------
    >>> import numpy as np
    >>> import pyfastnn as fnn
    >>> from pyfastnn import nn
    >>> model = nn.Sequential(nn.Linear(500, init=nn.initializers.Normal(std=0.01)), nn.Tanh(), nn.Linear(10))
    >>> found = fnn.diagnose.activation_statistics(model, np.random.default_rng(0).standard_normal((1000, 500)))
    >>> print(found)  # doctest: +ELLIPSIS
    input layer had mean ... and std ...
    hidden layer 1 had mean ... and std 0.21...
    """
    from pyfastnn._inputs import as_inputs

    if rows is not None:
        whole("activation_statistics", "rows", rows)
    refuse_stream("activation_statistics", X)
    seed = whole("activation_statistics", "seed", seed, 0)
    trainer = None
    if isinstance(model, Model) and y is None:  # which needs no loss
        network = copy.deepcopy(model)
    else:
        trainer = copied("activation_statistics", model, loss, seed)
        network, seed = trainer.model, trainer.seed
    inputs, count = as_inputs(X, "X", network)
    if count == 0:
        raise ValueError("activation_statistics: 'X' has no rows")
    if y is not None:
        from pyfastnn.train.prepare import training_data

        assert trainer is not None
        data = training_data(trainer, X, y)
        return look(trainer, data.arrays, some_rows(count, rows), data.form).statistics
    for name, preprocess in network.preprocessors.items():
        if not preprocess.fitted:
            preprocess.fit(cast("Array", inputs[name]))  # sparse rows were refused
            network.refresh()
    if not network.built:
        network.build(network.shapes_of(inputs), seed=seed)
    return _of_model(network, X, some_rows(count, rows), training, seed)


def _of_model(model: Model, X: Any, rows: NDArray[np.int64], training: bool, seed: int) -> ActivationStatistics:
    """Look at the forward pass alone."""
    from pyfastnn._inputs import as_inputs, input_arrays

    given, sparse = input_arrays(as_inputs(taken(X, rows), "X", model)[0], model)
    builder, _, _ = model.forward_graph(training=training, sparse=sparse)
    graph = builder.graph
    found, read = activations(model, graph), _inputs_of(model, graph)
    arrays = {**state_of(model), **given, "index": np.arange(len(rows), dtype=np.int64)}
    wanted = [*(a.value for a in found), *read.values()]
    values = computed(graph, wanted, arrays, len(rows), model.dtype.name, seed=seed)
    return ActivationStatistics(
        tuple(_statistics(a, values[a.value]) for a in found),
        tuple(_statistics(Activation(name, "input", x), values[x]) for name, x in read.items()),
        len(rows),
    )


@dataclass(frozen=True)
class Look:
    """What one step showed, which was not taken: statistics, the loss, and the rows of every input as the first layers see them."""

    statistics: ActivationStatistics
    loss: float
    inputs: dict[str, Array]


def look(trainer: Trainer, data: Mapping[str, Array], rows: NDArray[np.int64], form: Form) -> Look:
    """Run forward and backward pass of one training step of a completed trainer, whose arrays all stay as they are.

    Parameters
    ----------
    trainer : Trainer
        Its model is built.
    data : mapping of str to ndarray
        Rows and targets by the names of the plan's values.
    rows : ndarray of int64
        Which rows.
    form : Form
        Of the data.
    """
    from pyfastnn.graph.autodiff import backward
    from pyfastnn.train.compiled import loss_graph

    model = trainer.model
    builder, loss = loss_graph(model, trainer.heads, training=True, form=form)
    found, read = activations(model, builder.graph), _inputs_of(model, builder.graph)
    gradients = backward(builder, loss, [a.value for a in found])
    arrays = {**state_of(model), **data, "index": rows}
    wanted = [loss, *(a.value for a in found), *read.values(), *gradients.values()]
    dtype = model.dtype.name
    values = computed(builder.graph, wanted, arrays, len(rows), dtype, seed=trainer.seed, threads=trainer.threads)

    def statistics(of: Activation) -> LayerStatistics:
        gradient = values[gradients[of.value]].astype(np.float64) * len(rows) if of.value in gradients else None
        return _statistics(of, values[of.value], gradient)

    inputs = {name: values[x] for name, x in read.items()}
    seen = tuple(_statistics(Activation(name, "input", ""), x) for name, x in inputs.items())
    return Look(ActivationStatistics(tuple(map(statistics, found)), seen, len(rows)), float(values[loss][0]), inputs)


def _inputs_of(model: Model, graph: Graph) -> dict[str, str]:
    """Return the value that holds the gathered, preprocessed rows of each input of floats that is not sparse."""
    found: dict[str, str] = {}
    for name, symbol in model.network.inputs.items():
        value = f"{name}.x" if model.suffix(name, "inputs") else "x"
        if symbol.dtype == "float" and value in graph.values and graph.values[value].kind == "activation":
            found[name] = value
    return found


def _statistics(of: Activation, values: Array, gradient: Array | None = None) -> LayerStatistics:
    """Return the statistics of the values of one activation."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite shows as NaN
        return _counted(of, values, gradient)


def _counted(of: Activation, values: Array, gradient: Array | None) -> LayerStatistics:
    flat = values.reshape(-1, values.shape[-1])
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
    counts = [0] * BINS
    if finite.size and low < high:
        counts = np.histogram(finite, BINS, (low, high))[0].tolist()
    elif finite.size:  # one value alone has no width to divide
        counts[BINS // 2] = finite.size
    saturated = 0.0
    if of.kind in BOUNDS and values.size:
        bottom, top = BOUNDS[of.kind]
        far = np.abs(values - (bottom + top) / 2) > SATURATED * (top - bottom) / 2
        saturated = float(np.count_nonzero(far) / values.size)
    return LayerStatistics(
        of.layer,
        of.kind,
        float(values.mean(dtype=np.float64)),
        float(values.std(dtype=np.float64)),
        low,
        high,
        float((flat == 0).all(axis=0).mean()) if flat.size else 0.0,
        saturated,
        tuple(int(c) for c in counts),
        math.nan if gradient is None else float(gradient.mean(dtype=np.float64)),
        math.nan if gradient is None else float(gradient.std(dtype=np.float64)),
    )
