"""Curves of a training run: loss, and accuracy where there is one, over the epochs."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfastnn.train.history import History

# Okabe and Ito's blue and vermilion: told apart with every kind of colour vision.
_CURVES = (("", "training", "#0072B2", "o"), ("val_", "validation", "#D55E00", "s"))
_MARKED = 30
"""Up to so many epochs each one gets a mark."""


def plot_history(history: History, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw loss and accuracy over the epochs, training beside validation.

    Parameters
    ----------
    history : History
        Of at least one epoch.
    path : path, optional
        Where to save the picture; the file ending says the format (png, svg, pdf).

    Returns
    -------
    matplotlib.figure.Figure
        The figure, one panel for the loss and one for the accuracy if the run has it.

    Raises
    ------
    ImportError
        If matplotlib is missing; names the extra to install.
    ValueError
        If the history is empty, or matplotlib cannot write this format.
    """
    if len(history) == 0:
        raise ValueError("plot_history: the history has no epochs yet")
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise ImportError("drawing curves needs matplotlib: pip install pyfastnn[plot]") from error

    panels = [name for name in ("loss", "accuracy") if name in history.columns or f"val_{name}" in history.columns]
    figure = Figure(figsize=(4.6 * len(panels), 3.4), dpi=140, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for prefix, label, color, mark in _CURVES:
            points = [(row["epoch"], row[prefix + name]) for row in history if prefix + name in row]
            if not points:
                continue
            epochs, values = zip(*points, strict=True)
            shown = (
                f"{label} ({values[-1]:.1%} at the end)"
                if name == "accuracy"
                else f"{label} ({values[-1]:.3g} at the end)"
            )
            axes.plot(
                epochs,
                values,
                color=color,
                label=shown,
                linewidth=1.6,
                marker=mark if len(points) <= _MARKED else "",
                markersize=3.5,
            )
        axes.set_xlabel("epoch")
        axes.set_title(name, loc="left", fontsize=11)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    if path is not None:
        save_figure(figure, os.fspath(path))
    return figure


def save_figure(figure: Any, path: str) -> None:
    """Write the picture as a whole or not at all."""
    from pyfastnn.io.atomic import atomic_write

    ending = os.path.splitext(path)[1].lstrip(".").lower() or "png"
    picture = io.BytesIO()
    figure.savefig(picture, format=ending)
    with atomic_write(path) as file:
        file.write(picture.getvalue())
