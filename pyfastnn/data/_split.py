"""Split rows into a training and a validation part, once or in folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["folds", "split"]

Array = npt.NDArray[Any]


def split(
    X: Array,
    y: Array,
    *,
    validation: float = 0.2,
    seed: int = 0,
    stratify: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    shuffle: bool = True,
) -> tuple[Array, Array, Array, Array]:
    """Split rows into a training and a validation part.

    Parameters
    ----------
    X : ndarray, shape (n, ...)
        Features, any dtype.
    y : ndarray, shape (n, ...)
        Targets or labels, any dtype.
    validation : int or float, default 0.2
        Validation rows: an int is a count in 1..n-1, a float a fraction strictly between 0 and 1
        (``floor(fraction * n + 0.5)`` rows).
    seed : int, default 0
        Non-negative. The same seed and sizes give the same rows on every machine.
    stratify : array_like, shape (n,), optional
        Labels whose shares are kept in both parts: each class gives ``count * n_c / n`` rows,
        rounded by largest remainders. Every class keeps at least one training row.
    groups : array_like, shape (n,), optional
        Rows with the same value stay in one part. Whole groups are taken where that brings the
        number of validation rows nearer to the one asked for, so it may differ.
    shuffle : bool, default True
        Draw the rows at random and return them in random order. If False, the last rows (with
        ``groups``: the groups that end last) are the validation part and order is kept.

    Returns
    -------
    Xt, Xv : ndarray
        Training and validation features: C-contiguous copies with the dtype of ``X``.
    yt, yv : ndarray
        Training and validation targets: C-contiguous copies with the dtype of ``y``.

    Raises
    ------
    TypeError
        If ``X`` or ``y`` is not an ndarray, or ``validation`` or ``seed`` is not a number of the
        right kind.
    ValueError
        If lengths disagree, a part would be empty, or the options exclude each other.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.data import split
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> Xt, Xv, yt, yv = split(X, y, validation=2, shuffle=False)
    >>> yv
    array([3, 4])
    """
    for name, array in (("X", X), ("y", y)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"split: {name!r} is {type(array).__name__}, expected a NumPy array")
        if array.ndim == 0:
            raise ValueError(f"split: {name!r} has no rows: it is a single value")
    n = X.shape[0]
    if y.shape[0] != n:
        raise ValueError(f"split: 'X' has {n} rows but 'y' has {y.shape[0]}")
    count = _count(validation, n)
    _check_seed("split", seed)
    if stratify is not None and groups is not None:
        raise ValueError("split: 'stratify' and 'groups' exclude each other, pass one")
    if stratify is not None and not shuffle:
        raise ValueError("split: 'stratify' needs shuffle=True")

    # Sorting raw random words keeps the promise about machines and NumPy versions:
    # the bit stream is fixed by NumPy, the methods of Generator are not.
    bits = np.random.PCG64(int(seed))
    order = np.argsort(bits.random_raw(n), kind="stable") if shuffle else np.arange(n)
    if stratify is not None:
        chosen = _stratified(_codes("split", "stratify", stratify, n)[0], order, count)
    elif groups is not None:
        codes, sizes = _codes("split", "groups", groups, n)
        if shuffle:
            by_group = np.argsort(bits.random_raw(sizes.size), kind="stable")
        else:
            _, from_end = np.unique(codes[::-1], return_index=True)
            by_group = np.argsort(from_end, kind="stable")
        chosen = _grouped(codes, sizes, by_group, count)
    else:
        chosen = np.zeros(n, bool)
        chosen[order[n - count :]] = True
    picked = chosen[order]
    train, held = order[~picked], order[picked]
    return X.take(train, 0), X.take(held, 0), y.take(train, 0), y.take(held, 0)


def _count(validation: float, n: int) -> int:
    """Turn a count or fraction into a number of rows in 1..n-1."""
    if isinstance(validation, (bool, np.bool_)) or not isinstance(validation, (int, float, np.integer, np.floating)):
        raise TypeError(f"split: 'validation' is {validation!r}, expected an int or a float")
    if isinstance(validation, (int, np.integer)):
        if not 1 <= validation <= n - 1:
            raise ValueError(
                f"split: 'validation' is {validation} rows, expected 1 to {n - 1} of {n} "
                "(for a share write a float such as 0.2)"
            )
        return int(validation)
    if not 0.0 < validation < 1.0:
        raise ValueError(
            f"split: 'validation' is {validation}, expected a fraction strictly between 0 and 1 "
            "or a whole number of rows"
        )
    count = int(np.floor(validation * n + 0.5))
    if not 1 <= count <= n - 1:
        raise ValueError(f"split: 'validation' is {validation} of {n} rows, which leaves one part empty")
    return count


def folds(
    n: int,
    k: int = 5,
    *,
    seed: int = 0,
    stratify: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    shuffle: bool = True,
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Divide rows into folds for cross-validation: every row is a validation row of one fold and a training row of all others.

    Parameters
    ----------
    n : int
        Number of rows, at least 2.
    k : int, default 5
        Number of folds, from 2 to ``n``. Their sizes differ by 1 at most (not with ``groups``).
    seed : int, default 0
        Non-negative. The same seed and sizes give the same folds on every machine.
    stratify : array_like, shape (n,), optional
        Labels whose shares are kept: the rows of a class in two folds differ by 1 at most. Every class needs ``k`` rows.
    groups : array_like, shape (n,), optional
        Rows with the same value stay in one fold. The groups, largest first, go each to the fold with the fewest rows so far.
    shuffle : bool, default True
        Deal the rows (with ``groups``: groups of one size) out at random. If False, folds are neighbouring rows; with ``stratify`` the
        rows of a class go round the folds in their order, with ``groups`` groups of one size go in the order of their first rows.

    Returns
    -------
    list of (train, validation)
        Row numbers as int64, ascending, for ``Trainer.fit(X, y, rows=train)`` and ``trainer.evaluate(X[validation], y[validation])``.

    Raises
    ------
    TypeError
        If a number is not of the right kind.
    ValueError
        If a number is out of range, a class has fewer than ``k`` rows or there are fewer than ``k`` groups, or the options exclude each
        other.

    Examples
    --------
    >>> from pyfastnn.data import folds
    >>> for train, validation in folds(5, k=2, shuffle=False):
    ...     print(train, validation)
    [3 4] [0 1 2]
    [0 1 2] [3 4]
    """
    for name, value in (("n", n), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"folds: {name!r} is {value!r}, expected a whole number")
    if n < 2 or not 2 <= k <= n:
        raise ValueError(f"folds: 'k' is {k} for {n} rows, expected 2 folds or more and at least as many rows")
    _check_seed("folds", seed)
    if stratify is not None and groups is not None:
        raise ValueError("folds: 'stratify' and 'groups' exclude each other, pass one")
    bits = np.random.PCG64(int(seed))
    order = np.argsort(bits.random_raw(n), kind="stable") if shuffle else np.arange(n)
    fold = np.empty(n, np.int64)
    if stratify is not None:
        codes, sizes = _codes("folds", "stratify", stratify, n)
        if sizes.min() < k:
            rare = np.unique(np.asarray(stratify).reshape(-1))[sizes.argmin()]
            raise ValueError(
                f"folds: 'stratify' has {sizes.min()} rows of {rare.item()!r}, expected at least one for each of {k} folds"
            )
        # Dealt out class by class without starting again, so that the sizes of the folds stay even too.
        fold[order[np.argsort(codes[order], kind="stable")]] = np.arange(n) % k
    elif groups is not None:
        codes, sizes = _codes("folds", "groups", groups, n)
        if sizes.size < k:
            raise ValueError(f"folds: 'groups' has {sizes.size} groups, expected at least one for each of {k} folds")
        _, seen = np.unique(codes[order], return_index=True)
        by_size = np.lexsort((seen, -sizes))
        rows_of = np.zeros(k, np.int64)
        target = np.empty(sizes.size, np.int64)
        for group in by_size.tolist():
            target[group] = rows_of.argmin()
            rows_of[target[group]] += sizes[group]
        fold = target[codes]
    else:
        fold[order] = np.arange(n) * k // n
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _check_seed(who: str, seed: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"{who}: 'seed' is {seed!r}, expected a non-negative int")
    if seed < 0:
        raise ValueError(f"{who}: 'seed' is {seed}, expected a non-negative int")


def _codes(who: str, name: str, labels: npt.ArrayLike, n: int) -> tuple[Array, Array]:
    """Return the class number of each row and the size of each class."""
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise ValueError(f"{who}: {name!r} has shape {labels.shape}, expected ({n},)")
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return codes.reshape(-1), sizes


def _stratified(codes: Array, order: Array, count: int) -> npt.NDArray[np.bool_]:
    """Mark validation rows so that every class gives its share."""
    n = codes.size
    sizes = np.bincount(codes)
    room = sizes - 1
    if count > int(room.sum()):
        raise ValueError(
            f"split: {count} validation rows asked for, but only {int(room.sum())} can be given "
            f"while each of the {sizes.size} classes keeps one training row"
        )
    # Integer arithmetic: shares and remainders are exact, ties go to the lower class number.
    quota, remainder = np.divmod(count * sizes.astype(np.int64), n)
    take = np.minimum(quota, room)
    ranking = sorted(range(sizes.size), key=lambda c: (-remainder[c], c))
    while (left := count - int(take.sum())) > 0:
        open_classes = [c for c in ranking if take[c] < room[c]][:left]
        take[open_classes] += 1
    by_class = order[np.argsort(codes[order], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    chosen = np.zeros(n, bool)
    for start, k in zip(starts.tolist(), take.tolist(), strict=True):
        chosen[by_class[start : start + k]] = True
    return chosen


def _grouped(codes: Array, sizes: Array, order: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.bool_]:
    """Mark validation rows as whole groups, tried in the given order of groups."""
    if sizes.size < 2:
        raise ValueError(f"split: 'groups' has {sizes.size} group, expected at least 2")
    taken: list[int] = []
    total = 0
    for group in order.tolist():
        if len(taken) == sizes.size - 1 or total >= count:
            break
        if abs(total + int(sizes[group]) - count) < abs(total - count):
            taken.append(group)
            total += int(sizes[group])
    if not taken:
        taken.append(int(np.argmin(sizes)))
    chosen: npt.NDArray[np.bool_] = np.isin(codes, taken)
    return chosen
