"""What an optimizer keeps for each parameter: begun anew where the parameter is, and corrected for its own start."""

from __future__ import annotations

import json

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.backends.cpu import HYPER
from pyfastnn.io import safetensors
from pyfastnn.io.safetensors import ModelFileError
from pyfastnn.nn.layer import Parameter
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train.hyper import hyper_rows
from pyfastnn.train.updates import COMMON, parameter_groups

RNG = rng_of("slots")
X = RNG.standard_normal((30, 6))
Y = np.arange(30) % 3
RATE = 1e-3


def trainer_of(optimizer=None, **settings):
    model = nn.Sequential(nn.Linear(5), nn.Tanh(), nn.Linear(3), dtype="float64")
    return fnn.Trainer(model, optimizer=optimizer or optim.Adam(RATE), seed=3, **settings)


def steps(trainer, count=5):
    for _ in range(count):
        trainer.step(X, Y)
    return trainer


def test_a_new_head_of_the_same_shape_begins_without_moments():
    trainer = steps(trainer_of(optim.Adam(RATE, ema=0.9)))
    before = {name: slot.copy() for name, slot in trainer.slots.items()}
    trainer.model.replace_head(nn.Linear(3), seed=9)
    head = {name: array.copy() for name, array in trainer.model.arrays().items()}
    slots = trainer.make_slots()
    assert list(slots) == list(before)
    for name, slot in slots.items():
        if name.startswith("linear_1"):
            assert_same_bits(slot, before[name], name)
        elif name.endswith(".ema"):
            assert_same_bits(slot, head[name.removesuffix(".ema")], name)
        else:
            assert not slot.any(), name


def test_running_means_are_those_of_the_parameters_there_are():
    trainer = steps(trainer_of(optim.Adam(RATE, ema=0.9)))
    trainer.model.replace_head(nn.Linear(3), seed=9)
    assert_same_bits(trainer.ema_model().arrays()["linear_2.w"], trainer.model.arrays()["linear_2.w"])
    trainer.model.freeze("linear_1")
    steps(trainer)
    trainer.model.unfreeze()
    assert_same_bits(trainer.ema_model().arrays()["linear_1.w"], trainer.model.arrays()["linear_1.w"])


@pytest.mark.parametrize("change", ["head", "unfreeze", "build", "rule"])
def test_the_first_step_of_adam_is_that_of_its_first_step(change):
    """Corrected for its start, the first step moves every weight by the rate, whichever step of the run it is."""
    trainer = trainer_of(optim.Adam(RATE, eps=1e-30))
    if change == "unfreeze":
        trainer.model.build(6, seed=3)
        trainer.model.freeze("linear_2")
    if change == "rule":
        trainer.optimizer = optim.SGD(0.1, momentum=0.9)
    steps(trainer, 50)
    if change == "head":
        trainer.model.replace_head(nn.Linear(3), seed=9)
    elif change == "unfreeze":
        trainer.model.unfreeze()
    elif change == "build":
        trainer.model.build(seed=8)
    else:
        trainer.optimizer = optim.Adam(RATE, eps=1e-30)
    trainer.make_slots()
    before = trainer.model.state_dict()
    steps(trainer, 1)
    moved = np.abs(trainer.model.arrays()["linear_2.w"] - before["linear_2.w"])
    np.testing.assert_allclose(moved, RATE, rtol=1e-9)
    assert trainer.step_count == 51


@pytest.mark.parametrize("rule", ["Adam", "AdamW"])
def test_freezing_and_new_heads_are_as_in_torch(rule):
    torch = pytest.importorskip("torch", reason="compares with torch.optim")
    ours = trainer_of(getattr(optim, rule)(0.01, weight_decay=0.1))
    ours.model.build(6, seed=3)
    leaves = {k: torch.tensor(v.copy(), requires_grad=True) for k, v in ours.model.arrays().items()}
    weights = [leaves[k] for k in leaves if k.endswith("w")]
    biases = [leaves[k] for k in leaves if k.endswith("b")]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    theirs = getattr(torch.optim, rule)(groups, lr=0.01, weight_decay=0.1)

    def their_steps(count, frozen=()):
        for _ in range(count):
            theirs.zero_grad()
            h = torch.tanh(torch.tensor(X) @ leaves["linear_1.w"] + leaves["linear_1.b"])
            scores = h @ leaves["linear_2.w"] + leaves["linear_2.b"]
            torch.nn.functional.cross_entropy(scores, torch.tensor(Y)).backward()
            for name in frozen:
                leaves[name].grad = None
            theirs.step()

    def check(what):
        for name, leaf in leaves.items():
            np.testing.assert_allclose(
                ours.model.arrays()[name], leaf.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=f"{what} {name}"
            )

    ours.model.freeze("linear_1")
    steps(ours, 7)
    their_steps(7, ("linear_1.w", "linear_1.b"))
    check("frozen")
    ours.model.unfreeze()
    steps(ours, 5)
    their_steps(5)
    check("unfrozen")
    ours.model.replace_head(nn.Linear(3), seed=11)
    for group, name in ((0, "linear_2.w"), (1, "linear_2.b")):
        fresh = torch.tensor(ours.model.arrays()[name].copy(), requires_grad=True)
        at = next(i for i, p in enumerate(theirs.param_groups[group]["params"]) if p is leaves[name])
        theirs.state.pop(leaves[name])
        theirs.param_groups[group]["params"][at] = leaves[name] = fresh
    steps(ours, 5)
    their_steps(5)
    check("new head")


def changed_trainer():
    trainer = trainer_of(optim.Adam(RATE, weight_decay=0.01, rate_factors={"linear_1": 0.5}))
    trainer.model.freeze("linear_1")
    steps(trainer, 4)
    trainer.model.unfreeze()
    return steps(trainer, 3)


def test_one_step_and_an_epoch_of_one_step_have_the_same_bits():
    one, other, parts = (changed_trainer() for _ in range(3))
    steps(one, 1)
    other.fit(X, Y, epochs=1, batch_size=30, shuffle=False, verbose=0)
    for name, array in {**one.model.arrays(), **one.slots}.items():
        assert_same_bits({**other.model.arrays(), **other.slots}[name], array, name)
    p = np.exp(parts.forward(X))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(30), Y] -= 1
    parts.backward(p / 30)
    parts.update()
    for name, array in {**one.model.arrays(), **one.slots}.items():
        np.testing.assert_allclose(
            {**parts.model.arrays(), **parts.slots}[name], array, rtol=1e-9, atol=1e-12, err_msg=name
        )
    assert one.compare(X, Y) is None


def test_a_checkpoint_knows_where_each_parameter_began(tmp_path):
    trainer = changed_trainer()
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert again.slots.begun == trainer.slots.begun == {"linear_1.w": 4, "linear_1.b": 4}
    for each in (trainer, again):
        steps(each, 3)
    for name, array in {**trainer.model.arrays(), **trainer.slots}.items():
        assert_same_bits({**again.model.arrays(), **again.slots}[name], array, name)


@pytest.mark.parametrize("begun", [3, {"linear_3.w": 1}, {"linear_1.w": -1}, {"linear_1.w": 99}, {"linear_1.w": "a"}])
def test_a_checkpoint_that_says_nonsense_about_it_is_refused(tmp_path, begun):
    changed_trainer().checkpoint(tmp_path / "c")
    tensors, metadata = safetensors.read(tmp_path / "c")
    settings = {**json.loads(metadata["trainer"]), "begun": begun}
    safetensors.write(tmp_path / "c", tensors, {**metadata, "trainer": json.dumps(settings)})
    with pytest.raises(ModelFileError, match="does not describe a training run"):
        fnn.Trainer.resume(tmp_path / "c")


def test_rules_that_count_no_steps_have_no_rows_for_it():
    trainer = trainer_of(optim.SGD(0.1, momentum=0.9))
    trainer.model.freeze("linear_1")
    steps(trainer)
    trainer.model.unfreeze()
    steps(trainer)
    assert trainer.slots.begun == {}
    assert trainer._compiled.groups == COMMON


def test_rows_of_hyper_count_from_where_a_parameter_began():
    arrays = {k: Parameter("w", (1,), "zeros", decay=True) for k in ("a.w", "b.w")}
    groups = parameter_groups(arrays, {}, {"b.w": 10})
    assert groups.begun == (0, 0, 10)
    assert groups.of == {"a.w": 0, "b.w": 2}
    rows = hyper_rows(optim.Adam(0.1, beta1=0.5), 11, 2, 0, groups)
    assert rows[:, 2, HYPER["correction1"]].tolist() == [0.5, 0.75]
    assert rows[:, 0, HYPER["correction1"]].tolist() == [1 - 0.5**11, 1 - 0.5**12]
    assert rows[:, :, HYPER["step"]].tolist() == [[11.0] * 3, [12.0] * 3]
