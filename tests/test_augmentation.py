"""Augmentation: what is drawn, what reaches training, and that prediction never sees it."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn
from pyfastnn import functional as F
from pyfastnn.reference.augment import draw
from pyfastnn.testing import assert_same_bits, rng_of

RNG = rng_of("augmentation")
IMAGES = RNG.integers(0, 256, (60, 8, 7, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 60)
LAYERS = {
    "flip": lambda: nn.RandomFlip(),
    "vertical": lambda: nn.RandomFlip(horizontal=False, vertical=True),
    "crop": lambda: nn.RandomCrop(padding=2),
    "cutout": lambda: nn.Cutout(3),
}


def trainer_of(*layers: nn.Layer, dtype: str = "float32", **settings) -> fnn.Trainer:
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4), preprocess=fnn.data.Center(per="channel"), dtype=dtype)
    return fnn.Trainer(model, seed=3, **settings)


def every_layer() -> list[nn.Layer]:
    return [nn.RandomCrop(padding=1), nn.RandomFlip(), nn.Cutout(2), nn.RandomFlip()]


def test_draws_are_uniform():
    """Each count is binomial; six deviations leave less than one false alarm in a hundred million."""
    n, pad, h, w = 40000, 3, 4, 5
    drawn = draw(n, h, w, flip=3, pad=pad, node=0, seed=1, step=1)
    codes = {
        "flips": (drawn["horizontal"] * 2 + drawn["vertical"], 4),
        "down": (drawn["down"] + pad, 2 * pad + 1),
        "right": (drawn["right"] + pad, 2 * pad + 1),
        "both shifts": ((drawn["down"] + pad) * (2 * pad + 1) + drawn["right"] + pad, (2 * pad + 1) ** 2),
        "centre": (drawn["row"] * w + drawn["column"], h * w),
    }
    for name, (code, choices) in codes.items():
        counts = np.bincount(code, minlength=choices)
        assert len(counts) == choices, name
        deviation = np.sqrt(n / choices * (1 - 1 / choices))
        assert np.abs(counts - n / choices).max() <= 6 * deviation, name


def test_an_image_alone_is_the_first_of_a_batch():
    x = RNG.standard_normal((19, 6, 5, 3)).astype("f4")
    whole = F.augment(x, 3, 2, 2, seed=9, step=4)
    for n in (1, 2, 5, 18):
        assert_same_bits(F.augment(np.ascontiguousarray(x[:n]), 3, 2, 2, seed=9, step=4), whole[:n])


@pytest.mark.parametrize("flip", [0, 1, 2, 3])
def test_nothing_is_invented(flip):
    """Flips keep the pixels of an image, crops and squares take some away."""
    x = np.arange(1.0, 1 + 30 * 5 * 4 * 2).reshape(30, 5, 4, 2)
    y = F.augment(x, flip, seed=2)
    assert_same_bits(np.sort(y.reshape(30, -1), axis=1), x.reshape(30, -1))
    z = F.augment(x, flip, pad=2, cutout=2, seed=2)
    for before, after in zip(x, z, strict=True):
        kept = after[after != 0]
        assert np.isin(kept, before).all()
        assert len(np.unique(kept)) == len(kept) < before.size


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_training_step_agrees_with_the_reference(name, dtype):
    trainer = trainer_of(LAYERS[name](), dtype=dtype)
    assert trainer.compare(IMAGES, LABELS) is None
    values, _ = trainer.trace(IMAGES, LABELS)
    ops = [node.op for node in trainer._compiled.train.graphs["train"].nodes]
    assert ops.count("augment") == 1
    assert ops.count("augment_backward") == 0  # the data want no gradient
    changed = [k for k in values if k.endswith(".y") and values[k].shape == (60, 8, 7, 3)]
    assert len(changed) == 1
    centred = trainer.model.preprocess.transform(IMAGES, dtype)
    same = (values[changed[0]] == centred).all(axis=(1, 2, 3))
    assert not same.all()


def test_layers_of_one_network_draw_for_themselves():
    trainer = trainer_of(*every_layer())
    trainer.step(IMAGES, LABELS)
    nodes = [n for n in trainer._compiled.train.graphs["train"].nodes if n.op == "augment"]
    assert len({n.attrs["node"] for n in nodes}) == 4
    dropout = trainer_of(nn.RandomFlip(), nn.Dropout(0.5))
    dropout.step(IMAGES, LABELS)
    numbers = [n.attrs["node"] for n in dropout._compiled.train.graphs["train"].nodes if "node" in n.attrs]
    assert len(set(numbers)) == len(numbers) == 2


def test_prediction_and_evaluation_see_the_images_as_they_are():
    trainer = trainer_of(*every_layer())
    trainer.fit(IMAGES, LABELS, epochs=2, verbose=0)
    plain = trainer_of()
    plain.step(IMAGES, LABELS)
    arrays = trainer.model.parameters
    plain.model.load_state_dict({k: arrays[f"linear_1.{k[-1]}"] for k in plain.model.parameters})
    assert_same_bits(trainer.model(IMAGES), plain.model(IMAGES))
    assert trainer.evaluate(IMAGES, LABELS) == plain.evaluate(IMAGES, LABELS)
    assert_same_bits(trainer.model.predictor()(IMAGES[:1]), plain.model(IMAGES[:1]))


def test_same_bits_for_any_number_of_threads():
    wanted = None
    before = _core.parallel_cost()
    _core.set_parallel_cost(0.0)
    try:
        for threads in (1, 2, 5):
            trainer = trainer_of(*every_layer(), threads=threads)
            trainer.fit(IMAGES, LABELS, epochs=3, batch_size=16, verbose=0)
            weights = trainer.model.parameters["linear_1.w"].copy()
            wanted = weights if wanted is None else wanted
            assert_same_bits(weights, wanted)
    finally:
        _core.set_parallel_cost(before)


def test_seed_and_epoch_decide():
    def weights(seed: int, epochs: int = 2) -> np.ndarray:
        trainer = trainer_of(nn.RandomCrop(padding=1))
        trainer.seed = seed
        for _ in range(epochs):
            trainer.fit(IMAGES, LABELS, epochs=1, batch_size=16, verbose=0)
        return trainer.model.parameters["linear_1.w"].copy()

    once = trainer_of(nn.RandomCrop(padding=1))
    once.fit(IMAGES, LABELS, epochs=2, batch_size=16, verbose=0)
    assert_same_bits(weights(3), once.model.parameters["linear_1.w"])
    assert not np.array_equal(weights(3), weights(4))


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    trainer = trainer_of(*every_layer())
    trainer.fit(IMAGES, LABELS, epochs=1, batch_size=16, verbose=0)
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert repr(again.model) == repr(trainer.model)
    for t in (trainer, again):
        t.fit(IMAGES, LABELS, epochs=2, batch_size=16, verbose=0)
    assert_same_bits(again.model.parameters["linear_1.w"], trainer.model.parameters["linear_1.w"])


def test_grey_images_without_a_channel():
    grey = np.ascontiguousarray(IMAGES[..., 0])
    flat, deep = (nn.Sequential(*every_layer(), nn.Flatten(), nn.Linear(4)) for _ in range(2))
    for model, rows in ((flat, grey), (deep, grey[..., None])):
        fnn.Trainer(model, seed=3, preflight=False).fit(rows, LABELS, epochs=1, verbose=0)
    assert_same_bits(flat.parameters["linear_1.w"], deep.parameters["linear_1.w"])


def test_gradient_flows_through_a_change_inside_a_network():
    """Batch norm before the change has parameters: the change passes their gradients back."""
    trainer = trainer_of(nn.BatchNorm(), *every_layer())
    assert trainer.compare(IMAGES, LABELS) is None
    ops = [n.op for n in trainer._compiled.train.graphs["train"].nodes]
    assert ops.count("augment_backward") == 4


def test_gradients_go_back_to_the_raw_pixels():
    """A pixel of the raw image gets the gradient of where it went, in the draw of this step."""
    trainer = trainer_of(nn.RandomCrop(padding=1), nn.RandomFlip(), dtype="float64")
    trainer.step(IMAGES, LABELS)
    base = IMAGES.astype(np.float64)
    dscores = RNG.standard_normal((60, 4))

    def objective(rows: np.ndarray) -> np.ndarray:
        return (trainer.forward(rows) * dscores).sum(axis=1)

    objective(base)
    gradient = trainer.backward(dscores, input_gradient=True).reshape(base.shape)
    direction = RNG.standard_normal(base.shape)
    difference = objective(base + direction) - objective(base)  # the network is linear in its input
    expected = (gradient * direction).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(difference, expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: nn.RandomFlip(horizontal=False), ValueError, "RandomFlip: 'horizontal' and 'vertical' are both False"),
        (lambda: nn.RandomCrop(padding=0), ValueError, "RandomCrop: 'padding' is 0, expected 1 to"),
        (lambda: nn.RandomCrop(padding=1.5), TypeError, "RandomCrop: 'padding' is 1.5, expected a whole number"),
        (lambda: nn.Cutout(True), TypeError, "Cutout: 'size' is True"),
        (lambda: nn.Cutout(size=2**21), ValueError, "Cutout: 'size' is 2097152"),
        (lambda: nn.Cutout(siz=3), TypeError, "unknown keyword 'siz', did you mean 'size'"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.RandomFlip(), nn.Linear(2)).build((8, 8)),
            ValueError,
            r"random_flip_1: RandomFlip: one row of the input has shape \(64,\), expected an image",
        ),
        (lambda: F.augment(np.ones((1, 2, 2, 1)), 4, seed=0), ValueError, "augment: 'flip' is 4, expected 0, 1, 2 or 3"),
        (lambda: F.augment(np.ones((1, 2, 2, 1)), pad=-1, seed=0), ValueError, "augment: 'pad' is -1"),
        (lambda: F.augment(np.ones((1, 2, 2, 1)), cutout=1.5, seed=0), ValueError, "augment: 'cutout' is 1.5"),
        (lambda: F.augment_backward(np.ones((1, 2, 2, 1)), seed=-1), ValueError, "augment_backward: 'seed' is -1"),
    ],
)  # fmt: skip
def test_bad_settings(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
