"""PCA, whitening, min-max and chains of preprocessings: what is learned, undone, saved, and run inside a network."""

from __future__ import annotations

import json

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.data import PCA, Center, Compose, MinMax, Rescale, Standardize, Stream, Whiten, load_digits, preprocessing
from pyfastnn.testing import assert_same_bits, rng_of

UNIT = 2.0**-53
RNG = rng_of("projection")
X = (RNG.standard_normal((200, 12)) @ RNG.standard_normal((12, 12)) + 5).astype(np.float64)
BYTES = RNG.integers(0, 256, (60, 4, 3, 2)).astype(np.uint8)

MAKE = {
    "pca": lambda: PCA(),
    "pca 3": lambda: PCA(components=3),
    "pca share": lambda: PCA(components=0.9),
    "zca": lambda: Whiten(),
    "zca 5": lambda: Whiten(components=5, eps=0.1),
    "whiten pca": lambda: Whiten(method="pca", eps=0.0),
    "whiten pca share": lambda: Whiten(method="pca", components=0.5),
    "minmax": lambda: MinMax(),
    "affine chain": lambda: Compose([Rescale(), Standardize()]),
    "chain": lambda: Compose([Rescale(), Center(), Whiten(eps=1e-3)]),
    "long chain": lambda: Compose([Standardize(), PCA(components=6), MinMax(), PCA(components=4), Rescale(-1, 1)]),
    "one": lambda: Compose([Center()]),
}


def step_by_step(p, x):
    """Apply the parts of a chain one after the other, in float64."""
    for part in p.parts if isinstance(p, Compose) else [p]:
        x = part.transform(x, np.float64)
    return x


def error_of(p, x: np.ndarray, unit: float) -> np.ndarray:
    """Bound the error of computing ``((x - shift) * scale) @ matrix + bias`` in a type with this unit: every sum has f + 3 roundings."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    size = (np.abs(flat) + np.abs(p.shift_)) * np.abs(p.scale_)
    if p.matrix_ is not None:
        size = size @ np.abs(p.matrix_)
    if p.bias_ is not None:
        size = size + np.abs(p.bias_)
    # Two roundings of the arrays themselves (shift and matrix), three before the sum, one for each term.
    return 1.01 * unit * (flat.shape[1] + 8) * size + 1e-300


def test_principal_axes():
    p = PCA().fit(X)
    Z = p.transform(X, np.float64)
    covariance = np.cov(X.T, bias=True)
    n, f = X.shape
    tolerance = 100 * n * f * UNIT * np.abs(covariance).max()
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.diag(p.explained_variance_), rtol=0, atol=tolerance)
    np.testing.assert_allclose(p.components_ @ p.components_.T, np.eye(f), rtol=0, atol=100 * f * UNIT)
    assert (np.diff(p.explained_variance_) <= 0).all()
    np.testing.assert_allclose(p.explained_variance_ratio_.sum(), 1, rtol=1e-12)
    assert (np.take_along_axis(p.components_, np.abs(p.components_).argmax(axis=1)[:, None], axis=1) > 0).all()
    # Another way to the same numbers: singular values of the centred rows.
    singular = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(p.explained_variance_, singular**2 / n, rtol=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999999])
def test_a_share_keeps_as_few_axes_as_it_can(share):
    p = PCA(components=share).fit(X)
    kept = p.explained_variance_ratio_
    assert kept.sum() >= share - 1e-12
    assert kept[:-1].sum() < share
    assert p.output_shape((12,)) == (len(kept),)


@pytest.mark.parametrize("method", ["zca", "pca"])
def test_whitened_rows_have_unit_covariance(method):
    Z = Whiten(method, eps=0.0).fit(X).transform(X, np.float64)
    variance = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    tolerance = 100 * X.size * UNIT * variance[-1] / variance[0]
    np.testing.assert_allclose(np.cov(Z.T, bias=True), np.eye(12), rtol=0, atol=tolerance)
    if method == "zca":
        matrix = Whiten(eps=0.0).fit(X).matrix_
        np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12)


def test_eps_is_added_to_every_variance():
    p, q = PCA().fit(X), Whiten("pca", eps=0.5).fit(X)
    expected = p.transform(X, np.float64) / np.sqrt(p.explained_variance_ + 0.5)
    np.testing.assert_allclose(q.transform(X, np.float64), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", [k for k in MAKE if k not in ("pca 3", "pca share", "zca 5", "whiten pca share", "long chain")]
)
def test_undone(name):
    p = MAKE[name]().fit(X)
    back = p.inverse_transform(p.transform(X, np.float64))
    assert back.shape == X.shape
    np.testing.assert_allclose(back, X, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["pca 3", "zca 5", "whiten pca share"])
def test_undone_as_far_as_axes_were_kept(name):
    """What comes back is the projection on the axes that were kept."""
    p = MAKE[name]().fit(X)
    axes, mean = p.components_, p.mean_
    expected = (X - mean) @ axes.T @ axes + mean
    np.testing.assert_allclose(p.inverse_transform(p.transform(X, np.float64)), expected, rtol=0, atol=1e-9)


def test_shapes():
    assert PCA(components=5).fit(BYTES).transform(BYTES).shape == (60, 5)
    assert PCA(components=5).output_shape((4, 3, 2)) == (5,)
    whitened = Whiten().fit(BYTES)
    assert whitened.transform(BYTES).shape == BYTES.shape
    assert whitened.inverse_transform(whitened.transform(BYTES)).shape == BYTES.shape
    p = PCA(components=5).fit(BYTES)
    assert p.inverse_transform(p.transform(BYTES)).shape == (60, 24)
    assert p.transform(BYTES[:0]).shape == (0, 5)
    y = np.array([1.0, 3.0])
    assert PCA().fit(y).transform(y, np.float64).tolist() == [[-1.0], [1.0]]


def test_minmax():
    p = MinMax().fit(X)
    Z = p.transform(X, np.float64)
    assert (Z.min(axis=0) == 0).all()
    np.testing.assert_allclose(Z.max(axis=0), 1, rtol=4 * UNIT)
    per_channel = MinMax(per="channel").fit(BYTES)
    np.testing.assert_array_equal(per_channel.shift_.reshape(12, 2)[0], BYTES.min(axis=(0, 1, 2)))
    assert MinMax(per="all").fit(BYTES).shift_.tolist() == [BYTES.min()] * 24
    constant = MinMax().fit(np.full((5, 2), 7.0))
    assert (constant.transform(np.full((3, 2), 7.0)) == 0).all()
    with pytest.raises(ValueError, match="too large"):
        MinMax().fit(np.array([[1.7e308], [-1.7e308]]))


@pytest.mark.parametrize("name", ["affine chain", "chain", "long chain", "one"])
@pytest.mark.parametrize("rows", [X, BYTES], ids=["rows", "bytes"])
def test_a_chain_is_its_parts_one_behind_the_other(name, rows):
    p = MAKE[name]().fit(rows)
    expected = step_by_step(p, rows)
    found = p.transform(rows, np.float64)
    assert found.shape == expected.shape
    bound = error_of(p, rows, 40 * UNIT)  # the parts, five at most, round for themselves
    assert (np.abs(found - expected).reshape(bound.shape) <= bound).all()
    alone = [type(part)(**{k: v for k, v in part.to_config().items() if k != "name"}) for part in p.parts]
    seen = rows
    for part, fitted in zip(alone, p.parts, strict=True):
        part.fit(seen)
        seen = part.transform(seen, np.float64)
        np.testing.assert_allclose(part.shift_, fitted.shift_, rtol=0, atol=1e-9)


def test_chains_in_chains_are_one_chain():
    inner = Compose([Center(), PCA(components=3)])
    p = Compose([Rescale(), inner])
    assert repr(p) == "Compose([Rescale(low=0.0, high=255.0), Center(per='feature'), PCA(components=3)])"
    fitted = Compose([Center().fit(X), PCA(components=3).fit(X - X.mean(axis=0))])
    np.testing.assert_allclose(fitted.transform(X), PCA(components=3).fit(X).transform(X), atol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_config_and_state_come_back(name):
    p = MAKE[name]().fit(X)
    config, state = json.loads(json.dumps(p.to_config())), p.state()
    again = preprocessing.from_config(config, state)
    assert repr(again) == repr(p)
    assert_same_bits(again.transform(X), p.transform(X))
    assert_same_bits(again.inverse_transform(p.transform(X)), p.inverse_transform(p.transform(X)))
    for array in state.values():
        array[...] = 7
    assert_same_bits(again.transform(X), p.transform(X))
    unfitted = preprocessing.from_config(config, None)
    with pytest.raises(RuntimeError, match="call fit"):
        unfitted.transform(X)


# Inside a network


def network(p, dtype: str = "float32") -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(5), nn.ReLU(), nn.Linear(3), preprocess=p, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [X, BYTES], ids=["rows", "bytes"])
@pytest.mark.parametrize("name", MAKE)
def test_a_network_computes_it_natively(name, rows, dtype):
    y = np.arange(len(rows)) % 3
    trainer = fnn.Trainer(network(MAKE[name](), dtype), seed=1)
    assert trainer.compare(rows, y) is None
    values, _ = trainer.trace(rows, y)
    p = trainer.model.preprocess
    bound = error_of(p, rows, np.finfo(dtype).eps)
    found = values["x"].astype(np.float64)
    # Axes of no variance are arbitrary, but they are the same ones here: only rounding differs.
    assert (np.abs(found - p.transform(rows, np.float64).reshape(found.shape)) <= bound).all()
    trainer.fit(rows, y, epochs=1, verbose=0)
    whole = trainer.model(rows)
    for row in (0, 7, len(rows) - 1):
        assert_same_bits(trainer.model(rows[row : row + 1]), whole[row : row + 1])
        assert_same_bits(trainer.model.predictor()(rows[row : row + 1]), whole[row : row + 1])


@pytest.mark.parametrize("name", MAKE)
def test_saved_with_the_model(name, tmp_path):
    trainer = fnn.Trainer(network(MAKE[name]()), seed=1)
    trainer.fit(BYTES, np.arange(60) % 3, epochs=2, verbose=0)
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert repr(again.model) == repr(trainer.model)
    assert_same_bits(again.model(BYTES), trainer.model(BYTES))
    for t in (trainer, again):
        t.fit(BYTES, np.arange(60) % 3, epochs=1, verbose=0)
    assert_same_bits(again.model(BYTES), trainer.model(BYTES))
    assert "5" in trainer.model.summary()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_same_bits_for_any_number_of_threads(threads):
    trainer = fnn.Trainer(network(Whiten()), seed=1, threads=threads)
    trainer.fit(X, np.arange(200) % 3, epochs=2, batch_size=50, verbose=0)
    alone = fnn.Trainer(network(Whiten()), seed=1, threads=1)
    alone.fit(X, np.arange(200) % 3, epochs=2, batch_size=50, verbose=0)
    assert_same_bits(trainer.model(X), alone.model(X))


def test_folds_fit_on_their_own_rows():
    chosen = np.arange(0, 200, 2)
    by_number, copied = (fnn.Trainer(network(PCA(components=0.8)), seed=1) for _ in range(2))
    by_number.fit(X, np.arange(200) % 3, rows=chosen, epochs=1, verbose=0)
    copied.fit(X[chosen], (np.arange(200) % 3)[chosen], epochs=1, verbose=0)
    assert_same_bits(by_number.model(X), copied.model(X))


def test_the_product_of_a_preprocessing_is_never_rounded_to_bfloat16():
    from pyfastnn.graph.rewrites import to_bf16

    model = nn.Sequential(nn.Linear(32), nn.Linear(32), nn.Linear(3), preprocess=Whiten(eps=1.0))
    rows = RNG.standard_normal((100, 40)).astype(np.float32)
    trainer = fnn.Trainer(model)
    trainer.step(rows, np.arange(100) % 3)
    graph = to_bf16(trainer._compiled.train.graphs["train"])
    ops = [(n.name, n.op) for n in graph.nodes if n.op.startswith("linear_forward")]
    assert ops == [
        ("preprocess", "linear_forward"),
        ("linear_1", "linear_forward_bf16"),
        ("linear_2", "linear_forward_bf16"),
        ("linear_3", "linear_forward"),
    ]


def test_whitened_digits_train():
    rows, labels = load_digits()
    trainer = fnn.Trainer(
        nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10), preprocess=Whiten("pca", components=0.95, eps=1e-2))
    )
    trainer.fit(rows[:1500], labels[:1500], epochs=15, verbose=0)
    assert trainer.evaluate(rows[1500:], labels[1500:])["accuracy"] > 0.85
    assert trainer.model.declared["linear_1.w"].shape[0] < 40


def test_inputs_of_one_model_have_their_own(tmp_path):
    wide, images = nn.Input(12, name="wide"), nn.Input((4, 3, 2), name="images")
    merged = nn.Concat()(nn.Linear(4)(wide), nn.Flatten()(nn.BatchNorm()(images)))
    made = {"wide": PCA(components=5), "images": Compose([Rescale(), Whiten(eps=1e-2)])}
    model = nn.Model([wide, images], nn.Linear(3)(merged), preprocess=made)
    assert model.declared["linear_1.w"].shape == (5, 4)
    rows, y = {"wide": X[:60], "images": BYTES}, np.arange(60) % 3
    trainer = fnn.Trainer(model, seed=1)
    trainer.fit(rows, y, epochs=2, verbose=0)
    assert trainer.compare(rows, y) is None
    model.save(tmp_path / "m")
    assert_same_bits(fnn.load(tmp_path / "m")(rows), model(rows))


@pytest.mark.parametrize("name", ["pca 3", "zca", "chain", "long chain", "minmax"])
def test_gradients_reach_the_raw_inputs(name):
    """Through the layers, the matrix and the scale; everything is linear here."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3), preprocess=MAKE[name](), dtype="float64")
    trainer = fnn.Trainer(model, seed=1)
    trainer.step(X, np.arange(200) % 3)
    dscores = RNG.standard_normal((200, 3))
    trainer.forward(X)
    found = trainer.backward(dscores, input_gradient=True)
    p = model.preprocess
    matrix = np.eye(12) if p.matrix_ is None else p.matrix_
    expected = dscores @ model.parameters["linear_1.w"].T @ matrix.T * p.scale_
    np.testing.assert_allclose(found.reshape(200, 12), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


# What is refused


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: PCA(components=0), ValueError, "PCA: 'components' is 0, expected 1 or more"),
        (lambda: PCA(components=1.0), ValueError, "'components' is 1.0, expected a share strictly between 0 and 1"),
        (lambda: PCA(components=True), TypeError, "'components' is True"),
        (lambda: PCA(components="3"), TypeError, "'components' is '3'"),
        (lambda: PCA(components=13).fit(X), ValueError, "'components' is 13, expected at most the 12 values of a row"),
        (lambda: Whiten("zac"), ValueError, "unknown method 'zac', did you mean 'zca'"),
        (lambda: Whiten(3), TypeError, "'method' is 3"),
        (lambda: Whiten(eps=-1.0), ValueError, "'eps' is -1.0"),
        (lambda: Whiten(eps=None), TypeError, "'eps' is None"),
        (lambda: Whiten(eps=0.0).fit(np.ones((4, 2))), ValueError, "2 axes have no variance, which eps=0 cannot divide by"),
        (lambda: PCA().fit(np.array([[1e300], [-1e300]])), ValueError, "too large"),
        (lambda: PCA().fit(np.zeros((2, 2**14 + 1), np.uint8)), ValueError, "at most 16384 are taken"),
        (lambda: PCA(components=0.5).output_shape((12,)), RuntimeError, r"PCA\(components=0.5\) decides with the data"),
        (lambda: PCA().fit(X).output_shape((11,)), ValueError, "it was fitted on rows of 12 values, these have 11"),
        (lambda: PCA(components=3).fit(X).inverse_transform(X), ValueError, "which is 12 values a row; expected 3"),
        (lambda: Compose([]), ValueError, "'parts' is empty"),
        (lambda: Compose([Center]), TypeError, "is no preprocessing, expected something like"),
        (lambda: Compose([p := Center(), p]), ValueError, "the same object stands twice"),
        (lambda: Compose([Center().fit(X), PCA().fit(X[:, :3])]), ValueError, "fitted on rows of 3 values, the parts before it give 12"),
        (lambda: MinMax(per="row"), ValueError, "unknown per 'row'"),
    ],
)  # fmt: skip
def test_bad_settings(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


PARTS = [{"name": "center", "per": "all"}]


@pytest.mark.parametrize(
    ("config", "change", "kind", "message"),
    [
        ({}, {"mean": None}, ValueError, "'state' has .*, expected components, mean, ratio, variance"),
        ({}, {"mean": np.zeros(11)}, ValueError, r"'components' has shape \(3, 12\) for a 'mean' of shape \(11,\)"),
        ({}, {"components": np.zeros((4, 12))}, ValueError, "'variance' and 'ratio' must have one item"),
        ({}, {"variance": -np.ones(3)}, ValueError, "'variance' and 'ratio' must have one item of 0 or more"),
        ({}, {"components": np.full((3, 12), np.nan)}, ValueError, "'components' must be finite"),
        ({}, {"components": np.zeros((3, 12), "f4")}, TypeError, "'components' is not a float64 array"),
        ({"components": 4}, {}, ValueError, "3 axes for components=4"),
        ({"components": [3]}, {}, TypeError, "'components' is"),
        ({"parts": PARTS}, {}, ValueError, "unknown setting of pca 'parts'"),
        ({"name": "compose"}, {}, ValueError, "expected the setting 'parts'"),
    ],
)
def test_bad_files(config, change, kind, message):
    p = PCA(components=3).fit(X)
    state = {**p.state(), **change}
    state = {k: v for k, v in state.items() if v is not None}
    with pytest.raises(kind, match=message):
        preprocessing.from_config({**p.to_config(), **config}, state)


@pytest.mark.parametrize(
    ("config", "state", "kind", "message"),
    [
        ({"parts": []}, None, ValueError, "'parts' is empty"),
        ({"parts": [3]}, None, TypeError, "a part is no mapping"),
        ({"parts": [{"name": "compose", "parts": PARTS}]}, None, ValueError, "unknown preprocessing 'compose'"),
        ({"parts": PARTS, "x": 1}, None, ValueError, "expected the setting 'parts', a list, and no other"),
        ({"parts": PARTS}, {"1.shift": np.zeros(2)}, ValueError, "expected the number of a part"),
        ({"parts": PARTS}, {"0.shift": np.zeros(2)}, ValueError, "expected scale, shift"),
    ],
)
def test_bad_chains(config, state, kind, message):
    with pytest.raises(kind, match=message):
        preprocessing.from_config({"name": "compose", **config}, state)


def test_a_refused_fit_leaves_the_model_to_be_fitted():
    trainer = fnn.Trainer(network(PCA(components=0.9)))
    with pytest.raises(ValueError, match="'y'"):
        trainer.fit(X, np.arange(3), verbose=0)
    assert not hasattr(trainer.model.preprocess, "shift_")
    trainer.fit(X, np.arange(200) % 3, epochs=1, verbose=0)


# A model from nn.Input, whose arrays wait for the data


def waiting(*more, **settings):
    x = nn.Input(12)
    h = nn.Tanh()(nn.Linear(5)(x))
    return nn.Model(x, nn.Linear(3)(h), preprocess=Compose([*more, PCA(components=0.8)]), **settings)


def test_a_graph_whose_width_follows_from_the_data_is_built_by_the_first_fit(tmp_path):
    y = np.arange(200) % 3
    model = waiting(dtype="float64")
    assert not model.built
    assert repr(model) == "Model(X[12] -> y; 3 layers)"
    assert "linear_1" in model.summary()
    trainer = fnn.Trainer(model, seed=0)
    trainer.fit(X, y, epochs=2, verbose=0)
    width = model.preprocess.matrix_.shape[1]
    assert 1 < width < 12
    assert model.arrays()["linear_1.w"].shape == (width, 5)
    assert trainer.compare(X, y) is None

    fitted = Compose([PCA(components=0.8)]).fit(X)
    x = nn.Input(12)
    ready = nn.Model(x, nn.Linear(3)(nn.Tanh()(nn.Linear(5)(x))), preprocess=fitted, dtype="float64")
    assert ready.built
    fnn.Trainer(ready, seed=0).fit(X, y, epochs=2, verbose=0)
    assert_same_bits(ready(X), model(X))
    model.save(tmp_path / "m")
    assert_same_bits(fnn.load(tmp_path / "m")(X), model(X))


def test_every_first_call_builds_it():
    y = np.arange(200) % 3
    calls = {
        "step": lambda t: t.step(X, y),
        "forward": lambda t: t.forward(X),
        "gradients": lambda t: t.gradients(X, y),
        "images": lambda t: t.fit(X.reshape(200, 4, 3), y, epochs=1, verbose=0),
        "stream": lambda t: t.fit(Stream(X, y), epochs=1, verbose=0),
        "by hand": lambda t: (t.model.preprocess.fit(X), t.model.build()),
    }
    for name, call in calls.items():
        trainer = fnn.Trainer(waiting())
        call(trainer)
        assert trainer.model.built, name
        assert trainer.model.predict(X[:2]).shape[0] == 2, name
    assert fnn.diagnose.gradient_check(waiting(), X, y).passed


def test_what_such_a_model_cannot_do_yet_is_said():
    y, model = np.arange(200) % 3, waiting(Center())
    with pytest.raises(RuntimeError, match="the model has no parameters yet: .* fit, first"):
        model.predict(X)
    for call in (model.build, lambda: nn.initializers.lsuv(model, X)):
        with pytest.raises(RuntimeError, match=r"PCA\(components=0.8\) decides with the data .* train the model"):
            call()
    trainer = fnn.Trainer(model)
    with pytest.raises(ValueError, match=r"'X' has shape \(200, 11\), which is 11 values a row, expected 12"):
        trainer.fit(X[:, :11], y, verbose=0)
    with pytest.raises(ValueError, match="'y'"):
        trainer.fit(X, y[:3], verbose=0)
    assert not model.built
    assert not model.preprocess.fitted
    trainer.fit(X, y, epochs=1, verbose=0)


def test_one_input_of_several_may_wait():
    wide, word = nn.Input(12, name="wide"), nn.Input((), name="word", dtype="int64")
    merged = nn.Concat()(nn.Linear(4)(wide), nn.Embedding(7, 3)(word))
    model = nn.Model([wide, word], nn.Linear(3)(merged), preprocess={"wide": PCA(components=0.9)})
    rows = {"wide": X, "word": np.arange(200) % 7}
    with pytest.raises(ValueError, match=r"X\['word'\].* holds 7, expected whole numbers from 0 to 6"):
        fnn.Trainer(model).fit({**rows, "word": rows["word"] + 1}, np.arange(200) % 3, verbose=0)
    assert not model.built
    fnn.Trainer(model).fit(rows, np.arange(200) % 3, epochs=1, verbose=0)
    assert model(rows).shape == (200, 3)
