"""Preprocessing: what is learned, applied, undone and saved."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pyfastnn.data import Center, MaxAbs, Rescale, Standardize, load_digits, preprocessing
from pyfastnn.data.errors import CHUNK_ELEMENTS

ALL = [
    Standardize(),
    Standardize(per="channel"),
    Standardize(per="all"),
    Standardize(with_mean=False),
    Standardize(per="channel", with_mean=False),
    MaxAbs(),
    MaxAbs(per="all"),
    Center(),
    Center(per="channel"),
    Center(per="all"),
    Rescale(),
    Rescale(low=-1, high=16),
]
IDS = [repr(p) for p in ALL]
UNIT = 2.0**-53


def fresh(p):
    return preprocessing.from_config(p.to_config(), None)


def images(dtype, n=40):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 256, (n, 4, 5, 3)) * np.array([1.0, 0.5, 0.1])
    return X.astype(dtype)


AXES = {"feature": 0, "channel": (0, 1, 2), "all": None}


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("per", list(AXES))
def test_statistics(per, dtype):
    X = images(dtype)
    exact = X.astype(np.longdouble)
    mean = exact.mean(axis=AXES[per], keepdims=True)
    variance = ((exact - mean) ** 2).mean(axis=AXES[per], keepdims=True)
    p = Standardize(per=per).fit(X)
    whole = (1, *X.shape[1:])
    # Sums of m terms in float64: relative error at most m units, for mean and variance alike.
    terms = X.size / mean.size
    bound = terms * UNIT * 256
    assert np.abs(p.shift_ - np.broadcast_to(mean, whole).ravel()).max() <= bound
    ratio = p.scale_ * np.sqrt(np.broadcast_to(variance, whole).ravel())
    assert np.abs(ratio - 1).max() <= terms * UNIT * 4
    assert p.shift_.shape == p.scale_.shape == (60,)
    assert p.shift_.dtype == p.scale_.dtype == np.float64
    c = Center(per=per).fit(X)
    np.testing.assert_array_equal(c.shift_, p.shift_)
    assert (c.scale_ == 1).all()


@pytest.mark.parametrize("per", list(AXES))
def test_chunks_change_nothing_but_rounding(per, monkeypatch):
    X = images("float64", 101) + 1e6
    whole = Standardize(per=per).fit(X)
    monkeypatch.setattr(preprocessing.base, "CHUNK_ELEMENTS", 7 * 60)
    pieces = Standardize(per=per).fit(X)
    bound = X.size * UNIT * 4
    np.testing.assert_allclose(pieces.shift_, whole.shift_, rtol=bound, atol=0)
    np.testing.assert_allclose(pieces.scale_, whole.scale_, rtol=bound, atol=0)
    np.testing.assert_array_equal(pieces.transform(X), pieces.transform(X.copy()))


def test_large_input_is_read_in_chunks():
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    X = np.zeros((6000, 5000), np.uint8)
    X[::3] = 200
    tracemalloc.start()
    try:
        p = Standardize().fit(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 8 * CHUNK_ELEMENTS < X.size * 8 / 4
    np.testing.assert_allclose(p.shift_, 200 / 3, rtol=1e-12)


@pytest.mark.parametrize("p", ALL, ids=IDS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_transform_and_back(p, dtype):
    X = images(dtype)
    p = fresh(p).fit(X)
    x = X.reshape(len(X), -1).astype(np.float64)
    expected = ((x - p.shift_) * p.scale_).reshape(X.shape)
    for out in ("float32", "float64"):
        Z = p.transform(X, dtype=out)
        assert Z.dtype == out
        assert Z.flags.c_contiguous
        np.testing.assert_array_equal(Z, expected.astype(out))
        back = p.inverse_transform(Z)
        assert back.dtype == out
        # Undoing adds one rounding each of z, of the quotient and of the sum.
        unit = np.finfo(out).eps
        assert np.abs(back - X).max() <= 4 * unit * (256 + np.abs(p.shift_).max() * 2)


def test_standardized_digits():
    X, _ = load_digits()
    Z = Standardize().fit(X).transform(X, dtype=np.float64)
    constant = X.min(axis=0) == X.max(axis=0)
    assert constant.any()
    assert (Z[:, constant] == 0).all()
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z[:, ~constant].std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e20, -3.7e-30, 0.0])
@pytest.mark.parametrize("per", list(AXES))
def test_constant_features(value, per):
    X = np.full((1000, 3), value)
    p = Standardize(per=per).fit(X)
    assert (p.shift_ == value).all()
    assert (p.scale_ == 1).all()
    assert (p.transform(X) == 0).all()


def test_far_from_zero():
    X = 1e8 + np.random.default_rng(0).standard_normal((5000, 2))
    p = Standardize().fit(X)
    np.testing.assert_allclose(p.scale_, 1 / X.std(axis=0), rtol=1e-10)


def test_one_dimensional_targets():
    y = np.array([1.0, 2.0, 6.0])
    for per in AXES:
        p = Standardize(per=per).fit(y)
        assert p.shift_.tolist() == [3.0]
        assert p.transform(y, dtype=np.float64).shape == (3,)
        np.testing.assert_allclose(p.inverse_transform(p.transform(y)), y, rtol=1e-6)
    assert (Standardize().fit(y[:1]).transform(y[:1]) == 0).all()


def test_other_layouts_and_empty_batches():
    X = images("float32")
    p = Standardize().fit(X)
    strided = np.asfortranarray(X)[::2]
    np.testing.assert_array_equal(p.transform(strided), p.transform(X[::2].copy()))
    np.testing.assert_array_equal(Standardize().fit(np.asfortranarray(X)).shift_, p.shift_)
    assert p.transform(X[:0]).shape == (0, 4, 5, 3)
    flat = p.transform(X.reshape(40, 60))
    np.testing.assert_array_equal(flat, p.transform(X).reshape(40, 60))
    X.flags.writeable = False
    Standardize().fit(X).transform(X)
    assert np.isnan(p.transform(np.full((1, 4, 5, 3), np.nan, np.float32))).all()


def test_rescale():
    X = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(Rescale().fit(X).transform(X), [[0, 0.2, 1]], rtol=2**-23)
    p = Rescale(low=-1.0, high=3.0).fit(X)
    np.testing.assert_array_equal(p.transform(np.array([[-1.0, 1.0, 3.0]])), [[0, 0.5, 1]])


def test_without_the_mean_zeros_stay_zeros():
    X = images("float64")
    X[::3] = 0
    for per in AXES:
        p, with_mean = Standardize(per=per, with_mean=False).fit(X), Standardize(per=per).fit(X)
        np.testing.assert_array_equal(p.scale_, with_mean.scale_)
        assert (p.shift_ == 0).all()
        assert (p.transform(X)[::3] == 0).all()
    assert [q.keeps_zeros for q in ALL] == [
        not p.shift_.any() for p in (fresh(q).fit(images("float64") + 1) for q in ALL)
    ]


def test_the_largest_value_becomes_one():
    X = images("float64") - 100
    for per, axes in AXES.items():
        p = MaxAbs(per=per).fit(X)
        largest = np.broadcast_to(np.abs(X).max(axis=axes, keepdims=True), (1, *X.shape[1:])).ravel()
        np.testing.assert_array_equal(p.scale_, 1 / largest)
    assert MaxAbs().fit(np.array([[0, 3], [0, 200]], np.uint8)).scale_.tolist() == [1.0, 1 / 200]


def test_files_of_earlier_versions_subtract_the_mean():
    old = preprocessing.from_config({"name": "standardize", "per": "all"}, GOOD)
    assert old.with_mean
    assert repr(old) == "Standardize(per='all', with_mean=True)"


@pytest.mark.parametrize("p", ALL, ids=IDS)
def test_config_round_trip(p):
    X = images("uint8")
    p = fresh(p).fit(X)
    config = json.loads(json.dumps(p.to_config()))
    state = p.state()
    q = preprocessing.from_config(config, state)
    assert type(q) is type(p)
    assert q.to_config() == p.to_config()
    assert repr(q) == repr(p)
    np.testing.assert_array_equal(q.transform(X), p.transform(X))
    state["shift"][0] = 99
    assert q.shift_[0] != 99
    assert p.shift_[0] != 99


GOOD = {"shift": np.zeros(3), "scale": np.ones(3)}


@pytest.mark.parametrize(
    ("config", "state", "kind", "message"),
    [
        ({"name": "standardise", "per": "all"}, GOOD, ValueError, "did you mean 'standardize'"),
        ({}, GOOD, ValueError, "unknown preprocessing None"),
        ({"name": ["x"]}, GOOD, ValueError, "unknown preprocessing"),
        ({"name": "center", "per": "al"}, GOOD, ValueError, "unknown per 'al', did you mean 'all'"),
        ({"name": "center", "per": 3}, GOOD, TypeError, "'per' is 3"),
        ({"name": "center"}, GOOD, ValueError, "missing setting 'per'"),
        ({"name": "center", "per": "all", "x": 1}, GOOD, ValueError, "unknown setting of center"),
        ({"name": "rescale", "low": 1, "high": 1}, GOOD, ValueError, "low < high"),
        ({"name": "rescale", "low": "0", "high": 1}, GOOD, TypeError, "'low' is '0'"),
        ({"name": "rescale", "low": 0.0, "high": np.inf}, GOOD, ValueError, "finite"),
        ({"name": "center", "per": "all"}, {"shift": np.zeros(3)}, ValueError, "expected scale"),
        (
            {"name": "center", "per": "all"},
            {"shift": np.zeros(3), "scale": np.ones(2)},
            ValueError,
            r"'scale' has shape \(2,\)",
        ),
        (
            {"name": "center", "per": "all"},
            {"shift": np.zeros(3), "scale": np.zeros(3)},
            ValueError,
            "'scale' must be finite",
        ),
        (
            {"name": "center", "per": "all"},
            {"shift": np.zeros(3, np.float32), "scale": np.ones(3)},
            TypeError,
            "'shift' is not a float64",
        ),
    ],
)
def test_config_refuses(config, state, kind, message):
    with pytest.raises(kind, match=message):
        preprocessing.from_config(config, state)


def test_bad_input():
    X = np.zeros((4, 3))
    X[1, 2] = np.nan
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="'X' has 2 NaN or infinite values in column 2"):
        Standardize().fit(X)
    X[0, 1] = -np.inf
    with pytest.raises(ValueError, match=r"1 NaN .* in column 1 \(3 in 2 columns\)"):
        Rescale().fit(X.astype(np.float32))
    with pytest.raises(TypeError, match="dtype int64, expected float32, float64, uint8"):
        Center().fit(np.zeros((4, 3), np.int64))
    with pytest.raises(TypeError, match="'X' is list"):
        Center().fit([[1.0]])
    with pytest.raises(ValueError, match="empty"):
        Center().fit(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="single value"):
        Center().fit(np.array(1.0))
    with pytest.raises(ValueError, match="too large"):
        Standardize().fit(np.array([[1e300], [-1e300]]))
    with pytest.raises(RuntimeError, match="Standardize: call fit"):
        Standardize().transform(np.zeros((4, 3)))
    with pytest.raises(RuntimeError, match="call fit"):
        Standardize().state()
    p = Center().fit(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"shape \(4, 2\), which is 2 values a row; expected 3"):
        p.transform(np.zeros((4, 2)))
    with pytest.raises(TypeError, match="'dtype' is int64"):
        p.transform(np.zeros((4, 3)), dtype=np.int64)
    with pytest.raises(TypeError, match="'Z' has dtype uint8"):
        p.inverse_transform(np.zeros((4, 3), np.uint8))
    with pytest.raises(ValueError, match="did you mean 'feature'"):
        Standardize(per="features")
    with pytest.raises(TypeError, match="'with_mean' is 1"):
        Standardize(with_mean=1)
    with pytest.raises(TypeError, match="'high' is True"):
        Rescale(high=True)
