"""What a fit shows while it runs: a bar in a terminal or notebook, lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

from pyfastnn.train.history import Row, format_number

_EVERY = 0.1  # seconds between two redraws within an epoch
_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


class Progress:
    """Shows one fit.

    Parameters
    ----------
    epochs : int
        Epochs of this fit.
    steps : int
        Steps an epoch.
    verbose : int or None
        0 nothing, 1 one line per epoch, 2 the moving bar; None the bar in a terminal or notebook, else nothing.
    """

    def __init__(self, epochs: int, steps: int, verbose: int | None) -> None:
        interactive = (hasattr(sys.stderr, "isatty") and sys.stderr.isatty()) or "ipykernel" in sys.modules
        self.mode = (2 if interactive else 0) if verbose is None else verbose
        self.epochs = epochs
        self.steps = steps
        self.started = time.perf_counter()
        self._next = 0.0
        self._bar: Any = None
        self._done_epochs = 0
        self._row: Row = {}
        if self.mode == 2:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=epochs * steps, unit="step", leave=True)

    @property
    def wants_steps(self) -> bool:
        """Whether `step` should be called during epochs."""
        return self.mode == 2

    def step(self, steps_done: int) -> None:
        """Show steps of the epoch that runs."""
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + _EVERY
        total = self._done_epochs * self.steps + steps_done
        if self._bar is not None:
            self._bar.update(total - self._bar.n)
        else:
            self._line(total)

    def epoch(self, row: Row) -> None:
        """Show a finished epoch."""
        self._done_epochs += 1
        self._row = row
        if self.mode == 1:
            print(epoch_line(row), flush=True)
        elif self._bar is not None:
            self._bar.set_postfix({k: f"{row[k]:.4f}" for k in _SHOWN if k in row}, refresh=False)
            self._bar.update(self._done_epochs * self.steps - self._bar.n)
        elif self.mode == 2:
            self._line(self._done_epochs * self.steps)

    def say(self, text: str) -> None:
        """Print a message unless the fit is silent."""
        if self.mode == 0:
            return
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the line or bar."""
        if self._bar is not None:
            self._bar.close()
        elif self.mode == 2:
            print(file=sys.stderr, flush=True)

    def _line(self, total: int) -> None:
        share = total / max(1, self.epochs * self.steps)
        values = " ".join(f"{k} {self._row[k]:.4f}" for k in _SHOWN if k in self._row)
        spent = time.perf_counter() - self.started
        text = f"\r{share:4.0%} epoch {min(self._done_epochs + 1, self.epochs)}/{self.epochs} {spent:.1f} s {values}"
        print(text, end="", file=sys.stderr, flush=True)


def epoch_line(row: Row) -> str:
    """Return one epoch as a line of ``name value`` pairs."""
    parts = [f"epoch {int(row['epoch']):3d}"]
    parts += [f"{k} {format_number(k, row[k])}" for k in _SHOWN if k in row]
    if row.get("penalty"):
        parts.append(f"penalty {row['penalty']:.4f}")
    parts.append(f"{row['samples_per_second']:,.0f} samples/s")
    return "  ".join(parts)
