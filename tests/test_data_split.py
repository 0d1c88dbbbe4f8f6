"""Splitting rows into a training and a validation part."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn.data import folds, split


def rows(n, features=3):
    X = np.arange(n * features, dtype=np.float32).reshape(n, features)
    return X, np.arange(n)


@pytest.mark.parametrize(("validation", "count"), [(0.2, 2), (0.25, 3), (1, 1), (9, 9), (np.int64(4), 4), (0.94, 9)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_sizes_and_pairs(validation, count, shuffle):
    X, y = rows(10)
    Xt, Xv, yt, yv = split(X, y, validation=validation, shuffle=shuffle)
    assert len(yv) == len(Xv) == count
    assert len(yt) == len(Xt) == 10 - count
    assert sorted([*yt.tolist(), *yv.tolist()]) == list(range(10))
    np.testing.assert_array_equal(Xt, X[yt])
    np.testing.assert_array_equal(Xv, X[yv])
    if not shuffle:
        assert [*yt.tolist(), *yv.tolist()] == list(range(10))


def test_parts_are_contiguous_copies():
    X = np.zeros((10, 4, 4, 3), np.uint8)[:, ::2]
    y = np.array(["a", "b"] * 5)
    for shuffle in (True, False):
        for part in split(X, y, validation=3, shuffle=shuffle):
            assert part.flags.c_contiguous
            assert not np.shares_memory(part, X)
            assert not np.shares_memory(part, y)
    assert part.dtype == y.dtype


def test_seed_decides():
    X, y = rows(100)
    first = split(X, y, seed=5)
    for a, b in zip(first, split(X, y, seed=5), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[3], split(X, y, seed=6)[3])
    # Written down once: the rows of a seed may not change between machines or NumPy versions.
    known = [73, 95, 91, 97, 27, 94, 77, 26]
    assert split(X, y, validation=8, seed=0)[3].tolist() == known


def test_random_rows_are_spread():
    X, y = rows(1000)
    picked = np.zeros(1000)
    for seed in range(200):
        picked[split(X, y, validation=0.5, seed=seed)[3]] += 1
    # Each count is binomial(200, 1/2): mean 100, deviation 7.07; 6 deviations for 1000 rows.
    assert abs(picked.mean() - 100) < 1e-9
    assert np.abs(picked - 100).max() <= 6 * 7.08


def test_stratify_keeps_shares():
    y = np.repeat(np.array(["a", "b", "c"]), [50, 30, 20])
    X = np.arange(100.0)[:, None]
    for count in range(1, 96):
        yv = split(X, y, validation=count, stratify=y)[3]
        got = np.array([(yv == c).sum() for c in "abc"])
        exact = count * np.array([50, 30, 20]) / 100
        assert got.sum() == count
        assert (got >= np.floor(exact)).all()
        assert (got <= np.ceil(exact)).all()
        assert (got < np.array([50, 30, 20])).all()


def test_stratify_largest_remainder():
    y = np.repeat([0, 1, 2], [7, 8, 5])
    X = np.zeros((20, 1))
    # Shares of 6 rows: 2.1, 2.4, 1.5: the third class has the largest remainder.
    yv = split(X, y, validation=6, stratify=y)[3]
    assert np.bincount(yv).tolist() == [2, 2, 2]


def test_stratify_keeps_one_training_row_of_each_class():
    y = np.array([0] * 9 + [1])
    X = np.zeros((10, 1))
    for seed in range(20):
        _, _, yt, yv = split(X, y, validation=8, seed=seed, stratify=y)
        assert sorted(yt.tolist()) == [0, 1]
        assert yv.tolist() == [0] * 8
    with pytest.raises(ValueError, match="only 8 can be given"):
        split(X, y, validation=9, stratify=y)


def test_groups_stay_together():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 400)
    X, y = rows(400)
    parts = set()
    for seed in range(10):
        _, _, yt, yv = split(X, y, validation=0.25, seed=seed, groups=groups)
        assert not set(groups[yt]) & set(groups[yv])
        # No group is larger than 25 rows, so the nearest sum is within half of one.
        assert abs(len(yv) - 100) <= np.bincount(groups).max() / 2
        parts.add(tuple(sorted(set(groups[yv].tolist()))))
    assert len(parts) == 10


def test_groups_without_shuffle_takes_the_last():
    X, y = rows(6)
    _, _, yt, yv = split(X, y, validation=2, groups=[2, 2, 7, 7, 1, 1], shuffle=False)
    assert (yt.tolist(), yv.tolist()) == ([0, 1, 2, 3], [4, 5])


def test_groups_always_leave_two_parts():
    X, y = rows(10)
    _, _, yt, yv = split(X, y, validation=1, groups=[0] * 6 + [1] * 4)
    assert (len(yt), len(yv)) == (6, 4)
    _, _, yt, yv = split(X, y, validation=9, groups=[0] * 6 + [1] * 4)
    assert sorted([len(yt), len(yv)]) == [4, 6]
    with pytest.raises(ValueError, match="1 group, expected at least 2"):
        split(X, y, groups=[3] * 10)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"validation": 0}, ValueError, "expected 1 to 9 of 10"),
        ({"validation": 10}, ValueError, "expected 1 to 9 of 10"),
        ({"validation": 1.0}, ValueError, "strictly between 0 and 1"),
        ({"validation": float("nan")}, ValueError, "strictly between 0 and 1"),
        ({"validation": 0.01}, ValueError, "leaves one part empty"),
        ({"validation": True}, TypeError, "'validation' is True"),
        ({"validation": "0.2"}, TypeError, "'validation' is '0.2'"),
        ({"seed": -1}, ValueError, "'seed' is -1"),
        ({"seed": 1.5}, TypeError, "'seed' is 1.5"),
        ({"stratify": [0] * 9}, ValueError, r"'stratify' has shape \(9,\), expected \(10,\)"),
        ({"groups": np.zeros((10, 2))}, ValueError, r"'groups' has shape \(10, 2\)"),
        ({"stratify": [0] * 10, "groups": [0] * 10}, ValueError, "exclude each other"),
        ({"stratify": [0] * 10, "shuffle": False}, ValueError, "needs shuffle=True"),
    ],
)
def test_refuses(options, kind, message):
    X, y = rows(10)
    with pytest.raises(kind, match=message):
        split(X, y, **options)


def test_refuses_other_inputs():
    X, y = rows(10)
    with pytest.raises(ValueError, match="'X' has 10 rows but 'y' has 9"):
        split(X, y[:9])
    with pytest.raises(TypeError, match="'X' is list"):
        split([[1.0], [2.0]], y[:2])
    with pytest.raises(ValueError, match="single value"):
        split(np.array(1.0), y)


# Folds


def assert_folds(found, n, k):
    assert len(found) == k
    for train, validation in found:
        assert train.dtype == validation.dtype == np.int64
        assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
        assert sorted([*train.tolist(), *validation.tolist()]) == list(range(n))
    assert sorted(np.concatenate([v for _, v in found]).tolist()) == list(range(n))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("n", "k"), [(2, 2), (5, 2), (10, 10), (103, 5), (64, 7)])
def test_folds_are_even(n, k, shuffle):
    found = folds(n, k, shuffle=shuffle)
    assert_folds(found, n, k)
    sizes = [len(v) for _, v in found]
    assert max(sizes) - min(sizes) <= 1
    if not shuffle:
        assert np.concatenate([v for _, v in found]).tolist() == list(range(n))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("labels", [np.repeat([0, 1, 2], [50, 13, 7]), np.array(["b", "a"] * 20)])
def test_stratified_folds_keep_the_shares(labels, shuffle):
    found = folds(len(labels), 4, stratify=labels, shuffle=shuffle)
    assert_folds(found, len(labels), 4)
    counts = np.array([[(labels[v] == c).sum() for c in np.unique(labels)] for _, v in found])
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


@pytest.mark.parametrize("shuffle", [True, False])
def test_groups_stay_in_one_fold(shuffle):
    groups = np.random.default_rng(3).integers(0, 17, 200)
    found = folds(200, 4, groups=groups, shuffle=shuffle)
    assert_folds(found, 200, 4)
    for train, validation in found:
        assert not set(groups[train]) & set(groups[validation])
    # The last group a fold took was given when no fold had fewer rows.
    largest = np.bincount(groups).max()
    assert np.ptp([len(v) for _, v in found]) <= largest


def test_seed_decides_folds():
    def flat(**settings):
        return np.concatenate([v for _, v in folds(100, 4, **settings)]).tolist()

    assert flat(seed=5) == flat(seed=5) != flat(seed=6)
    labels = np.arange(100) % 3
    assert flat(seed=5, stratify=labels) == flat(seed=5, stratify=labels) != flat(seed=6, stratify=labels)
    assert flat(seed=5, groups=np.arange(100) // 2) != flat(seed=6, groups=np.arange(100) // 2)
    # Written down once: the rows of a seed may not change between machines or NumPy versions.
    assert folds(20, 4, seed=0)[0][1].tolist() == [2, 3, 11, 13, 15]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"n": 1}, ValueError, "'k' is 5 for 1 rows"),
        ({"n": 10, "k": 1}, ValueError, "'k' is 1 for 10 rows, expected 2 folds or more"),
        ({"n": 10, "k": 11}, ValueError, "'k' is 11 for 10 rows"),
        ({"n": 10, "k": 2.0}, TypeError, "folds: 'k' is 2.0, expected a whole number"),
        ({"n": np.zeros(10)}, TypeError, "folds: 'n' is"),
        ({"n": 10, "seed": -1}, ValueError, "folds: 'seed' is -1"),
        ({"n": 10, "seed": True}, TypeError, "folds: 'seed' is True"),
        ({"n": 10, "stratify": np.zeros(9)}, ValueError, r"folds: 'stratify' has shape \(9,\), expected \(10,\)"),
        (
            {"n": 10, "stratify": ["a"] * 8 + ["b"] * 2},
            ValueError,
            "'stratify' has 2 rows of 'b', expected at least one for each of 5",
        ),
        (
            {"n": 10, "groups": np.arange(10) // 3},
            ValueError,
            "'groups' has 4 groups, expected at least one for each of 5 folds",
        ),
        ({"n": 10, "groups": np.arange(10), "stratify": np.arange(10)}, ValueError, "exclude each other"),
    ],
)
def test_folds_refuse(arguments, kind, message):
    with pytest.raises(kind, match=message):
        folds(**arguments)
