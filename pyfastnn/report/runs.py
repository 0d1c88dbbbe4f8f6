"""Runs read back from the folders that fits have written, finished or not."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyfastnn.diagnose.verdicts import Verdict, from_config
from pyfastnn.train.run_directory import CONFIG, HISTORY, checked_config, lines_of, read_bytes

DEEPEST = 8
"""Folders below a given one that runs are looked for in."""


@dataclass
class Run:
    """What a run folder holds.

    Attributes
    ----------
    path : Path
        The folder.
    config : dict
        What the run was made of, see `pyfastnn.train.run_directory`; ``config["params"]`` are those of a trial of a search.
    rows : list of dict
        A row an epoch, as ``history.rows``; NaN where a number was not finite.
    statistics : list of dict
        A row a watched step, as ``history.statistics``.
    verdicts : list of Verdict
        What was said about the run.
    stop_reason : str
        Why the last fit ended, as ``history.stop_reason``, or ``"failed"``; ``""`` while one runs, or if it was killed.
    error : str
        What the fit raised, ``""`` if nothing.
    running : bool
        Whether a fit is writing there now.
    """

    path: Path
    config: dict[str, Any]
    rows: list[dict[str, float]] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    stop_reason: str = ""
    error: str = ""
    running: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """What a search has drawn for this run; empty outside of searches."""
        found = self.config.get("params")
        return dict(found) if isinstance(found, Mapping) else {}

    @property
    def status(self) -> str:
        """``"running"``, ``"killed"`` (no fit is writing and none has ended), or why the last fit ended."""
        return "running" if self.running else self.stop_reason or "killed"

    def __repr__(self) -> str:
        """Show path, epochs and status."""
        return f"Run({str(self.path)!r}, {len(self.rows)} epochs, {self.status})"


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder; one that is being written, or whose process was killed, as far as it is whole.

    Parameters
    ----------
    path : path
        The folder that ``fit(run_dir=...)`` was given.

    Returns
    -------
    Run
        What is known of the run so far.

    Raises
    ------
    TypeError
        If it is no path.
    FileNotFoundError
        If there is no run in this folder.
    ValueError
        If it is damaged, or written by a later version.
    """
    folder = folder_of("read_run", path)
    data = read_bytes(folder / CONFIG) if folder.is_dir() else None
    if data is None:
        raise FileNotFoundError(f"there is no run in '{folder}': it has no {CONFIG}")
    # Asked before the lines are read: a fit that ends in between is one that has ended, or still runs, but was not killed.
    running = is_written(folder / HISTORY)
    run = Run(folder, checked_config(data, folder / CONFIG))
    for _, line in lines_of(read_bytes(folder / HISTORY), folder / HISTORY):
        _take(run, line)
    run.running = running and not run.stop_reason
    return run


def folder_of(owner: str, path: Any) -> Path:
    """Return a path.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{owner}: {path!r} is no path, expected that of a folder")
    return Path(path)


def _take(run: Run, line: dict[str, Any]) -> None:
    """Add a line of a history to a run; kinds of later versions are left out."""
    kind = line.pop("kind")
    if kind == "epoch":
        run.rows.append({name: _number(value) for name, value in line.items()})
    elif kind == "statistics":
        run.statistics.append(_numbers(line))
    elif kind == "verdict":
        known = ("text", "remedy", "step", "layer", "value")
        said = {"text": "", "remedy": "", "value": None, **{name: line[name] for name in known if name in line}}
        run.verdicts.append(from_config({"kind": line["verdict"], **said}))
    elif kind == "end":
        run.stop_reason, run.error = str(line.get("reason", "")), str(line.get("error", ""))


def _number(value: Any) -> Any:
    return math.nan if value is None else value


def _numbers(value: Any) -> Any:
    """Return what JSON holds with NaN for null, in dicts of any depth and lists in them."""
    if isinstance(value, Mapping):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return value if None not in value else [_number(item) for item in value]
    return _number(value)


def is_written(path: Path) -> bool:
    """Return whether a fit is writing a history now; where files cannot be locked, none seems to."""
    from pyfastnn.io.atomic import try_lock

    try:
        with open(path, "rb") as file:
            return not try_lock(file.fileno(), shared=True)
    except OSError:
        return False


def find_runs(*paths: str | os.PathLike[str]) -> list[Path]:
    """Return the run folders among some folders and below them, in the order of their names.

    Parameters
    ----------
    *paths : path
        Run folders, or folders that hold some. Links below them are not followed.

    Returns
    -------
    list of Path
        Each once; numbers within names count as numbers: ``trial-2`` stands before ``trial-10``.

    Raises
    ------
    TypeError
        If one of them is no path.
    FileNotFoundError
        If one of them does not exist.
    """
    found: dict[str, Path] = {}
    for path in paths:
        folder = folder_of("find_runs", path)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder '{folder}'")
        for run in sorted(_below(folder, DEEPEST), key=_natural):
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and (folder / HISTORY).is_file():
        yield folder
    if depth:
        try:
            with os.scandir(folder) as entries:
                inner = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except (PermissionError, FileNotFoundError):  # somebody may tidy up while we look
            return
        for name in inner:
            yield from _below(folder / name, depth - 1)


def _natural(path: Path) -> list[Any]:
    """Return what paths are sorted by: text and numbers in turns."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", str(path)))]
