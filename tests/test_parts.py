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


def test_a_state_that_does_not_fit_changes_nothing():
    model = net().build(6)
    before = model.state_dict()
    bad = {**{name: array + 1 for name, array in before.items()}, "linear_2.w": np.full((4, 3), "a")}
    with pytest.raises(TypeError, match="'linear_2.w' has dtype <U1, expected numbers"):
        model.load_state_dict(bad)
    for name, array in model.arrays().items():
        assert_same_bits(array, before[name], name)


def told(trainer, row):
    return True


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (told, r"'callbacks' is <function told at .*>, expected a list of functions: write callbacks=\[told\]"),
        (None, "'callbacks' is None, expected a list of functions$"),
        (3, "'callbacks' is 3, expected a list of functions$"),
        ([told, 3], r"callbacks\[1\] is 3, expected a function of the trainer and a row"),
        ("told", r"callbacks\[0\] is 't', expected a function"),
    ],
    ids=str,
)
def test_callbacks_are_looked_at_before_the_first_epoch(callbacks, message):
    trainer = fnn.Trainer(net())
    with pytest.raises(TypeError, match=f"fit: {message}"):
        trainer.fit(*rows(), callbacks=callbacks, verbose=0)
    assert trainer.epoch == 0
    trainer.fit(*rows(), callbacks=(call for call in [told]), epochs=3, verbose=0)
    assert (trainer.epoch, trainer.history.stop_reason) == (1, "callback")


@pytest.mark.parametrize("verbose", ["a", 3, -1, 0.5])
def test_how_much_is_shown_is_one_of_three(verbose):
    with pytest.raises(ValueError, match=rf"fit: 'verbose' is {verbose!r}, expected 0 \(nothing\)"):
        fnn.Trainer(net()).fit(*rows(), verbose=verbose)


def test_a_fit_that_could_change_nothing_is_refused():
    X, y = rows()
    scaled = nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.Linear(3), preprocess=SCALED())
    scaled.freeze()
    trainer = fnn.Trainer(scaled)
    message = r"no parameter is trainable, as all layers with some that a loss depends on are frozen \(linear_1, batch_norm_1, linear_2\): "
    message += r"call model.unfreeze\('linear_2'\)"
    for what in ("fit", "step"):
        with pytest.raises(RuntimeError, match=f"{what}: {message}"):
            getattr(trainer, what)(X, y)
    assert not scaled.built
    assert not scaled.preprocess.fitted
    with pytest.raises(fnn.TrainManyError, match="fit: no parameter is trainable"):
        fnn.train_many([trainer], X, y)
    scaled.unfreeze("linear_2")
    trainer.fit(X, y, epochs=1, verbose=0)
    scaled.freeze()
    before = scaled.state_dict()
    for what in ("fit", "step"):
        with pytest.raises(RuntimeError, match=f"{what}: {message}"):
            getattr(trainer, what)(X, y)
    # What reads gradients alone goes on: those of the inputs flow through frozen layers.
    trainer.forward(X)
    assert trainer.backward(np.ones((20, 3), np.float32), input_gradient=True).any()
    with pytest.raises(RuntimeError, match=f"update: {message}"):
        trainer.update()
    assert trainer.gradients(X, y) == {}
    assert set(trainer.evaluate(X, y)) == {"loss", "accuracy"}
    with pytest.raises(RuntimeError, match=f"gradient_check: {message}"):
        fnn.diagnose.gradient_check(scaled, X, y)
    for name, array in scaled.state_dict().items():
        assert_same_bits(array, before[name], name)


def test_what_a_loss_depends_on_must_be_trainable():
    X, y = rows()
    h = nn.Tanh()(nn.Linear(4)(x))
    model = nn.Model(x, {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h)})
    trainer = fnn.Trainer(model, {"kind": "softmax_cross_entropy"})
    model.freeze("linear_1", "linear_2")  # linear_3 is not, and no loss needs it
    for what in ("fit", "step"):
        with pytest.raises(RuntimeError, match=rf"{what}: no parameter is trainable.* \(linear_1, linear_2\)"):
            getattr(trainer, what)(X, y)
    trainer.loss = {"size": "mean_squared_error"}
    trainer.step(X, {"size": X[:, 0]})


def test_a_model_without_parameters_is_not_trained():
    X, _ = rows()
    with pytest.raises(RuntimeError, match="fit: there are no parameters to train in the layers flatten_1, relu_1"):
        fnn.Trainer(nn.Sequential(nn.Flatten(), nn.ReLU()), "mean_squared_error").fit(X, X, verbose=0)


def test_a_sigmoid_of_a_sigmoid_is_refused():
    X, y = rows()
    trainer = fnn.Trainer(net(nn.Sigmoid()), "binary_cross_entropy")
    with pytest.raises(ValueError, match="the model ends in 'sigmoid_1', and the loss BinaryCrossEntropy"):
        trainer.fit(X, np.eye(3)[y], verbose=0)
    fnn.Trainer(net(nn.Sigmoid()), "mean_squared_error").fit(X, np.eye(3)[y], epochs=1, verbose=0)


def fit(**settings):
    fnn.Trainer(net()).fit(*rows(), verbose=0, **settings)


def behind_forward():
    trainer = fnn.Trainer(net())
    trainer.forward(rows()[0])
    return trainer


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
    "shape": (
        lambda: net().build("a"),
        TypeError,
        r"build: 'input_shape' is 'a', expected whole numbers, such as \(784,\)",
    ),
    "half a size": (lambda: net().build(3.5), TypeError, "build: 'input_shape' is 3.5, expected whole numbers"),
    "a size of": (lambda: net().build((3, "4")), TypeError, r"build: 'input_shape' is \(3, '4'\), expected whole"),
    "no size": (lambda: net().build(True), TypeError, "build: 'input_shape' is True, expected whole numbers"),
    "shape in a dict": (lambda: net().build({"X": None}), TypeError, "build: 'input_shape' is None, expected whole"),
    "size of 0": (lambda: net().build((3, 0)), ValueError, r"build: 'input_shape' is \(3, 0\), expected sizes of 1"),
    "seed": (lambda: net().build(6, seed="a"), TypeError, "build: 'seed' is 'a', expected a whole number"),
    "seed under 0": (lambda: net().build(6, seed=-1), ValueError, "build: 'seed' is -1, expected 0 or more"),
    "seed of a head": (lambda: net().build(6).replace_head(nn.Linear(2), seed=0.5), TypeError, "'seed' is 0.5"),
    "input": (lambda: nn.Input("a"), TypeError, "Input: 'shape' is 'a', expected whole numbers"),
    "input of": (lambda: nn.Input((2.5,)), TypeError, r"Input: 'shape' is \(2.5,\), expected whole numbers"),
    "name": (lambda: nn.Input(3, name=3), TypeError, "Input: 'name' is 3, expected a string"),
    "model of a number": (lambda: nn.Model(3, x), TypeError, "Model: 'inputs' holds 3, expected what nn.Input"),
    "threads": (lambda: fnn.set_num_threads("a"), TypeError, "set_num_threads: 'n' is 'a', expected a whole number"),
    "half a thread": (lambda: fnn.set_num_threads(1.5), TypeError, "set_num_threads: 'n' is 1.5, expected a whole"),
    "threads under 0": (lambda: fnn.set_num_threads(-1), ValueError, "set_num_threads: 'n' is -1, expected 1 to 32767"),
    "many threads": (lambda: fnn.set_num_threads(2**40), ValueError, "set_num_threads: 'n' is 1099511627776"),
    "gelu": (
        lambda: fnn.functional.gelu(np.ones(3), approximate="no such"),
        ValueError,
        "gelu: unknown form 'no such'; known: none, tanh",
    ),
    "gelu_backward": (
        lambda: fnn.functional.gelu_backward(np.ones(3), np.ones(3), approximate="tan"),
        ValueError,
        "gelu_backward: unknown form 'tan', did you mean 'tanh'",
    ),
    "ragged": (lambda: net().build(6)([[1, 2], [3]]), ValueError, "'X' is list of rows of different shapes"),
    "a pair": (
        lambda: fit(X_val=rows()),
        ValueError,
        "'X_val' is tuple of rows of different shapes, expected one array",
    ),
    "frozen list": (lambda: net().freeze(["linear_1"]), TypeError, r"\['linear_1'\] is no name of a layer"),
    "state": (lambda: net().build(6).load_state_dict(None), TypeError, "'state' is NoneType, expected arrays by name"),
    "rows of a predictor": (lambda: net().build(6).predictor("a"), TypeError, "'max_batch' is 'a', expected a whole"),
    "no rows of one": (lambda: net().build(6).predictor(1, 0), ValueError, "'threads' is 0, expected 1 or more"),
    "gradient": (
        lambda: behind_forward().backward("a"),
        TypeError,
        "backward: 'dscores' has dtype <U1, expected numbers",
    ),
    "trainers": (lambda: fnn.train_many(fnn.Trainer(net()), *rows()), TypeError, "'trainers' is <.*>, expected a list"),
    "metrics": (lambda: fnn.Trainer(net(), metrics=3), TypeError, "Trainer: 'metrics' is 3, expected names"),
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


def test_layers_are_told_floats_from_whole_numbers_where_they_are_called():
    floats = r"Embedding: called on .*, which holds floats; make it nn.Input\(shape, dtype='int64'\)"
    for called in (x, nn.Linear(3)(x), nn.Flatten()(x)):
        with pytest.raises(TypeError, match=floats):
            nn.Embedding(5, 3)(called)
    words = nn.Input((4,), name="words", dtype="int64")
    for layer in (nn.Linear(3), nn.ReLU(), nn.Dropout(0.1), nn.BatchNorm()):
        for called in (words, nn.Flatten()(words)):
            message = (
                rf"{type(layer).__name__}: called on .*, which holds whole numbers, expected floats; put nn.Embedding"
            )
            with pytest.raises(TypeError, match=message):
                layer(called)
    with pytest.raises(TypeError, match="Concat: called on <rows of shape .* from Input 'words'>"):
        nn.Concat()(nn.Embedding(7, 3)(words), words)
    vectors = nn.Flatten()(nn.Embedding(7, 3)(nn.Flatten()(words)))
    assert nn.Model(words, nn.Linear(2)(vectors)).predict(np.zeros((3, 4), np.int64)).shape == (3, 2)
    chain = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(3))
    with pytest.raises(ValueError, match=r"embedding_1: .* make the model from nn.Input\(shape, dtype='int64'\)"):
        fnn.Trainer(chain).fit(*rows(), verbose=0)
