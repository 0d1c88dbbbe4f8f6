"""The picture of a learning-rate range test."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyfastnn.diagnose.rate_range import LearningRateRange


def plot_learning_rates(found: LearningRateRange, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw the loss over the learning rate, with the rate that is suggested.

    Parameters
    ----------
    found : LearningRateRange
        What `pyfastnn.diagnose.lr_find` returned.
    path : path, optional
        Where to save the picture; the file ending says the format (png, svg, pdf).

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ImportError
        If matplotlib is missing; names the extra to install.
    ValueError
        If matplotlib cannot write this format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing curves needs matplotlib: pip install pyfastnn[plot]") from error

    figure = Figure(figsize=(5.2, 3.4), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.semilogx(found.rates, found.losses, color="#999999", linewidth=0.8, label="loss of a batch")
    axes.semilogx(found.rates, found.smoothed, color="#0072B2", linewidth=1.8, label="running mean")
    finite = found.smoothed[np.isfinite(found.smoothed)]
    if finite.size:
        # The explosion would press the part that matters flat.
        low, high = float(finite.min()), float(finite[: max(1, finite.size // 2)].max())
        span = high - low or abs(high) or 1.0
        axes.set_ylim(low - 0.15 * span, high + 0.5 * span)
    if not math.isnan(found.suggestion):
        axes.axvline(found.suggestion, color="#D55E00", linewidth=1.4, label=f"steepest at {found.suggestion:.1e}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    if path is not None:
        from pyfastnn.report.curves import save_figure

        save_figure(figure, os.fspath(path))
    return figure
