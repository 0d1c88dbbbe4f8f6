"""Predictors: the bits of the model, whatever thread asks."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim

RNG = np.random.default_rng(6)


def model_of(dtype: str = "float32") -> nn.Sequential:
    layers = nn.Flatten(), nn.Linear(19), nn.BatchNorm(), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7)
    model = nn.Sequential(*layers, preprocess=fnn.data.Standardize(), dtype=dtype)
    fnn.Trainer(model).fit(RNG.integers(0, 256, (90, 3, 4)).astype(np.uint8), np.arange(90) % 7, epochs=2, verbose=0)
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["u1", "f4", "f8", "i2", ">f4"])
def test_scores_have_the_bits_of_the_model(dtype, kind):
    model = model_of(dtype)
    X = RNG.integers(0, 256, (9, 3, 4)).astype(kind)
    for max_batch, threads in ((1, 1), (4, 1), (9, 2)):
        p = model.predictor(max_batch=max_batch, threads=threads)
        for n in range(1, max_batch + 1):
            want = model(X[:n])
            for rows in (X[:n], X[:n].reshape(n, 12), X[:n].tolist(), X[::-1][::-1][:n]):
                got = p(rows)
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                assert np.array_equal(got, model(np.asarray(rows)))
            out = np.empty_like(want)
            assert p(X[:n], out) is out
            assert out.tobytes() == want.tobytes()
    assert p(X[:0]).shape == (0, 7)


def test_training_on_and_building_anew_are_seen():
    model = model_of()
    X = RNG.integers(0, 256, (1, 3, 4)).astype(np.uint8)
    p = model.predictor()
    first = p(X)
    fnn.Trainer(model, optimizer=optim.SGD(0.1)).step(np.repeat(X, 5, axis=0), np.arange(5))
    assert p(X).tobytes() == model(X).tobytes() != first.tobytes()
    model.build((3, 4), seed=3)
    assert p(X).tobytes() == model(X).tobytes()


def test_misuse_is_named():
    model = model_of()
    p = model.predictor(max_batch=2)
    x = np.zeros((1, 12), np.float32)
    frozen = np.zeros((1, 7), np.float32)
    frozen.flags.writeable = False
    cases = (
        (ValueError, "3 rows, expected at most max_batch = 2", np.zeros((3, 12), np.float32), None),
        (ValueError, "'x' has shape", np.zeros((1, 11), np.float32), None),
        (ValueError, "'x' has shape", np.zeros(12, np.float32), None),
        (TypeError, "numbers", np.array([["a"] * 12]), None),
        (TypeError, "masked", np.ma.masked_array(x), None),
        (TypeError, "'out' is a list", x, [0]),
        (TypeError, "'out' has dtype float64", x, np.zeros((1, 7))),
        (ValueError, r"'out' has shape \(7,\), expected \(1, 7\)", x, np.zeros(7, np.float32)),
        (ValueError, "read-only", x, frozen),
        (ValueError, "overlap", x, x.reshape(-1)[:7].reshape(1, 7)),
        (ValueError, "overlap", x, model.arrays()["linear_1.w"].reshape(-1)[:7].reshape(1, 7)),
    )
    for error, words, rows, out in cases:
        with pytest.raises(error, match=words):
            p(rows, out)
    for name, settings in (("max_batch", {"max_batch": 0}), ("threads", {"threads": -1})):
        with pytest.raises(ValueError, match=name):
            model.predictor(**settings)
    with pytest.raises(RuntimeError, match="build"):
        nn.Sequential(nn.Linear(2)).predictor()


def test_threads_with_a_predictor_each():
    model = model_of()
    X = RNG.integers(0, 256, (40, 3, 4)).astype(np.uint8)
    want = model(X)
    wrong: list[int] = []

    def ask(first: int) -> None:
        p = model.predictor()
        for k in range(2000):
            row = (first + k) % len(X)
            if p(X[row : row + 1]).tobytes() != want[row].tobytes():
                wrong.append(row)

    threads = [threading.Thread(target=ask, args=(5 * k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_predictor_entered_twice_says_so():
    model = nn.Sequential(nn.Linear(2000), nn.Linear(2000), nn.Linear(3)).build((2000,))
    p = model.predictor(max_batch=64)
    X = np.zeros((64, 2000), np.float32)
    errors: list[str] = []

    def ask() -> None:
        for _ in range(20):
            try:
                p(X)
            except RuntimeError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors
    assert "give each thread its own" in errors[0]
    assert p(X).tobytes() == model(X).tobytes()
