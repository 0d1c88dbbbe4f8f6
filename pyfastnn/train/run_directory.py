"""The folder that a fit writes its run down in: what it was made of once, what happened after every epoch.

``config.json`` is one object, replaced as a whole: ``format``, ``begun``, ``model`` (rows of `pyfastnn.nn.summary`), ``dtype``, ``loss``,
``optimizer``, ``seed``, ``guard``, ``precision``, ``threads``, ``monitor``, ``fit`` (arguments of the last fit, and what its rows come to),
``versions``, and of a trial of a search ``params`` and the ``space`` they were drawn from.

``history.jsonl`` grows by one JSON object a line, flushed after every epoch: ``{"kind": "epoch", ...}`` is a row of ``history.rows``,
``{"kind": "statistics", ...}`` one of ``history.statistics``, ``{"kind": "verdict", "verdict": ..., ...}`` one of ``history.verdicts``;
last, when the fit has ended, ``{"kind": "end", "reason": ..., "epoch": ..., "step": ...}``. Numbers that are not finite are null. The file
is locked while a fit writes it. `pyfastnn.report.read_run` reads both.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pyfastnn import _core
from pyfastnn.nn.summary import summary_rows

if TYPE_CHECKING:
    from pyfastnn.train.trainer import Trainer

FORMAT = 1
CONFIG, HISTORY = "config.json", "history.jsonl"
_PATIENCE = 0.5
"""Seconds to wait for a lock: whoever looks whether a run is being written holds it for a moment."""


class RunDirectory:
    """A folder for a run, with what only its maker knows; ``fit(run_dir=...)`` takes it in place of a path.

    Parameters
    ----------
    path : path
        The folder; made with all that leads to it when the first fit begins.
    params : dict, optional
        What a search has drawn for this run, by name.
    space : dict, optional
        What it was drawn from, such as ``{"learning_rate": search.log_uniform(1e-5, 1e-1)}``; kept as text.

    Attributes
    ----------
    path : Path
        The folder.

    Raises
    ------
    TypeError
        If these are no path and no dicts.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        params: Mapping[str, Any] | None = None,
        space: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
            raise TypeError(f"'run_dir' is {path!r}, expected the path of a folder")
        for name, given in (("params", params), ("space", space)):
            if given is not None and not isinstance(given, Mapping):
                raise TypeError(f"RunDirectory: {name!r} is {given!r}, expected a dict")
        self.path = Path(path)
        self.params = None if params is None else dict(params)
        self.space = None if space is None else {name: str(part) for name, part in space.items()}

    def __repr__(self) -> str:
        """Show the path."""
        return f"RunDirectory({str(self.path)!r})"

    def kept(self, trainer: Trainer) -> Kept:
        """Return how much of what the folder holds the run of a trainer goes on from; nothing is written.

        Raises
        ------
        ValueError
            If the folder is none, or holds another run, or something else by these names.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"'run_dir' is '{self.path}', which is a file, expected a folder")
        config, data = self._config(), read_bytes(self.path / HISTORY)
        if config is None and data:
            raise ValueError(f"'run_dir' is '{self.path}', which has a {HISTORY} and no {CONFIG}: name another folder")
        found, epochs = Kept(), 0
        own = [_known(row) for row in trainer.history.rows]
        for end, line in lines_of(data, self.path / HISTORY):
            kind = line.pop("kind")
            if kind == "epoch":
                if not own or (epochs < len(own) and _known(line) != own[epochs]):
                    raise ValueError(
                        f"'run_dir' is '{self.path}', which holds another run: that one goes on with the trainer that made it, "
                        "or one resumed from its checkpoint; name another folder for this one"
                    )
                epochs += 1
            found.take(kind, line, end, trainer)
        return found

    def _config(self) -> dict[str, Any] | None:
        """Return what the folder says of its run; None if there is none."""
        data = read_bytes(self.path / CONFIG)
        return None if data is None else checked_config(data, self.path / CONFIG)

    @contextmanager
    def writing(self, trainer: Trainer, fit: Mapping[str, Any]) -> Iterator[RunWriter]:
        """Write down a fit: what it is made of at once, the rest when it is asked to.

        Parameters
        ----------
        trainer : Trainer
            With a built model.
        fit : dict
            Arguments of the fit.

        Yields
        ------
        RunWriter
            Its ``end`` is called unless the block raises.

        Raises
        ------
        ValueError
            As `kept`, or if another fit is writing there.
        OSError
            If a file cannot be written.
        """
        from pyfastnn.io.atomic import atomic_write
        from pyfastnn.io.plain import plain

        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / HISTORY, "ab") as file:
            if not _locked(file):
                raise ValueError(f"'run_dir' is '{self.path}', where another fit is writing: name another folder")
            kept = self.kept(trainer)
            before = self._config() if kept.epochs else None
            file.truncate(kept.size)
            with atomic_write(self.path / CONFIG) as config:
                described = plain(self._described(trainer, fit, before or {}))
                config.write(json.dumps(described, indent=1, allow_nan=False).encode() + b"\n")
            writer = RunWriter(file, trainer, kept)
            writer.write()
            try:
                yield writer
            except BaseException as error:
                with suppress(OSError):  # a full disk must not hide what went wrong first
                    writer.end("failed" if isinstance(error, Exception) else "interrupted", error)
                raise

    def _described(self, trainer: Trainer, fit: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        model = trainer.model
        params, space = (before.get(k) if v is None else v for k, v in (("params", self.params), ("space", self.space)))
        return {
            "format": FORMAT,
            "begun": before.get("begun", now()),
            "model": summary_rows(model),
            "dtype": model.dtype.name,
            "loss": {head.output: {"kind": head.loss.kind, **head.loss.config()} for head in trainer.heads},
            "loss_weights": dict(trainer.loss_weights),
            "optimizer": {"kind": trainer.optimizer.kind, **trainer.optimizer.config()},
            "seed": trainer.seed,
            "guard": trainer.guard,
            "precision": trainer.precision,
            "threads": trainer.threads,
            "monitor": None if trainer.monitor is None else trainer.monitor.config(),
            "fit": {"after_epoch": trainer.epoch, **fit},
            "params": params or {},
            "space": space or {},
            "versions": {
                "pyfastnn": _core.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "isa": _core.active_isa(),
            },
        }


@dataclass
class Kept:
    """The part of a history that a run goes on from.

    Attributes
    ----------
    size : int
        Bytes of it.
    epochs, statistics, verdicts : int
        Lines of each kind.
    """

    size: int = 0
    epochs: int = 0
    statistics: int = 0
    verdicts: int = 0
    _over: bool = False

    def take(self, kind: str, line: Mapping[str, Any], end: int, trainer: Trainer) -> None:
        """Count a line that ends at a byte, unless one before it is beyond what the trainer has come to."""
        if kind == "end" or (kind in ("epoch", "statistics") and line["epoch"] > trainer.epoch):
            self._over = True
        if kind == "verdict" and line["step"] > trainer.step_count:
            self._over = True
        if self._over:
            return
        self.size = end
        self.epochs += kind == "epoch"
        self.statistics += kind == "statistics"
        self.verdicts += kind == "verdict"


class RunWriter:
    """Appends to the history of a run what is new in that of its trainer."""

    def __init__(self, file: IO[bytes], trainer: Trainer, kept: Kept) -> None:
        self._file, self._trainer = file, trainer
        self._epochs, self._verdicts = kept.epochs, kept.verdicts
        self._left = kept.statistics  # of the next parts, written already
        self._parts = 0

    def write(self) -> None:
        """Write what has happened since the last call, and flush it."""
        self._append(self._news())

    def end(self, reason: str, error: BaseException | None = None) -> None:
        """Write what is left, and that the fit has ended."""
        trainer = self._trainer
        last: dict[str, Any] = {"kind": "end", "reason": reason, "epoch": trainer.epoch, "step": trainer.step_count}
        if error is not None:
            last["error"] = " ".join(f"{type(error).__name__}: {error}".split())
        self._append([*self._news(), {**last, "time": now()}])

    def _news(self) -> list[dict[str, Any]]:
        history = self._trainer.history
        found: list[dict[str, Any]] = []
        for part in history.statistics.parts[self._parts :]:
            skipped = min(self._left, len(part.steps))
            found += ({"kind": "statistics", **part.row(at)} for at in range(skipped, len(part.steps)))
            self._left -= skipped
            self._parts += 1
        for row in islice(history.rows, self._epochs, None):
            found.append({"kind": "epoch", **row})
        for verdict in history.verdicts[self._verdicts :]:
            said = verdict.config()
            found.append({"kind": "verdict", "verdict": said.pop("kind"), **said})
        self._epochs, self._verdicts = len(history.rows), len(history.verdicts)
        return found

    def _append(self, found: list[dict[str, Any]]) -> None:
        from pyfastnn.io.plain import plain

        if found:
            text = "".join(json.dumps(plain(line), allow_nan=False, separators=(",", ":")) + "\n" for line in found)
            self._file.write(text.encode())
            self._file.flush()


def checked_run_directory(run_dir: Any, trainer: Trainer) -> RunDirectory | None:
    """Return the folder that a fit is asked to write to, refused early if it cannot go on there.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or as `RunDirectory.kept`.
    """
    if run_dir is None:
        return None
    found = run_dir if isinstance(run_dir, RunDirectory) else RunDirectory(run_dir)
    found.kept(trainer)
    return found


def read_bytes(path: Path) -> bytes | None:
    """Return the content of a file; None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def checked_config(data: bytes, path: Path) -> dict[str, Any]:
    """Return the object in a ``config.json``.

    Raises
    ------
    ValueError
        If it is not that of a run, or of a later version.
    """
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ValueError(f"'{path}' is damaged: {error}") from None
    number = found.get("format") if isinstance(found, dict) else None
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"'{path}' is not that of a run of pyfastnn")
    if number > FORMAT:
        raise ValueError(f"'{path}' has format {number}, written by a later version; this one reads up to {FORMAT}")
    return dict(found)


def lines_of(data: bytes | None, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a history, each with the place after it.

    What is behind the last whole line is left out: the run is being written, or was killed there.

    Raises
    ------
    ValueError
        If a line before the last is damaged.
    """
    end = 0
    whole = (data or b"").split(b"\n")[:-1]
    for number, text in enumerate(whole, start=1):
        end += len(text) + 1
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and _complete(line):
            yield end, line
        elif number < len(whole):
            raise ValueError(f"'{path}', line {number}, is damaged")


def _complete(line: Mapping[str, Any]) -> bool:
    """Return whether a line has what is read of its kind; kinds of later versions have."""
    wanted = {"epoch": ("epoch",), "statistics": ("epoch", "step", "layers"), "verdict": ("verdict", "step")}
    kind = line.get("kind")
    numbers = [line.get(name) for name in wanted.get(kind, ()) if name in ("epoch", "step")] if kind else []
    return (
        isinstance(kind, str)
        and all(name in line for name in wanted.get(kind, ()))
        and all(isinstance(value, int) for value in numbers)
    )


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the finite numbers of a row: checkpoints leave the others out."""
    from pyfastnn.io.plain import plain

    return {name: value for name, value in plain(row).items() if value is not None}


def _locked(file: IO[bytes]) -> bool:
    """Lock a file for as long as it is open; false if another writer has it."""
    from pyfastnn.io.atomic import try_lock

    deadline = time.monotonic() + _PATIENCE
    while not try_lock(file.fileno()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True
