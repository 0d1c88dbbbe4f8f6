"""What a training run recorded, one row an epoch."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfastnn._names import unknown
from pyfastnn.diagnose.statistics import Statistics

if TYPE_CHECKING:
    from pyfastnn.diagnose.verdicts import Verdict

Row = dict[str, float]

COLUMNS = (
    "epoch",
    "loss",
    "penalty",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "samples_per_second",
)
"""Columns in the order they are shown; a run has those that apply to it."""

SHOWN = 5
"""Rows that a notebook shows under the curves."""


def column_order(column: str) -> tuple[int, str]:
    """Return what columns are sorted by: those of one output (``"loss.policy"``) stand after those of all."""
    kind, _, output = column.partition(".")
    return (COLUMNS.index(kind) if kind in COLUMNS else len(COLUMNS)), output


class History:
    """Rows of numbers, one an epoch.

    ``history["loss"]`` is a column, ``history.rows`` all rows; printing it shows a table.

    Attributes
    ----------
    rows : list of dict
        ``epoch`` (counted from 1), ``loss`` (mean of the data loss over the rows of the epoch, while training), ``penalty`` (of the
        weights after the epoch), ``accuracy`` (over the rows of the epoch, while training), ``val_loss``, ``val_accuracy``,
        ``learning_rate``, ``seconds`` (of training, validation not counted) and ``samples_per_second``.
    stop_reason : str
        Why the last fit ended: ``"finished"``, ``"interrupted"``, ``"nonfinite"``, ``"limit"``, ``"max_steps"``,
        ``"max_seconds"`` or ``"callback"``.
    statistics : Statistics
        A row for every watched step (`pyfastnn.diagnose.Monitor`): how far updates moved weights, gradients, activations.
    verdicts : list of Verdict
        What was said about the run, in words, each once.
    """

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows: list[Row] = rows if rows is not None else []
        self.stop_reason = ""
        self.statistics = Statistics()
        self.verdicts: list[Verdict] = []

    @property
    def columns(self) -> list[str]:
        """Names of the columns this run has."""
        return sorted({c for row in self.rows for c in row}, key=column_order)

    def __getitem__(self, column: str) -> list[float]:
        """Return one column; epochs without the value are left out.

        Raises
        ------
        KeyError
            If no row has the column.
        """
        if column not in self.columns:
            raise KeyError(unknown("column", column, self.columns or COLUMNS))
        return [row[column] for row in self.rows if column in row]

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        """Go through the rows."""
        return iter(self.rows)

    def __repr__(self) -> str:
        """Show a table."""
        if not self.rows:
            return "History(no epochs yet)"
        columns = self.columns
        table = [columns] + [[format_number(c, row.get(c)) for c in columns] for row in self.rows]
        widths = [max(len(r[i]) for r in table) for i in range(len(columns))]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in table)

    def _repr_html_(self) -> str:
        """Show curves and the last rows in a notebook."""
        from pyfastnn.report.html import paragraph, table
        from pyfastnn.report.small_curves import small_curves

        if not self.rows:
            return paragraph(repr(self))
        columns, last = self.columns, self.rows[-SHOWN:]
        cells = [[format_number(c, row.get(c)) for c in columns] for row in last]
        caption = f"{len(self)} epochs" if len(self) > 1 else "1 epoch"
        caption += f" ({self.stop_reason})" if self.stop_reason else ""
        caption += f", the last {len(last)}:" if len(last) < len(self) else ""
        return f"<div>{small_curves(self)}{table(columns, cells, caption=caption)}</div>"

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV with a header, numbers in full precision."""
        from pyfastnn.io.atomic import atomic_write

        with atomic_write(path) as file:
            import io

            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            file.write(text.getvalue().encode())

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw loss and accuracy over the epochs.

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
        """
        from pyfastnn.report.curves import plot_history

        return plot_history(self, path)


def format_number(column: str, value: float | None) -> str:
    """Return a number as the table shows it."""
    if value is None:
        return "-"
    if column == "epoch":
        return str(int(value))
    if column.endswith("accuracy"):
        return f"{value:.4f}"
    if column == "samples_per_second":
        return f"{value:,.0f}"
    if column == "seconds":
        return f"{value:.3f}"
    if column == "learning_rate":
        return f"{value:.3g}"
    return f"{value:.6f}"
