"""Answers for unknown names: every closed set of names refuses in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["helpful_keywords", "nearest", "unknown"]

P = ParamSpec("P")
R = TypeVar("R")


ELSEWHERE: dict[str, tuple[str, ...]] = {
    "adagrad": ("AdaGrad",),
    "batchnorm1d": ("BatchNorm",),
    "batchnorm2d": ("BatchNorm",),
    "batchnormalization": ("BatchNorm",),
    "bce": ("binary_cross_entropy",),
    "bceloss": ("BinaryCrossEntropy",),
    "bcewithlogitsloss": ("BinaryCrossEntropy",),
    "betas": ("beta1",),
    "concatenate": ("Concat",),
    "cross_entropy": ("softmax_cross_entropy",),
    "crossentropyloss": ("SoftmaxCrossEntropy",),
    "dense": ("Linear",),
    "l1": ("mean_absolute_error",),
    "l1loss": ("MeanAbsoluteError",),
    "l2": ("weight_decay",),
    "lr": ("learning_rate",),
    "mae": ("mean_absolute_error",),
    "mse": ("mean_squared_error",),
    "mseloss": ("MeanSquaredError",),
    "padding_mode": ("padding",),
    "rate": ("p", "learning_rate"),
    "sparse_categorical_crossentropy": ("softmax_cross_entropy",),
    "units": ("out_features",),
    "validation_data": ("X_val",),
}
"""What other libraries call things, in lower case, and the names they have here, each in one place or another."""


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
        What other libraries call so; else the best match in its own spelling: the most similar name (ratio 0.6 or more), else the first
        of these initials, else the first one that begins so; None when there is none.
    """
    import difflib

    spelled: dict[str, str] = {}
    for k in known:
        spelled.setdefault(k.lower(), k)
    meant = [k for k in ELSEWHERE.get(name.lower(), ()) if k in spelled.values()]
    if meant and name.lower() not in spelled:
        return meant[0]
    found = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.6)
    if found:
        return spelled[found[0]]
    asked = name.lower()
    short = [k for k in spelled if len(asked) > 1 and asked == "".join(part[:1] for part in k.split("_"))]
    begun = [k for k in spelled if len(asked) > 1 and k.startswith(asked)]
    return next((spelled[k] for k in [*short, *begun]), None)


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


def helpful_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function or constructor answer an unknown keyword with the nearest known one, and an argument too many with the keywords.

    Parameters
    ----------
    function : callable
        Its signature says which keywords are known. Nothing is looked up unless a call fails.

    Returns
    -------
    callable
        The same function, whose TypeError for an unknown keyword names the nearest one.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TypeError:
            import inspect

            known = inspect.signature(function).parameters
            if any(p.kind is p.VAR_KEYWORD for p in known.values()):
                raise
            strange = [k for k in kwargs if k not in known]
            places = [k for k, p in known.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            spread = any(p.kind is p.VAR_POSITIONAL for p in known.values())
            if not strange and (spread or len(args) <= len(places)):
                raise
            names = [k for k, p in known.items() if k != "self" and p.kind is not p.VAR_POSITIONAL]
            owner = function.__qualname__.removesuffix(".__init__")
            if not strange:
                raise TypeError(
                    f"{owner}: {args[len(places)]!r} is a positional argument too many; keywords: {', '.join(names)}"
                ) from None
            raise TypeError(f"{owner}: {unknown('keyword', strange[0], names)}") from None

    return called
