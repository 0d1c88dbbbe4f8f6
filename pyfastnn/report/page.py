"""The page of a report: one file of HTML that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from pyfastnn import _core
from pyfastnn.report.page_data import packed
from pyfastnn.report.page_search import overview, space_of
from pyfastnn.report.runs import find_runs, folder_of, read_run
from pyfastnn.train.run_directory import CONFIG, HISTORY

SCRIPTS = (
    "page_base.js",
    "page_axes.js",
    "page_cards.js",
    "page_strips.js",
    "page_search.js",
    "page_table.js",
    "page.js",
)
"""In the order in which they need each other; together they are one function."""
EVERY = 5.0
"""Seconds between two looks at runs that are followed."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


class Report:
    """The page of some runs; those that have not changed are read once.

    Parameters
    ----------
    paths : sequence of path
        Run folders, or folders that hold some, at any time.
    title : str, optional
        What the page is called; the names of the folders by default.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], title: str | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        self.title = " ".join(str(path) for path in self.paths) if title is None else title
        self._read: dict[Path, tuple[Any, dict[str, Any], dict[str, Any]]] = {}
        self._data: dict[str, Any] = {}

    def look(self) -> bool:
        """Read what is new; return whether anything is.

        Raises
        ------
        FileNotFoundError
            If one of the folders does not exist.
        """
        folders = find_runs(*self.paths)
        names = _names(folders)
        unread, runs, spaces = [], [], []
        for folder, name in zip(folders, names, strict=True):
            try:
                found = self._packed(folder, name, len(folders))
            except (OSError, ValueError, OverflowError) as error:
                unread.append(f"{name}: {error}")
                continue
            runs.append(found[0])
            spaces.append(found[1])
        data = {"title": self.title, "runs": runs, "search": overview(runs, spaces), "unread": unread}
        changed = data != self._data
        self._data = data
        return changed

    def _packed(self, folder: Path, name: str, runs: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a run as the page has it, and its space; read again if a file or a neighbour has changed."""
        stamps = tuple((s.st_mtime_ns, s.st_size) for s in ((folder / f).stat() for f in (CONFIG, HISTORY)))
        kept = self._read.get(folder)
        # A run that seemed to be running may have been killed: no file shows that.
        if kept is not None and kept[0] == (stamps, name, runs) and kept[1]["status"] != "running":
            return kept[1], kept[2]
        run = read_run(folder)
        found = packed(run, name, runs), space_of(run)
        self._read[folder] = ((stamps, name, runs), *found)
        return found

    @property
    def unread(self) -> list[str]:
        """What could not be read at the last look, and why."""
        return list(self._data.get("unread", ()))

    @property
    def running(self) -> int:
        """How many of the runs were running at the last look."""
        return sum(run["status"] == "running" for run in self._data.get("runs", ()))

    def __len__(self) -> int:
        """Return the number of runs at the last look."""
        return len(self._data.get("runs", ()))

    def html(self, reload: float = 0.0) -> str:
        """Return the page.

        Parameters
        ----------
        reload : float
            Seconds after which it loads itself anew; 0 is never.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        data = {**self._data, "written": now, "reload": reload, "version": _core.__version__}
        style, body = _asset("page.css"), _asset("page.html")
        script = "(() => {\n'use strict';\n" + "".join(_asset(name) for name in SCRIPTS) + "})();\n"
        return _PAGE.format(
            title=html.escape(_printable(self.title)),
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
            body=body,
            data=_json(data),
        )

    def write(self, path: str | os.PathLike[str], reload: float = 0.0) -> None:
        """Write the page; whoever opens the file finds the old or the new one."""
        from pyfastnn.io.atomic import atomic_write

        page = self.html(reload).encode("ascii", "xmlcharrefreplace")  # of the title; all else is ASCII
        with atomic_write(path) as file:
            file.write(page)


def write_report(
    runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str] = "report.html",
    *,
    title: str | None = None,
) -> int:
    """Write a page about runs: their curves, their layers, and what a search over them shows.

    Parameters
    ----------
    runs : path or sequence of path
        Folders that ``fit(run_dir=...)`` has written, or folders that hold some, finished or not.
    path : path, default "report.html"
        The file: it holds all it needs, and asks nothing of a network.
    title : str, optional
        What the page is called; the names of the folders by default.

    Returns
    -------
    int
        How many runs are on it; damaged ones are named on the page and left out.

    Raises
    ------
    TypeError
        If ``runs`` are no paths.
    FileNotFoundError
        If a folder does not exist, or there is no run in any.
    OSError
        If the file cannot be written.
    """
    given: Any = [runs] if isinstance(runs, (str, os.PathLike)) or not isinstance(runs, Iterable) else runs
    paths = [folder_of("write_report", path) for path in given]
    report = Report(paths, title)
    report.look()
    if not len(report) and not report.unread:
        raise FileNotFoundError(
            f"there is no run in {', '.join(repr(str(p)) for p in paths)}: no folder has a {CONFIG}"
        )
    report.write(path)
    return len(report)


def follow(
    report: Report,
    path: str | os.PathLike[str],
    every: float = EVERY,
    said: Callable[[str], object] = lambda line: None,
) -> None:
    """Write a page anew whenever its runs have come further, until Ctrl-C; it loads itself anew meanwhile.

    Parameters
    ----------
    report : Report
        The runs; more may come.
    path : path
        The file.
    every : float, default 5
        Seconds between two looks.
    said : callable
        Is told a line now and then.
    """
    told = (-1, -1)
    try:
        while True:
            if report.look() or told == (-1, -1):
                report.write(path, every)
            now = len(report), report.running
            if now != told:
                said(f"{counted(now[0])}, {now[1]} running")
                told = now
            time.sleep(every)
    except KeyboardInterrupt:
        report.look()
        report.write(path)


def counted(runs: int) -> str:
    """Return a number of runs as text."""
    return f"{runs} run" if runs == 1 else f"{runs} runs"


def _names(folders: Sequence[Path]) -> list[str]:
    """Return what runs are called: their paths without what all have in common."""
    whole = [Path(os.path.abspath(folder)) for folder in folders]
    if len(whole) < 2:
        return [_printable(path.name or str(path)) for path in whole]
    common = os.path.commonpath(whole)
    return [_printable(path.name if str(path) == common else os.path.relpath(path, common)) for path in whole]


def _printable(text: str) -> str:
    """Return a file name with what is no text as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _asset(name: str) -> str:
    return resources.files("pyfastnn.report").joinpath(name).read_text("ascii")


def _hash(text: str) -> str:
    """Return what a content security policy knows a script by: no other one runs on the page."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """Return data as JSON that no HTML parser takes for markup."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
