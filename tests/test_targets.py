"""What targets may be under each loss, and that predictions are of their kind."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.data import Stream
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("targets")
N = 60
X = RNG.standard_normal((N, 3))
COUNTS = RNG.poisson(np.exp(0.5 * X @ np.array([1.0, -1.0, 0.5])))
YES = (X[:, :2] > 0).astype(float)


def trainer_of(loss, outputs=1, **settings):
    model = nn.Sequential(nn.Linear(outputs), dtype="float64")
    return fnn.Trainer(model, loss, **{"optimizer": optim.SGD(0.1), "seed": 0, **settings})


# Ranges

BAD = {
    "above 1": ("binary_cross_entropy", YES, (17, 1), 1.5, r"1 targets .* is 1.5 in row 17, output 1; .* from 0 to 1"),
    "below 0": (
        "binary_cross_entropy",
        YES,
        (0, 0),
        -1,
        r"the first is -1 in row 0, output 0; expected numbers from 0",
    ),
    "nan": (
        "binary_cross_entropy",
        YES,
        (59, 0),
        np.nan,
        "1 NaN or infinite targets, the first is nan in row 59, output 0",
    ),
    "negative": (
        "poisson",
        COUNTS,
        (5,),
        -2,
        r"Poisson\(\) does not take, the first is -2 in row 5; .* numbers of 0 or more",
    ),
    "infinite": (
        "poisson",
        COUNTS,
        (5,),
        np.inf,
        "1 NaN or infinite targets, the first is inf in row 5; expected finite",
    ),
    "nan of squares": ("mean_squared_error", X[:, 0], (7,), np.nan, "the first is nan in row 7; expected finite"),
}


def spoiled(case):
    loss, y, at, value, message = BAD[case]
    bad = y.astype(float)
    bad[at] = value
    return loss, y, bad, message


@pytest.mark.parametrize("case", BAD)
def test_targets_out_of_range_are_named_everywhere(case):
    loss, good, bad, message = spoiled(case)
    trainer = trainer_of(loss, good.shape[1] if good.ndim > 1 else 1)
    with pytest.raises(ValueError, match=f"'y' holds .*{message}"):
        trainer.fit(X, bad, verbose=0)
    assert not trainer.model.built
    trainer.fit(X, good, epochs=1, verbose=0)
    before = trainer.model.state_dict()
    for call in (trainer.fit, trainer.step, trainer.gradients, trainer.evaluate, trainer.trace):
        with pytest.raises(ValueError, match=f"'y' holds .*{message}"):
            call(X, bad)
    with pytest.raises(ValueError, match=f"'y_val' holds .*{message}"):
        trainer.fit(X, good, X_val=X, y_val=bad, verbose=0)
    assert trainer.epoch == 1
    for name, array in trainer.model.arrays().items():
        assert_same_bits(array, before[name], name)


@pytest.mark.parametrize("case", BAD)
def test_rows_of_a_fold_keep_their_numbers(case):
    loss, good, bad, message = spoiled(case)
    trainer = trainer_of(loss, good.shape[1] if good.ndim > 1 else 1)
    with pytest.raises(ValueError, match=message):
        trainer.fit(X, bad, rows=np.arange(N)[::-1], verbose=0)
    row = int(BAD[case][2][0])
    trainer.fit(X, bad, rows=np.delete(np.arange(N), row), epochs=1, verbose=0)


@pytest.mark.parametrize("case", BAD)
def test_rows_of_a_stream_have_their_number_in_it(case):
    loss, good, bad, message = spoiled(case)
    trainer = trainer_of(loss, good.shape[1] if good.ndim > 1 else 1)
    for seed in range(3):
        with pytest.raises(ValueError, match=message):
            trainer.fit(Stream(X, bad, block_rows=8, chunk_rows=4, seed=seed), epochs=1, verbose=0)


def test_rows_of_weight_zero_may_hold_what_they_want():
    weights = np.ones(N)
    weights[[4, 9]] = 0
    bad, worse = COUNTS.astype(float), COUNTS.astype(float)
    bad[[4, 9]] = -1
    worse[[4, 9]] = -5
    one, other = trainer_of("poisson"), trainer_of("poisson")
    one.fit(X, bad, sample_weight=weights, epochs=2, verbose=0)
    other.fit(X, worse, sample_weight=weights, epochs=2, verbose=0)
    for name, array in one.model.arrays().items():
        assert_same_bits(other.model.arrays()[name], array, name)
    assert one.evaluate(X, bad, weights) == one.evaluate(X, worse, weights)
    one.fit(X, bad, sample_weight=weights, rows=[4, 5, 6], epochs=1, verbose=0)
    weights[9] = 1e-9
    with pytest.raises(ValueError, match="1 targets .* is -1 in row 9"):
        one.fit(X, bad, sample_weight=weights, verbose=0)


def test_each_output_has_its_range():
    x = nn.Input((3,))
    model = nn.Model(x, {"count": nn.Linear(1)(x), "yes": nn.Linear(2)(x), "any": nn.Linear(1)(x)})
    losses = {"count": "poisson", "yes": "binary_cross_entropy", "any": "mean_squared_error"}
    trainer = fnn.Trainer(model, losses)
    y = {"count": COUNTS, "yes": YES, "any": -X[:, 0]}
    trainer.fit(X, y, epochs=1, verbose=0)
    for name, value in (("count", -1), ("yes", 2)):
        bad = {**y, name: y[name].astype(float)}
        bad[name][3] = value
        with pytest.raises(ValueError, match=rf"y\['{name}'\].* holds .* the first is {value} in row 3"):
            trainer.fit(X, bad, verbose=0)


@pytest.mark.parametrize("y", [YES > 0, YES.astype(np.uint8), YES.astype(np.float32), YES * 0.3, np.clip(YES, 0, 1)])
def test_answers_may_be_of_any_kind_of_number(y):
    trainer_of("binary_cross_entropy", 2).fit(X, y, epochs=1, verbose=0)


def test_a_loss_of_the_users_takes_any_number():
    def squared(scores, targets):
        return ((scores - targets) ** 2).mean(), 2 * (scores - targets) / scores.size

    for task in ("multilabel", "counts"):
        trainer_of(nn.CustomLoss(squared, task=task)).fit(X, -5 * X[:, 0], epochs=1, verbose=0)


# Predictions are of the kind of the targets


def test_rates_are_predicted_where_counts_were_learned(tmp_path):
    trainer = trainer_of("poisson")
    trainer.fit(X, COUNTS, epochs=3, verbose=0)
    model = trainer.model
    scores = model(X)
    rates = model.predict(X)
    assert model.task == "counts"
    assert rates.shape == (N,)
    np.testing.assert_allclose(rates, np.exp(scores[:, 0]), rtol=4 * 2.0**-52)
    for i in (0, 17, 59):
        assert_same_bits(model.predict(X[i : i + 1])[0], rates[i])
    assert model.predict(X[:0]).shape == (0,)
    assert_same_bits(model.predictor()(X[:1]), scores[:1])
    model.save(tmp_path / "m")
    trainer.checkpoint(tmp_path / "c")
    assert_same_bits(fnn.load(tmp_path / "m").predict(X), rates)
    assert_same_bits(fnn.Trainer.resume(tmp_path / "c").model.predict(X), rates)
    with pytest.raises(RuntimeError, match="no trained classifier"):
        model.predict_proba(X)


def test_the_mean_rate_is_the_mean_count():
    """What the best rates have in common with the counts: their sum, as the slope along the bias is 0 there."""
    trainer = trainer_of("poisson", optimizer=optim.SGD(0.2))
    trainer.fit(X, COUNTS, epochs=500, batch_size=N, verbose=0)
    assert trainer.model.predict(X).mean() == pytest.approx(COUNTS.mean(), rel=1e-6)


def test_rates_are_those_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model", reason="compares with PoissonRegressor")
    trainer = trainer_of("poisson", optimizer=optim.SGD(0.2))
    trainer.fit(X, COUNTS, epochs=2000, batch_size=N, verbose=0)
    theirs = linear_model.PoissonRegressor(alpha=0, tol=1e-10, max_iter=10000).fit(X, COUNTS)
    np.testing.assert_allclose(trainer.model.predict(X), theirs.predict(X), rtol=1e-4)


def test_rates_of_several_outputs_and_their_mean():
    x = nn.Input((3,))
    model = nn.Model(x, {"one": nn.Linear(1)(x), "two": nn.Linear(2)(x), "line": nn.Linear(1)(x)}, dtype="float64")
    trainer = fnn.Trainer(model, {"one": "poisson", "two": "poisson", "line": "mean_squared_error"})
    trainer.fit(X, {"one": COUNTS, "two": np.stack([COUNTS, COUNTS + 1], 1), "line": X[:, 0]}, epochs=1, verbose=0)
    scores, found = model(X), model.predict(X)
    np.testing.assert_allclose(found["one"], np.exp(scores["one"][:, 0]), rtol=1e-15)
    np.testing.assert_allclose(found["two"], np.exp(scores["two"]), rtol=1e-15)
    assert_same_bits(found["line"], scores["line"][:, 0])

    models = []
    for seed in range(2):
        each = trainer_of("poisson", seed=seed)
        each.fit(X, COUNTS, epochs=1, verbose=0)
        models.append(each.model)
    ensemble = fnn.Ensemble(models)
    assert repr(ensemble) == "<Ensemble of 2 models for counts>"
    np.testing.assert_allclose(ensemble.predict(X), np.mean([m.predict(X) for m in models], axis=0), rtol=1e-14)
    with pytest.raises(RuntimeError, match="predicts values, not classes"):
        ensemble.predict_proba(X)


def test_predictions_follow_the_loss_of_the_last_fit():
    trainer = trainer_of("poisson", 3)
    trainer.fit(X, np.stack([COUNTS] * 3, 1), epochs=1, verbose=0)
    assert (trainer.model.predict(X) > 0).all()
    trainer.loss = "softmax_cross_entropy"
    trainer.fit(X, np.array(["a", "b", "c"])[np.arange(N) % 3], epochs=1, verbose=0)
    assert set(trainer.model.predict(X)) <= {"a", "b", "c"}
    trainer.loss = "mean_squared_error"
    trainer.fit(X, X, epochs=1, verbose=0)
    assert trainer.model.classes_ is None
    assert_same_bits(trainer.model.predict(X), trainer.model(X))
    trainer.loss = nn.CustomLoss(
        lambda s, t: (float((np.exp(s) - t * s).mean()), (np.exp(s) - t) / s.size), task="counts"
    )
    trainer.fit(X, np.abs(X), epochs=1, verbose=0)
    np.testing.assert_allclose(trainer.model.predict(X), np.exp(trainer.model(X)), rtol=1e-15)
    with pytest.raises(ValueError, match="unknown task 'count', did you mean 'counts'"):
        nn.CustomLoss(abs, task="count")


def test_an_exponential_of_an_exponential_is_refused():
    model = nn.Sequential(nn.Linear(1), nn.Exp())
    with pytest.raises(ValueError, match=r"ends in 'exp_1', and the loss Poisson\(\) takes the exponential itself"):
        fnn.Trainer(model, "poisson").fit(X, COUNTS, verbose=0)
    fnn.Trainer(model, "mean_squared_error").fit(X, COUNTS, epochs=1, verbose=0)
