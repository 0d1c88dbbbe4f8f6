"""Pictures of the activations of a network: means and deviations over the layers, and the histogram of each."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfastnn.diagnose.activations import ActivationStatistics

# Okabe and Ito's blue, vermilion and green: told apart with every kind of colour vision.
_MEANS, _STDS, _GRADIENTS = "#0072B2", "#D55E00", "#009E73"
_A_ROW = 10
"""Histograms beside each other."""


def plot_activations(statistics: ActivationStatistics, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw means and standard deviations over the layers, and below the histogram of each.

    Parameters
    ----------
    statistics : ActivationStatistics
        Of at least one activation.
    path : path, optional
        Where to save the picture; the file ending says the format (png, svg, pdf).

    Returns
    -------
    matplotlib.figure.Figure
        The figure: a panel of means, one of standard deviations, one of those of the gradients if there are some, and the histograms on
        one axis of values.

    Raises
    ------
    ImportError
        If matplotlib is missing; names the extra to install.
    ValueError
        If there are no activations, or matplotlib cannot write this format.
    """
    layers = statistics.layers
    if not layers:
        raise ValueError("plot_activations: the model has no activation layers")
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("drawing activations needs matplotlib: pip install pyfastnn[plot]") from error

    columns = min(_A_ROW, len(layers))
    rows = -(-len(layers) // columns)
    curves = [("mean", [s.mean for s in layers], _MEANS), ("standard deviation", [s.std for s in layers], _STDS)]
    slopes = [s.gradient_std for s in layers]
    if not all(map(math.isnan, slopes)):
        curves.append(("standard deviation of the gradient", slopes, _GRADIENTS))
    figure = Figure(figsize=(max(7.5, 1.15 * columns), 2.6 + 1.5 * rows), dpi=140, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.6, 1.5 * rows])
    above, below = parts
    numbers = range(1, len(layers) + 1)
    for axes, (title, values, color) in zip(above.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        axes.plot(numbers, values, color=color, marker="o", markersize=3.5, linewidth=1.4)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("layer", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        if title != "mean":
            axes.set_ylim(bottom=0.0)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    finite = [s for s in layers if math.isfinite(s.min) and math.isfinite(s.max)]
    low, high = min((s.min for s in finite), default=0.0), max((s.max for s in finite), default=1.0)
    margin = 0.03 * (high - low) or 0.5
    panels = below.subplots(rows, columns, squeeze=False).reshape(-1)
    for number, (axes, each) in enumerate(zip(panels, layers, strict=False), 1):
        _histogram(axes, each.edges, each.histogram, (low - margin, high + margin))
        axes.set_title(f"{number}: {each.layer}", fontsize=7.5)
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    if path is not None:
        from pyfastnn.report.curves import save_figure

        save_figure(figure, os.fspath(path))
    return figure


def _histogram(axes: Any, edges: Any, counts: tuple[int, ...], limits: tuple[float, float]) -> None:
    """Draw counts as bars of equal full height: what lies where is the point, not how many rows there were."""
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.tick_params(labelsize=6.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not sum(counts):
        return
    least = (limits[1] - limits[0]) / 100  # narrower ones could not be seen
    width = max(float(edges[1] - edges[0]), least)
    axes.bar((edges[:-1] + edges[1:]) / 2, [c / max(counts) for c in counts], width=width, color=_MEANS)
    axes.set_ylim(0.0, 1.05)
