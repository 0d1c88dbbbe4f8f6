"""Plain text tables and JSON files of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with aligned columns, the first to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : sequence of sequence of str
        Cells.
    """
    widths = [max(3, *(len(line[c]) for line in [header, *rows])) for c in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if c == 0 else text.rjust(width)
            for c, (text, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if c == 0 else "-" * (w + 1) + ":" for c, w in enumerate(widths))
    return "\n".join([line(header), f"|{rule}|", *(line(row) for row in rows)])


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write results to a file, whole or not at all.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made if needed.
    content : dict
        JSON values.
    """
    from pyfastnn.io.atomic import atomic_write

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())
