"""Answers for unknown names: every closed set of names refuses in the same words."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["nearest", "unknown"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``.

    Parameters
    ----------
    name : str
        What was asked for. Upper and lower case count as equal.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str or None
        The best match in its own spelling; None when nothing is similar (ratio under 0.6).
    """
    import difflib

    spelled: dict[str, str] = {}
    for k in known:
        spelled.setdefault(k.lower(), k)
    found = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.6)
    return spelled[found[0]] if found else None


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Write the message for a name outside a closed set.

    Parameters
    ----------
    kind : str
        What the name stands for, such as ``"optimizer"``.
    name : object
        What was asked for, shown with ``repr``.
    known : iterable of str
        The names that exist, listed in the order given.

    Returns
    -------
    str
        One line, for the caller to raise in an exception of its choice.

    Examples
    --------
    >>> from pyfastnn._names import unknown
    >>> unknown("optimizer", "adm", ["sgd", "adam"])
    "unknown optimizer 'adm', did you mean 'adam'? known: sgd, adam"
    """
    names = list(known)
    best = nearest(name, names) if isinstance(name, str) else None
    hint = f", did you mean {best!r}?" if best is not None else ";"
    return f"unknown {kind} {name!r}{hint} known: {', '.join(names)}"
