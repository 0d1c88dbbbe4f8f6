"""Parts used the way a newcomer uses them: what goes wrong says so at once, in terms of what was written."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, rng_of

SCALED = fnn.data.Standardize


def rows(count=20):
    rng = rng_of("parts")
    return rng.standard_normal((count, 6)), np.arange(count) % 3


def net(*last):
    return nn.Sequential(nn.Linear(4), nn.Tanh(), nn.Linear(3), *last)


def squared(scores, targets):
    difference = scores - targets
    return (difference**2).mean(), 2 * difference / difference.size


def test_a_trainer_goes_on_behind_a_head_of_another_size(tmp_path):
    X, y = rows()
    trainer = fnn.Trainer(net(), optimizer=optim.Adam(ema=0.9), seed=1)
    trainer.fit(X, y, epochs=2, verbose=0)
    trainer.model.replace_head(nn.Linear(5))
    trainer.fit(X, np.arange(20) % 5, epochs=2, verbose=0)
    assert trainer.slots["linear_2.w.m"].shape == (4, 5)
    trainer.checkpoint(tmp_path / "run")
    again = fnn.Trainer.resume(tmp_path / "run")
    for each in (trainer, again):
        each.fit(X, np.arange(20) % 5, epochs=1, verbose=0)
    for name, array in trainer.model.arrays().items():
        assert_same_bits(again.model.arrays()[name], array)


def test_freezing_a_layer_leaves_the_moments_of_the_others():
    X, y = rows()
    trainer = fnn.Trainer(net(), optimizer=optim.Adam(ema=0.9), seed=1)
    trainer.fit(X, y, epochs=2, verbose=0)
    before = {name: slot.copy() for name, slot in trainer.slots.items()}
    trainer.model.freeze("linear_1")
    after = trainer.make_slots()
    assert set(after) == {name for name in before if name.startswith("linear_2")}
    for name, slot in after.items():
        assert_same_bits(slot, before[name])
    trainer.model.unfreeze()
    assert not trainer.make_slots()["linear_1.w.m"].any()
    assert_same_bits(trainer.make_slots()["linear_2.w.v"], before["linear_2.w.v"])
    trainer.optimizer = optim.RMSProp(momentum=0.5)
    assert not any(slot.any() for slot in trainer.make_slots().values())


def test_a_checkpoint_that_could_not_be_read_is_not_written(tmp_path):
    X, _ = rows()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), nn.CustomLoss(squared))
    trainer.step(X, X[:, :2])
    with pytest.raises(TypeError, match=r"checkpoint: CustomLoss\(squared\) cannot be saved; model.save writes"):
        trainer.checkpoint(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_predictor_of_python_functions_is_refused_when_it_is_made():
    model = nn.Sequential(nn.Linear(3), nn.Lambda(np.square)).build(6)
    with pytest.raises(ValueError, match="predictor: 'lambda_1' is a function of Python"):
        model.predictor()


@pytest.mark.parametrize("given", [3.0, (1.0, 2.0, 3.0)])
def test_a_loss_that_gives_no_pair_is_told_what_to_give(given):
    X, _ = rows()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), nn.CustomLoss(lambda s, t: given))
    with pytest.raises(TypeError, match=r"CustomLoss: the function gave (float|tuple), expected the pair"):
        trainer.step(X, X[:, :2])


def test_a_sigmoid_of_a_sigmoid_is_refused():
    X, y = rows()
    trainer = fnn.Trainer(net(nn.Sigmoid()), "binary_cross_entropy")
    with pytest.raises(ValueError, match="the model ends in 'sigmoid_1', and the loss BinaryCrossEntropy"):
        trainer.fit(X, np.eye(3)[y], verbose=0)
    fnn.Trainer(net(nn.Sigmoid()), "mean_squared_error").fit(X, np.eye(3)[y], epochs=1, verbose=0)


x = nn.Input((6,))
WRONG = {
    "copy_from": (lambda: net().build(6).copy_from(5), TypeError, "'other' is 5, expected a model"),
    "tau": (lambda: net().build(6).copy_from(net().build(6), tau="a"), TypeError, "'tau' is 'a', expected a number"),
    "head": (lambda: net().build(6).replace_head(5), TypeError, "'layer' is 5, expected a layer"),
    "preprocess": (lambda: nn.Sequential(nn.Linear(3), preprocess="center"), TypeError, "preprocess is 'center'"),
    "class": (lambda: nn.Sequential(nn.Linear(3), preprocess=SCALED), TypeError, "preprocess is <class"),
    "of a graph": (
        lambda: nn.Model({"x": x}, nn.Linear(3)(x), preprocess={"x": 3}),
        TypeError,
        r"preprocess is 3, expected a preprocessing such as fnn.data.Standardize\(\)",
    ),
    "two values": (lambda: nn.Linear(3)(x, x), TypeError, "Linear: called on 2 values, expected one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    call, exception, message = WRONG[case]
    with pytest.raises(exception, match=message):
        call()


def sentences():
    words, more = nn.Input((4,), name="words", dtype="int64"), nn.Input((), name="more", dtype="int64")
    table = nn.Embedding(7, 3)
    return nn.Model([words, more], nn.Linear(3)(nn.Concat()(nn.Flatten()(table(words)), nn.Embedding(5, 3)(more))))


@pytest.mark.parametrize(("key", "index", "highest"), [("words", 7, 6), ("words", -1, 6), ("more", 5, 4)])
def test_words_outside_the_vocabulary_are_refused(key, index, highest):
    model, rng = sentences(), rng_of("sentences")
    good = {"words": rng.integers(0, 7, (20, 4)), "more": rng.integers(0, 5, 20)}
    bad = {name: array.copy() for name, array in good.items()}
    bad[key].flat[3] = index
    y = np.arange(20) % 3
    trainer = fnn.Trainer(model)
    trainer.step(good, y)
    calls = [
        lambda: trainer.fit(bad, y, verbose=0),
        lambda: trainer.step(bad, y),
        lambda: trainer.evaluate(bad, y),
        lambda: trainer.forward(bad),
        lambda: model.predict(bad),
    ]
    message = rf"X\['{key}'\].* holds {index}, expected whole numbers from 0 to {highest} as the vocabulary"
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_words_of_the_only_input_are_checked_in_every_step():
    words = nn.Input((4,), dtype="int64")
    trainer = fnn.Trainer(nn.Model(words, nn.Linear(3)(nn.Flatten()(nn.Embedding(7, 3)(words)))))
    X, y = rng_of("words").integers(0, 7, (20, 4)), np.arange(20) % 3
    for _ in range(3):
        trainer.step(X, y)
    X[3, 2] = 7
    with pytest.raises(ValueError, match="'X' holds 7, expected whole numbers from 0 to 6"):
        trainer.step(X, y)


def test_an_embedding_of_floats_is_refused_where_it_is_called():
    with pytest.raises(
        ValueError, match=r"Embedding: called on .*, which holds floats; make it nn.Input\(shape, dtype"
    ):
        nn.Embedding(5, 3)(x)
