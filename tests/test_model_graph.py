"""Models that are graphs: branches, shared layers, several inputs and outputs, frozen layers, new heads."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, rng_of


def toy(rows=90, features=6):
    rng = rng_of("model graph")
    X = rng.standard_normal((rows, features)).astype("f4")
    return X, (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 0)


def branched(dtype="float32", **kwargs) -> nn.Model:
    x = nn.Input((6,))
    h = nn.ReLU()(nn.Linear(8)(x))
    shared = nn.Linear(8)
    a = nn.Tanh()(shared(h))
    b = nn.Sigmoid()(shared(a))
    return nn.Model(x, nn.Linear(3)(b), dtype=dtype, **kwargs)


def test_names_and_arrays_of_a_branched_model():
    model = branched()
    assert list(model.layers) == ["linear_1", "relu_1", "linear_2", "tanh_1", "sigmoid_1", "linear_3"]
    assert list(model.arrays()) == [f"linear_{k}.{a}" for k in (1, 2, 3) for a in "wb"]
    assert len(model.network.calls) == 7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_shared_layer_gets_both_gradients(dtype):
    X, y = toy()
    trainer = fnn.Trainer(branched(dtype), seed=1)
    assert trainer.compare(X[:30], y[:30]) is None
    exact = fnn.Trainer(branched("float64"), seed=1)
    exact.model.build(seed=1)
    found = exact.gradients(X[:30].astype("f8"), y[:30])["linear_2.w"]
    w = exact.model.arrays()["linear_2.w"]
    step = 1e-6

    def loss_at(change):
        w[2, 3] += change
        value = exact.evaluate(X[:30].astype("f8"), y[:30])["loss"]
        w[2, 3] -= change
        return value

    assert found[2, 3] == pytest.approx((loss_at(step) - loss_at(-step)) / (2 * step), rel=1e-6)


def test_training_saving_copying_a_branched_model(tmp_path):
    X, y = toy()
    trainer = fnn.Trainer(branched(preprocess=fnn.data.Standardize()), optimizer=optim.Adam(0.02), seed=2)
    trainer.fit(X, y, epochs=30, verbose=0)
    assert trainer.evaluate(X, y)["accuracy"] > 0.8
    trainer.model.save(tmp_path / "m.safetensors")
    for again in (
        fnn.load(tmp_path / "m.safetensors"),
        copy.deepcopy(trainer.model),
        pickle.loads(pickle.dumps(trainer.model)),
    ):
        assert_same_bits(again(X), trainer.model(X), "scores")
        assert repr(again) == repr(trainer.model)
    trainer.checkpoint(tmp_path / "c")
    second = fnn.Trainer.resume(tmp_path / "c")
    for each in (trainer, second):
        each.fit(X, y, epochs=1, verbose=0)
    assert_same_bits(second.model(X), trainer.model(X), "continued")


def test_an_embedding_free_input_of_images_keeps_its_shape():
    x = nn.Input((4, 3, 2))
    model = nn.Model(x, nn.Linear(2)(nn.Flatten()(nn.BatchNorm()(x))))
    X = rng_of("images").standard_normal((20, 4, 3, 2)).astype("f4")
    assert model.declared["batch_norm_1.gamma"].shape == (2,)
    assert fnn.Trainer(model).compare(X, np.arange(20) % 2) is None
    assert model(X).shape == (20, 2)


def test_mistakes_when_a_model_is_made():
    x, other = nn.Input((6,)), nn.Input((6,), name="other")
    y = nn.Linear(2)(x)
    cases = [
        (lambda: nn.Model(other, y), ValueError, "not among the inputs"),
        (lambda: nn.Model([x, other], y), ValueError, "has no name"),
        (lambda: nn.Model({"a": x, "b": other}, y), ValueError, "no output depends on the input 'b'"),
        (lambda: nn.Model(x, []), ValueError, "'outputs' is empty"),
        (lambda: nn.Model(x, [1]), TypeError, "'outputs' holds 1"),
        (lambda: nn.Model(y, y), ValueError, "expected nn.Input"),
        (lambda: nn.Linear(2)(np.zeros((3, 4))), TypeError, "called on ndarray"),
        (lambda: nn.Linear(2)(), TypeError, "called on nothing"),
        (lambda: nn.Input((0,)), ValueError, "'shape' is"),
        (lambda: nn.Input(()), ValueError, "'shape' is"),
        (lambda: nn.Input((3,), dtype="int32"), ValueError, "'dtype' is 'int32'"),
        (lambda: nn.Input((3,), name="a.b"), ValueError, "'name' is 'a.b'"),
        (lambda: nn.Linear(2)(nn.Input((3, 4))), ValueError, "put nn.Flatten"),
    ]
    for make, error, message in cases:
        with pytest.raises(error, match=message):
            make()


# Fine-tuning


def test_frozen_layers_keep_their_bits():
    X, y = toy()
    model = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Linear(3))
    trainer = fnn.Trainer(model, optimizer=optim.SGD(0.1, momentum=0.9, weight_decay=0.1))
    trainer.fit(X, y, epochs=2, verbose=0)
    model.freeze("linear_1", "batch_norm_1")
    before = model.state_dict()
    trainer.fit(X, y, epochs=2, verbose=0)
    changed = {k for k, v in model.state_dict().items() if (v != before[k]).any()}
    assert changed == {"linear_2.w", "linear_2.b"}
    assert set(trainer.gradients(X, y)) == changed
    assert trainer.compare(X, y) is None
    model.unfreeze()
    trainer.fit(X, y, epochs=1, verbose=0)
    assert (model.arrays()["linear_1.w"] != before["linear_1.w"]).any()
    with pytest.raises(ValueError, match="linear_1"):
        model.freeze("linear1")


def test_frozen_layers_are_saved(tmp_path):
    model = branched()
    model.freeze("linear_1")
    model.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m").frozen == {"linear_1"}


@pytest.mark.parametrize("make", [branched, lambda: nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(3))])
def test_replace_head(make):
    X, y = toy()
    model = make()
    fnn.Trainer(model).fit(X, y, epochs=1, verbose=0)
    before = model.state_dict()
    last = [k for k in model.layers if k.startswith("linear")][-1]
    model.replace_head(nn.Linear(2))
    assert model.classes_ is None
    for name, array in model.arrays().items():
        if name.startswith(last):
            assert array.shape[-1] == 2
        else:
            assert_same_bits(array, before[name], name)
    trainer = fnn.Trainer(model)
    trainer.fit(X, np.where(y > 0, "some", "none"), epochs=1, verbose=0)
    assert list(model.classes_) == ["none", "some"]
    with pytest.raises(ValueError, match="in_features is 99"):
        model.replace_head(nn.Linear(2, in_features=99))
    assert model(X).shape == (len(X), 2)


def test_copy_from():
    net, target = branched().build(seed=1), branched().build(seed=2)
    first = target.state_dict()
    target.copy_from(net, tau=0.25)
    for name, array in target.arrays().items():
        want = first[name] + np.float32(0.25) * (net.arrays()[name] - first[name])
        np.testing.assert_allclose(array, want, rtol=1e-6, atol=1e-7)
    target.copy_from(net)
    for name, array in target.arrays().items():
        assert_same_bits(array, net.arrays()[name], name)
    for tau in (0, 1.5, -1):
        with pytest.raises(ValueError, match="'tau'"):
            target.copy_from(net, tau=tau)
    with pytest.raises(ValueError, match="other names or shapes"):
        target.copy_from(nn.Sequential(nn.Linear(3)).build(6), tau=0.5)


def test_a_frozen_batch_norm_passes_gradients_on():
    """After a trained layer: its statistics are constants, and what stands before it learns."""
    X, y = toy()
    model = nn.Sequential(nn.Linear(8), nn.BatchNorm(), nn.Tanh(), nn.Linear(3), dtype="float64")
    trainer = fnn.Trainer(model, optimizer=optim.SGD(0.1))
    X = X.astype("f8")
    trainer.fit(X, y, epochs=2, verbose=0)
    model.freeze("batch_norm_1")
    before = model.state_dict()
    found = trainer.gradients(X, y)["linear_1.w"]
    assert trainer.compare(X[:20], y[:20]) is None
    w = model.arrays()["linear_1.w"]
    w[...] = before["linear_1.w"]
    for name, array in model.arrays().items():
        array[...] = before[name]
    values = []
    for step in (1e-6, -1e-6):
        w[2, 3] += step
        values.append(trainer.evaluate(X, y)["loss"])
        w[2, 3] -= step
    assert found[2, 3] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)
    trainer.fit(X, y, epochs=1, verbose=0)
    for name, array in model.state_dict().items():
        assert (array == before[name]).all() == name.startswith("batch_norm"), name


# Outputs that are one value, or one value read with two shapes


def looked_at_twice() -> nn.Model:
    x = nn.Input((6, 6, 2))
    h = nn.Tanh()(nn.Conv2d(3, 3)(x))
    flat = nn.Flatten()(h)
    return nn.Model(x, {"map": h, "flat": flat, "again": h, "last": nn.Linear(2)(flat)}, dtype="float64")


def test_outputs_may_share_a_value(tmp_path):
    """Each has its own array, loss and gradient: of two squared errors of one value the gradients add up."""
    model = looked_at_twice()
    X = rng_of("shared outputs").standard_normal((12, 6, 6, 2))
    found = model(X)
    model.save(tmp_path / "m")
    for name, scores in fnn.load(tmp_path / "m")(X).items():
        assert_same_bits(found[name], scores, name)
    assert_same_bits(found["again"], found["map"])
    assert_same_bits(found["flat"], found["map"].reshape(12, -1))
    assert not np.shares_memory(found["again"], found["map"])
    y = {name: np.ones_like(scores) for name, scores in found.items()}
    losses = dict.fromkeys(y, "mean_squared_error")
    trainer = fnn.Trainer(model, losses)
    assert trainer.compare(X, y) is None
    assert fnn.diagnose.gradient_check(model, X, y, loss=losses)
    once = fnn.Trainer(model, {"flat": "mean_squared_error"}).gradients(X, y["flat"])
    thrice = fnn.Trainer(model, {k: losses[k] for k in ("map", "flat", "again")}).gradients(
        X, {k: y[k] for k in ("map", "flat", "again")}
    )
    for name, gradient in once.items():
        np.testing.assert_allclose(thrice[name], 3 * gradient, rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_step_taken_apart_of_outputs_that_share_a_value():
    """The gradients from outside are those of the losses: the same update."""
    X = rng_of("shared outputs").standard_normal((12, 6, 6, 2))
    trainers = [fnn.Trainer(looked_at_twice(), {"flat": "mean_squared_error"}, optim.SGD(0.1)) for _ in range(2)]
    scores = trainers[0].forward(X)
    assert {k: v.shape[1:] for k, v in scores.items()} == trainers[0].model.output_shapes()
    part = {"map": 1.0, "flat": 2.0, "again": -1.0, "last": 0.0}
    size = scores["flat"].size
    shared = (scores["flat"] - 1) / size  # the parts of the other two cancel out
    given = {k: part[k] * shared.reshape(v.shape) if k != "last" else 0 * v for k, v in scores.items()}
    trainers[0].backward(given)
    trainers[0].update()
    trainers[1].step(X, np.ones((12, size // 12)))
    for name, array in trainers[1].model.state_dict().items():
        np.testing.assert_allclose(trainers[0].model.state_dict()[name], array, rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_step_taken_apart_of_a_model_that_ends_in_flatten():
    model = nn.Sequential(nn.Conv2d(3, 3), nn.Flatten(), dtype="float64")
    trainer = fnn.Trainer(model, "mean_squared_error", optim.SGD(0.1))
    X = rng_of("ends in flatten").standard_normal((7, 5, 5, 2))
    assert_same_bits(trainer.forward(X), model(X))
    trainer.backward(np.ones((7, 27)))
    before = model.state_dict()["conv2d_1.b"]
    trainer.update()
    np.testing.assert_allclose(before - model.arrays()["conv2d_1.b"], np.full(3, 0.1 * 7 * 9), rtol=1e-12)
