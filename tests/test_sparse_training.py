"""Sparse matrices as rows: what they give is what their dense rows give, bit for bit."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn._inputs import Csr, as_csr
from pyfastnn.nn.initializers import lsuv
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("sparse training")
N, FEATURES = 157, 40
DENSE = np.where(RNG.random((N, FEATURES)) < 0.15, RNG.standard_normal((N, FEATURES)), 0.0).astype(np.float32)
DENSE[[5, 80]] = 0
Y = (DENSE[:, :20].sum(axis=1) > DENSE[:, 20:].sum(axis=1)).astype(int)

try:
    import scipy.sparse as sp
except ImportError:
    sp = None

needs_scipy = pytest.mark.skipif(sp is None, reason="SciPy is not installed")


class Compressed:
    """What a CSR matrix of SciPy looks like, without SciPy."""

    __module__ = "scipy.sparse._csr"
    ndim = 2

    def __init__(self, dense: np.ndarray) -> None:
        rows, self.indices = np.nonzero(dense)
        self.data = dense[rows, self.indices]
        self.indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))]).astype(np.int32)
        self.shape, self.dtype = dense.shape, dense.dtype

    def tocsr(self) -> Compressed:
        return self

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("the matrix was densified")

    toarray = todense = __array__


def kinds() -> dict:
    found = {"stand-in": Compressed}
    if sp is not None:
        for name in ("csr", "csc", "coo"):
            found[f"{name}_matrix"] = getattr(sp, f"{name}_matrix")
            found[f"{name}_array"] = getattr(sp, f"{name}_array")
    return found


KINDS = ["stand-in"] + [f"{f}_{k}" for f in ("csr", "csc", "coo") for k in ("matrix", "array")]


def of_kind(name: str, dense: np.ndarray):
    if name not in kinds():
        pytest.skip("SciPy is not installed")
    return kinds()[name](dense)


def trainer_of(dtype="float32", **settings) -> fnn.Trainer:
    layers = nn.Linear(12), nn.ReLU(), nn.Linear(2)
    return fnn.Trainer(nn.Sequential(*layers, dtype=dtype), **{"optimizer": optim.Adam(0.01), "seed": 3, **settings})


def assert_same(got: fnn.Trainer, want: fnn.Trainer) -> None:
    for name, array in {**want.model.state_dict(), **want.slots}.items():
        assert_same_bits({**got.model.state_dict(), **got.slots}[name], array, name)
    for column in ("loss", "accuracy", "val_loss", "val_accuracy"):
        if column in want.history.columns:
            assert got.history[column] == want.history[column]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_as_with_dense_rows(kind, dtype, tmp_path):
    sparse, held = of_kind(kind, DENSE[:120]), of_kind(kind, DENSE[120:])
    got, want = trainer_of(dtype), trainer_of(dtype)
    got.fit(sparse, Y[:120], X_val=held, y_val=Y[120:], epochs=3, verbose=0)
    want.fit(DENSE[:120], Y[:120], X_val=DENSE[120:], y_val=Y[120:], epochs=3, verbose=0)
    assert_same(got, want)
    assert got.evaluate(held, Y[120:]) == want.evaluate(DENSE[120:], Y[120:])
    for what in ("__call__", "predict", "predict_proba"):
        assert_same_bits(getattr(got.model, what)(held), getattr(want.model, what)(DENSE[120:]), what)
    for _ in range(3):
        assert got.step(sparse, Y[:120]) == want.step(DENSE[:120], Y[:120])
    assert_same(got, want)
    gradients = got.gradients(sparse, Y[:120])
    for name, array in want.gradients(DENSE[:120], Y[:120]).items():
        assert_same_bits(gradients[name], array, name)
    assert got.compare(sparse, Y[:120]) is None
    got.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    for each, rows in ((again, sparse), (want, DENSE[:120])):
        each.fit(rows, Y[:120], epochs=1, verbose=0)
    for name, array in want.model.state_dict().items():
        assert_same_bits(again.model.state_dict()[name], array, name)


def test_dense_and_sparse_rows_in_turn():
    """One trainer takes either, in fits, steps, validation and prediction."""
    sparse = Compressed(DENSE)
    got, want = trainer_of(), trainer_of()
    for rows, val in ((sparse, DENSE), (DENSE, sparse), (sparse, sparse)):
        got.fit(rows, Y, X_val=val, y_val=Y, epochs=1, verbose=0)
        want.fit(DENSE, Y, X_val=DENSE, y_val=Y, epochs=1, verbose=0)
        got.step(val, Y)
        want.step(DENSE, Y)
    assert_same(got, want)
    assert_same_bits(copy.deepcopy(got.model)(sparse), want.model(DENSE))


def test_weights_chosen_rows_threads_and_many():
    sparse = Compressed(DENSE)
    weights = RNG.random(N)
    chosen = RNG.integers(0, N, 70)
    for settings in ({"sample_weight": weights}, {"rows": chosen}, {"rows": chosen, "sample_weight": weights}):
        got, want = trainer_of(threads=2), trainer_of(threads=1)
        got.fit(sparse, Y, epochs=2, verbose=0, **settings)
        want.fit(DENSE, Y, epochs=2, verbose=0, **settings)
        assert_same(got, want)
    many = [trainer_of(seed=k) for k in range(2)]
    fnn.train_many(many, sparse, Y, epochs=2)
    for seed, trainer in enumerate(many):
        alone = trainer_of(seed=seed)
        alone.fit(DENSE, Y, epochs=2, verbose=0)
        assert_same(trainer, alone)


def test_one_of_several_inputs_is_sparse():
    words, rest = nn.Input((FEATURES,), name="words"), nn.Input((3,), name="rest")
    hidden = nn.ReLU()(nn.Linear(6)(nn.Concat()(words, rest)))
    numbers = RNG.standard_normal((N, 3)).astype(np.float32)
    models = [nn.Model([words, rest], nn.Linear(2)(hidden)) for _ in range(2)]
    got, want = (fnn.Trainer(model, seed=1) for model in models)
    got.fit({"words": Compressed(DENSE), "rest": numbers}, Y, epochs=2, verbose=0)
    want.fit({"words": DENSE, "rest": numbers}, Y, epochs=2, verbose=0)
    assert_same(got, want)
    both = {"words": Compressed(DENSE), "rest": Compressed(numbers)}
    assert_same_bits(got.model(both), want.model({"words": DENSE, "rest": numbers}))


def test_images_from_sparse_rows():
    layers = lambda: (nn.Flatten(), nn.Linear(2))  # noqa: E731
    got, want = (fnn.Trainer(nn.Sequential(*layers()).build((5, 4, 2)), seed=1) for _ in range(2))
    got.fit(Compressed(DENSE), Y, epochs=1, verbose=0)
    want.fit(DENSE.reshape(-1, 5, 4, 2), Y, epochs=1, verbose=0)
    assert_same(got, want)


def test_other_numbers_and_items_that_stand_twice():
    counts = (np.abs(DENSE) * 10).astype(np.int16)
    got, want = trainer_of(), trainer_of()
    got.fit(Compressed(counts), Y, epochs=1, verbose=0)
    want.fit(counts, Y, epochs=1, verbose=0)
    assert_same(got, want)
    if sp is not None:
        twice = sp.coo_array(([1.0, 2.0, 4.0], ([0, 0, 1], [3, 3, 0])), shape=(2, FEATURES))
        model = trainer_of().model.build((FEATURES,))
        assert_same_bits(model(twice), model(twice.toarray()))


def test_looking_inside():
    sparse = Compressed(DENSE)
    trainer = trainer_of()
    trainer.fit(sparse, Y, epochs=1, verbose=0)
    values, times = trainer.trace(sparse, Y)
    assert_same_bits(values["x"], DENSE)
    assert times[0][0] == "gather_csr"
    assert "gather_csr" in trainer.describe()
    assert "gather_csr" in str(trainer.profile(sparse, Y, seconds=0.01))
    assert lsuv(trainer_of().model, sparse) == lsuv(trainer_of().model, DENSE)


SCALES = [
    fnn.data.MaxAbs(),
    fnn.data.MaxAbs(per="all"),
    fnn.data.Rescale(0, 3),
    fnn.data.Standardize(with_mean=False),
    fnn.data.Standardize(per="all", with_mean=False),
    fnn.data.Compose([fnn.data.MaxAbs(), fnn.data.Standardize(with_mean=False)]),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["stand-in", "csr_matrix", "coo_array"])
@pytest.mark.parametrize("preprocess", SCALES, ids=repr)
def test_scales_give_what_they_give_dense_rows(preprocess, kind, dtype, tmp_path):
    """Deviations are summed up in another order, so their last bits may differ; with the same scale all bits are the same."""
    sparse, held = of_kind(kind, DENSE[:120]), of_kind(kind, DENSE[120:])

    def made(fitted=None):
        fresh = copy.deepcopy(preprocess) if fitted is None else copy.deepcopy(fitted)
        layers = nn.Linear(12), nn.ReLU(), nn.Linear(2)
        return fnn.Trainer(nn.Sequential(*layers, preprocess=fresh, dtype=dtype), optimizer=optim.Adam(0.01), seed=3)

    got = made()
    got.fit(sparse, Y[:120], X_val=held, y_val=Y[120:], epochs=2, verbose=0)
    dense = copy.deepcopy(preprocess).fit(DENSE[:120])
    assert (got.model.preprocess.shift_ == 0).all()
    np.testing.assert_allclose(got.model.preprocess.scale_, dense.scale_, rtol=120 * FEATURES * 2.0**-53)
    want = made(got.model.preprocess)
    want.fit(DENSE[:120], Y[:120], X_val=DENSE[120:], y_val=Y[120:], epochs=2, verbose=0)
    assert_same(got, want)
    assert got.evaluate(held, Y[120:]) == want.evaluate(DENSE[120:], Y[120:])
    assert_same_bits(got.model(held), want.model(DENSE[120:]))
    assert got.step(sparse, Y[:120]) == want.step(DENSE[:120], Y[:120])
    assert got.compare(sparse, Y[:120]) is None
    assert lsuv(got.model, sparse) == lsuv(want.model, DENSE[:120])
    got.model.save(tmp_path / "m")
    assert_same_bits(fnn.load(tmp_path / "m")(held), got.model(held))


def test_scales_of_chosen_rows_are_those_of_their_copy():
    chosen = RNG.integers(0, N, 70)
    trainers = [
        fnn.Trainer(nn.Sequential(nn.Linear(2), preprocess=fnn.data.Standardize(with_mean=False))) for _ in "ab"
    ]
    trainers[0].fit(Compressed(DENSE), Y, rows=chosen, epochs=1, verbose=0)
    trainers[1].fit(Compressed(DENSE[chosen]), Y[chosen], epochs=1, verbose=0)
    assert_same(*trainers)
    assert_same_bits(*(t.model.preprocess.scale_ for t in trainers))


def test_statistics_of_awkward_columns():
    """A column that is never stored, one stored in full and constant, one of zeros that are stored, one of a single item."""
    dense = np.zeros((9, 5))
    dense[:, 1], dense[3, 2], dense[2, 3] = 0.1, -7.0, 1e300
    stored = dense.copy()
    stored[:, 4] = 1
    rows = Compressed(stored)
    rows.data[rows.indices == 4] = 0.0
    assert fnn.data.MaxAbs().fit(rows).scale_.tolist() == [1.0, 10.0, 1 / 7.0, 1e-300, 1.0]
    found = fnn.data.Standardize(with_mean=False)
    with pytest.raises(ValueError, match="too large"):
        found.fit(rows)
    rows.data[rows.data == 1e300] = 2.0
    dense[2, 3] = 2.0
    found.fit(rows)
    np.testing.assert_allclose(found.scale_, fnn.data.Standardize().fit(dense).scale_, rtol=9 * 2.0**-52)
    assert found.scale_[[0, 1, 4]].tolist() == [1, 1, 1]
    rows.data[4] = np.inf
    with pytest.raises(ValueError, match="'X' has 1 NaN or infinite values in column 1"):
        found.fit(rows)
    with pytest.raises(ValueError, match="which is empty"):
        found.fit(Compressed(dense[:0]))


@needs_scipy
@pytest.mark.parametrize("preprocess", SCALES, ids=repr)
def test_sparse_rows_are_transformed_and_back(preprocess):
    sparse = sp.csc_matrix(DENSE)
    once = sparse.tocoo()
    places = np.tile(once.row, 2), np.tile(once.col, 2)
    twice = sp.coo_array((np.tile(once.data.astype(np.float64) / 2, 2), places), DENSE.shape)
    p = copy.deepcopy(preprocess).fit(sparse)
    np.testing.assert_allclose(copy.deepcopy(preprocess).fit(twice).scale_, p.scale_, rtol=1e-14)
    for dtype in ("float32", "float64"):
        z = p.transform(sparse, dtype)
        assert (z.format, z.dtype, z.nnz) == ("csr", dtype, sparse.nnz)
        assert_same_bits(z.toarray(), p.transform(DENSE, dtype))
        back = p.inverse_transform(z)
        assert (back.format, back.dtype) == ("csr", dtype)
        # One rounding to the float type, two to float64.
        np.testing.assert_allclose(back.toarray(), DENSE, rtol=2 * np.finfo(dtype).eps)
    assert_same_bits(sparse.toarray(), DENSE)
    with pytest.raises(ValueError, match=r"'X' has shape \(157, 39\), which is 39 values a row; expected 40"):
        p.transform(sparse[:, :-1])
    with pytest.raises(TypeError, match="'Z' is a sparse matrix of int64, expected floats"):
        p.inverse_transform(sp.csr_array(np.eye(40, dtype=int)))


def test_nothing_is_densified():
    """Rows of a million columns: dense, a hundred of them would be 400 MB."""
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    wide = object.__new__(Compressed)
    wide.indices = RNG.integers(0, 10**6, 1000)
    wide.data, wide.indptr = np.ones(1000, np.float32), np.arange(0, 1001, 10)
    wide.shape, wide.dtype = (100, 10**6), np.dtype(np.float32)
    preprocess = fnn.data.Standardize(with_mean=False)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2), preprocess=preprocess), "softmax_cross_entropy", "sgd")
    tracemalloc.start()
    try:
        trainer.fit(wide, np.arange(100) % 2, epochs=1, batch_size=4, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 160e6  # statistics in float64: a few arrays of a million


# What is refused


def damaged(**changes) -> Compressed:
    found = Compressed(DENSE)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (Compressed(DENSE[:, :9]), ValueError, r"'X' has shape \(157, 9\), which is 9 values a row, expected 40"),
        (Compressed(DENSE[:-1]), ValueError, "expected 156 rows"),
        (Compressed(DENSE[:0]), ValueError, "'X' has no rows"),
        (damaged(dtype=np.dtype(complex)), TypeError, "'X' is a sparse matrix of complex128, expected numbers"),
        (damaged(ndim=1, shape=(40,)), ValueError, r"'X' has shape \(40,\), expected \(n, features\)"),
        (damaged(indptr=Compressed(DENSE).indptr[::-1]), ValueError, "damaged sparse matrix: 'indptr' must rise"),
        (damaged(indices=Compressed(DENSE).indices + 1), ValueError, "damaged sparse matrix: 'indices' point outside"),
        (damaged(data=Compressed(DENSE).data[:-1]), ValueError, "damaged sparse matrix"),
        (damaged(data=np.where(Compressed(DENSE).indices == 7, np.nan, 1)), ValueError, "NaN or infinite values, .* in column 7"),
    ],
)  # fmt: skip
def test_bad_matrices(X, kind, message):
    trainer = trainer_of()
    trainer.fit(DENSE, Y, epochs=1, verbose=0)
    before = trainer.model.state_dict()
    with pytest.raises(kind, match=message):
        trainer.fit(X, Y, verbose=0)
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)


@pytest.mark.parametrize(
    "preprocess",
    [
        fnn.data.Standardize(),
        fnn.data.MinMax(),
        fnn.data.Rescale(low=1),
        fnn.data.Compose([fnn.data.MaxAbs(), fnn.data.Center()]),
        fnn.data.PCA(components=2),
    ],
    ids=repr,
)
def test_preprocessing_of_zeros_is_refused(preprocess):
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2), preprocess=preprocess))
    with pytest.raises(
        TypeError,
        match=r"'X' is a sparse matrix and the model has .* make numbers of its zeros, expected .*with_mean=False.*MaxAbs",
    ):
        trainer.fit(Compressed(DENSE), Y, verbose=0)
    assert not trainer.model.built
    with pytest.raises(
        TypeError, match=r"'X' is a sparse matrix, of whose zeros .*MaxAbs\(\).*; or pass X.toarray\(\)"
    ):
        preprocess.fit(Compressed(DENSE))


def test_parts_of_a_step_want_dense_rows():
    trainer = trainer_of()
    with pytest.raises(TypeError, match=r"forward: 'X' is a sparse matrix, expected dense rows: pass X.toarray\(\)"):
        trainer.forward(Compressed(DENSE))
    assert not trainer.model.built


def test_conversion_copies_once_and_not_again():
    found = as_csr(Compressed(DENSE), "X", FEATURES, np.dtype(np.float32))
    assert (found.columns.dtype, found.starts.dtype, len(found)) == (np.int64, np.int64, N)
    assert as_csr(found, "X", FEATURES, np.dtype(np.float32)) is found
    assert isinstance(found, Csr)


@needs_scipy
def test_scipy_is_not_imported():
    code = "import sys, numpy as np, pyfastnn as f\nt = f.Trainer(f.nn.Sequential(f.nn.Linear(2)))\n"
    code += "t.fit(np.ones((4, 3), 'f4'), [0, 1, 0, 1], verbose=0)\nprint('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
