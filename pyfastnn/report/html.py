"""Tables and paragraphs for notebooks and pages: whatever text comes in stands in them as text, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", kinds: Sequence[str] = ()
) -> str:
    """Return a table.

    Parameters
    ----------
    columns : sequence of str
        Its head.
    rows : iterable of sequence of str
        Its cells.
    caption : str, default ""
        What stands above it; nothing if empty.
    kinds : sequence of str, optional
        The class of each row, for style sheets.

    Returns
    -------
    str
        One HTML element; every text is escaped.

    Examples
    --------
    >>> table(["layer"], [["<b>"]])
    '<table><thead><tr><th>layer</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """

    def cells(tag: str, row: Sequence[str], kind: str = "") -> str:
        found = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        return f'<tr class="{escape(kind)}">{found}</tr>' if kind else f"<tr>{found}</tr>"

    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    given = list(rows)
    classes = kinds or [""] * len(given)
    body = "".join(cells("td", row, kind) for row, kind in zip(given, classes, strict=True))
    return f"<table>{above}<thead>{cells('th', columns)}</thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """Return an escaped text as a paragraph."""
    return f"<p>{escape(text)}</p>"
