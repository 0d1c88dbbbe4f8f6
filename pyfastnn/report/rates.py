"""The curve of a schedule of the learning rate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pyfastnn.optim.schedule import Schedule

_POINTS = 1000


def plot_schedule(
    schedule: Schedule,
    *,
    epochs: float | None = None,
    steps: float | None = None,
    rate: float = 1.0,
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Draw a schedule of the learning rate over time.

    Parameters
    ----------
    schedule : Schedule
        Of `pyfastnn.optim`. What depends on a history (`ReduceOnPlateau`) is drawn as if it always improved.
    epochs, steps : float, optional
        How far to draw, in the unit of the schedule; by default to its end and a tenth beyond, or five durations.
    rate : float, default 1
        The learning rate where the schedule has none of its own.
    path : path, optional
        Where to save the picture; the file ending says the format (png, svg, pdf).

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    TypeError
        If it is no schedule.
    ValueError
        If the schedule counts in another unit than is asked for, or matplotlib cannot write this format.
    ImportError
        If matplotlib is missing; names the extra to install.
    """
    from pyfastnn.nn.layer import number
    from pyfastnn.optim.schedule import Schedule

    if not isinstance(schedule, Schedule):
        raise TypeError(f"plot_schedule: 'schedule' is {schedule!r}, expected a schedule of pyfastnn.optim")
    unit = schedule.unit or ("steps" if steps is not None else "epochs")
    for name, value in (("epochs", epochs), ("steps", steps)):
        if value is not None and name != unit:
            raise ValueError(f"plot_schedule: {name!r} is given, but {schedule!r} counts in {unit}")
    end = epochs if epochs is not None else steps
    end = number(
        "plot_schedule", unit, _default_end(schedule) if end is None else end, 0.0, float("inf"), open_low=True
    )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing schedules needs matplotlib: pip install pyfastnn[plot]") from error
    from pyfastnn.report.curves import save_figure

    time = np.linspace(0.0, end, _POINTS)
    figure = Figure(figsize=(4.6, 3.0), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.plot(time, schedule.rates(time, time, rate), color="#0072B2", linewidth=1.6)
    axes.set_xlabel(unit)
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if path is not None:
        save_figure(figure, os.fspath(path))
    return figure


def _default_end(schedule: Schedule) -> float:
    """Return how far a schedule is drawn unless told."""
    if np.isfinite(schedule.length):
        return 1.1 * schedule.length
    duration: Any = schedule.duration
    return float(1.2 * max(duration) if isinstance(duration, list) else 5.0 * duration)
