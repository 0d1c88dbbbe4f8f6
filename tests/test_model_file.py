"""Model files and checkpoints: what goes in comes out, and nothing damaged gets in."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.io import model_file, safetensors
from pyfastnn.io.safetensors import ModelFileError
from pyfastnn.nn.initializers import Normal
from pyfastnn.testing import assert_same_bits, rng_of

MODELS = {
    "linear": lambda: nn.Sequential(nn.Linear(3)),
    "no bias": lambda: nn.Sequential(
        nn.Linear(4, in_features=6, bias=False, init="zeros"), nn.Linear(3, init=Normal(0.01))
    ),
    "relu": lambda: nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(3)),
    "leaky_relu": lambda: nn.Sequential(nn.Linear(4), nn.LeakyReLU(0.125), nn.Linear(3)),
    "elu": lambda: nn.Sequential(nn.Linear(4), nn.ELU(0.5), nn.Linear(3)),
    "sigmoid": lambda: nn.Sequential(nn.Linear(4), nn.Sigmoid(), nn.Linear(3)),
    "tanh": lambda: nn.Sequential(nn.Linear(4, init="xavier_uniform"), nn.Tanh(), nn.Linear(3)),
    "exp": lambda: nn.Sequential(nn.Linear(4, init=Normal(0.01)), nn.Exp(), nn.Linear(3)),
    "selu": lambda: nn.Sequential(nn.Linear(4), nn.SELU(), nn.Linear(3)),
    "gelu": lambda: nn.Sequential(nn.Linear(4), nn.GELU(), nn.Linear(4), nn.GELU("tanh"), nn.Linear(3)),
    "silu": lambda: nn.Sequential(nn.Linear(4), nn.SiLU(), nn.Linear(3)),
    "softplus": lambda: nn.Sequential(nn.Linear(4), nn.Softplus(), nn.Linear(3)),
    "prelu": lambda: nn.Sequential(
        nn.Linear(4), nn.PReLU(), nn.Linear(4), nn.PReLU(shared=True, init=0.5), nn.Linear(3)
    ),
    "softmax": lambda: nn.Sequential(nn.Linear(4), nn.Softmax(), nn.Linear(4), nn.LogSoftmax(), nn.Linear(3)),
    "maxout": lambda: nn.Sequential(nn.Maxout(4), nn.Maxout(4, pieces=3, bias=False, init="zeros"), nn.Linear(3)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.25), nn.Linear(3)),
    "batch_norm": lambda: nn.Sequential(nn.BatchNorm(momentum=0.3, eps=1e-3), nn.Linear(3)),
    "flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3)),
    "float64": lambda: nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.Linear(3), dtype="float64"),
    "standardize": lambda: nn.Sequential(nn.Linear(3), preprocess=fnn.data.Standardize()),
    "center": lambda: nn.Sequential(nn.Linear(3), preprocess=fnn.data.Center(per="all")),
    "rescale": lambda: nn.Sequential(nn.Linear(3), preprocess=fnn.data.Rescale(0, 10)),
}
OPTIMIZERS = {
    "sgd": optim.SGD(0.1),
    "momentum": optim.SGD(0.1, momentum=0.9, weight_decay=1e-3),
    "nesterov": optim.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": optim.Adam(0.01, beta1=0.8, eps=1e-7),
    "adamw": optim.AdamW(0.01, weight_decay=0.2),
    "adagrad": optim.AdaGrad(0.01, l1=1e-3),
    "rmsprop": optim.RMSProp(optim.LinearWarmup(epochs=1) + optim.Cosine(0.01, epochs=3), momentum=0.5, ema=0.9),
    "clipped": optim.Adam("exponential", clip_norm=0.1, clip_value=0.2, max_norm=1.0, rate_factors={"linear_1": 0.1}),
}
RNG = rng_of("model file")
X = RNG.standard_normal((50, 6)).astype("f4")
Y = RNG.integers(0, 3, 50)


def trained(kind: str = "batch_norm", labels: np.ndarray = Y, **settings) -> fnn.Trainer:
    trainer = fnn.Trainer(MODELS[kind](), **settings)
    trainer.fit(X, labels, epochs=2, verbose=0)
    return trainer


def assert_same_model(got: nn.Model, want: nn.Model) -> None:
    assert repr(got) == repr(want)
    assert (got.dtype, got.input_shape, got.task) == (want.dtype, want.input_shape, want.task)
    assert list(got.arrays()) == list(want.arrays())
    for name, array in want.arrays().items():
        assert_same_bits(got.arrays()[name], array, name)
    assert (got.preprocess is None) == (want.preprocess is None)
    if want.preprocess is not None:
        assert repr(got.preprocess) == repr(want.preprocess)
        assert_same_bits(got.preprocess.shift_, want.preprocess.shift_)
        assert_same_bits(got.preprocess.scale_, want.preprocess.scale_)
    if want.classes_ is None:
        assert got.classes_ is None
    else:
        assert got.classes_.dtype == want.classes_.dtype
        assert got.classes_.tolist() == want.classes_.tolist()
    assert_same_bits(got(X), want(X))


@pytest.mark.parametrize("kind", MODELS)
def test_models_come_back(kind, tmp_path):
    model = trained(kind).model
    model.save(tmp_path / "m.safetensors")
    again = fnn.load(tmp_path / "m.safetensors")
    assert_same_model(again, model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert_same_bits(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "labels",
    [np.array(["no", "yes", "maybe"])[Y], np.array([-7, 0, 1000])[Y], Y.astype("u1"), Y == 1],
    ids=["strings", "gaps", "bytes", "bool"],
)
def test_labels_come_back(labels, tmp_path):
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(len(np.unique(labels)))))
    trainer.fit(X, labels, epochs=2, verbose=0)
    trainer.model.save(tmp_path / "m")
    again = fnn.load(tmp_path / "m")
    assert_same_model(again, trainer.model)
    assert again.predict(X).tolist() == trainer.model.predict(X).tolist()


def test_regression_comes_back(tmp_path):
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), loss="mean_squared_error")
    trainer.fit(X, X[:, :2], epochs=2, verbose=0)
    trainer.checkpoint(tmp_path / "c")
    assert_same_model(fnn.load(tmp_path / "c"), trainer.model)
    assert_same_bits(fnn.Trainer.resume(tmp_path / "c").model.predict(X), trainer.model.predict(X))


def test_images_keep_their_shape(tmp_path):
    images = RNG.integers(0, 256, (30, 2, 3)).astype(np.uint8)
    trainer = fnn.Trainer(nn.Sequential(nn.Flatten(), nn.Linear(3), preprocess=fnn.data.Standardize(per="all")))
    trainer.fit(images, Y[:30], epochs=1, verbose=0)
    trainer.model.save(tmp_path / "m")
    again = fnn.load(tmp_path / "m")
    assert again.input_shape == (2, 3)
    assert_same_bits(again(images), trainer.model(images))


def test_a_model_that_was_never_trained(tmp_path):
    model = nn.Sequential(nn.Linear(3), preprocess=fnn.data.Standardize()).build((6,))
    model.save(tmp_path / "m")
    again = fnn.load(tmp_path / "m")
    assert repr(again) == repr(model)
    assert again.preprocess is not None
    with pytest.raises(RuntimeError, match="is not fitted yet"):
        again(X)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_checkpoints_come_back(optimizer, tmp_path):
    trainer = trained(optimizer=copy.copy(OPTIMIZERS[optimizer]), seed=12, guard="lecture")
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert_same_model(again.model, trainer.model)
    assert repr(again.optimizer) == repr(trainer.optimizer)
    for name in ("seed", "guard", "epoch", "step_count", "first_loss"):
        assert getattr(again, name) == getattr(trainer, name), name
    assert again.history.rows == trainer.history.rows
    assert [type(v) for v in again.history.rows[0].values()] == [type(v) for v in trainer.history.rows[0].values()]
    for each in (trainer, again):
        each.fit(X, Y, epochs=2, verbose=0)
    assert_same_model(again.model, trainer.model)
    for name, slot in trainer.slots.items():
        assert_same_bits(again.slots[name], slot, name)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    trainer = trained()
    for name in ("a", "b"):
        trainer.checkpoint(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_unbuilt_models_cannot_be_saved(tmp_path):
    with pytest.raises(RuntimeError, match=r"call model.build\(\(784,\)\)"):
        MODELS["relu"]().save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_model_is_no_checkpoint(tmp_path):
    trained().model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match="a model without training state; pyfastnn.load reads it"):
        fnn.Trainer.resume(tmp_path / "m")


def test_other_files_are_refused(tmp_path):
    safetensors.write(tmp_path / "plain", {"a": np.zeros(3)}, {})
    with pytest.raises(ModelFileError, match="no pyfastnn model: its metadata do not say so"):
        fnn.load(tmp_path / "plain")
    (tmp_path / "text").write_text("hello, world")
    with pytest.raises(ModelFileError, match="text"):
        fnn.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        fnn.load(tmp_path / "none")


@pytest.mark.parametrize("version", ["2", "99", "", "x", "-1", "1.5", "9" * 400])
def test_files_of_a_later_version_say_so(version, tmp_path):
    tensors, metadata = model_file.to_file(trained().model)
    changed = {**metadata, "format_version": version, "pyfastnn_version": "7.8.9"}
    safetensors.write(tmp_path / "m", tensors, changed)
    with pytest.raises(ModelFileError, match=r"written by pyfastnn 7\.8\.9 .*this is .*; update pyfastnn to read it"):
        fnn.load(tmp_path / "m")


def test_files_of_this_version_are_read_by_later_ones(tmp_path, monkeypatch):
    trained().model.save(tmp_path / "m")
    monkeypatch.setattr(model_file, "FORMAT_VERSION", 5)
    fnn.load(tmp_path / "m")


# Damage


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Return the bytes with one kind of damage."""
    data = bytearray(raw)
    kind = rng.randrange(7)
    at = rng.randrange(len(data))
    header = 8 + int.from_bytes(raw[:8], "little")
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 3:
        del data[at : at + rng.randrange(1, 9)]
    elif kind == 4:
        other = rng.randrange(len(data))
        data[at : at + 16] = data[other : other + 16]
    elif kind == 5:  # digits, quotes and brackets of the header
        places = [k for k in range(8, header) if raw[k] in b'0123456789"[]{},:']
        data[rng.choice(places)] = rng.choice(b'0123456789"[]{},:-.e')
    else:
        data[rng.randrange(8)] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_a_thousand_damaged_files(kind, tmp_path):
    """Each is refused with ModelFileError, or differs in nothing that matters and loads identically."""
    trainer = trained(
        "standardize" if kind == "model" else "batch_norm", np.array(["a", "b", "c"])[Y], optimizer="adam"
    )
    path = tmp_path / "file"
    if kind == "model":
        trainer.model.save(path)
    else:
        trainer.checkpoint(path)
    raw = path.read_bytes()
    rng = random.Random(kind)
    refused = 0
    for _ in range(1000):
        data = mutated(raw, rng)
        path.write_bytes(data)
        try:
            model = fnn.load(path) if kind == "model" else fnn.Trainer.resume(path).model
        except ModelFileError:
            refused += data != raw
        else:
            assert_same_model(model, trainer.model)
    assert refused > 950


JUNK = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**53,
    10**400,
    -0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "linear",
    "x" * 300,
    [],
    [[]],
    {},
]
JUNK += [[1, 2], {"normal": -1}, {"normal": "x"}, {"kind": "linear"}, ["a", 1, None], [[1], [2, 3]]]


def places_in(tree: object, path: tuple = ()) -> list[tuple]:
    """Return the path of every value of a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(p for key, value in items for p in places_in(value, (*path, key)))]


def bent(tree: object, rng: random.Random) -> object:
    """Return a JSON tree with one value replaced by junk, or taken out, or doubled."""
    tree = copy.deepcopy(tree)
    *way, last = rng.choice(places_in(tree)[1:])
    parent = tree
    for key in way:
        parent = parent[key]
    kind = rng.randrange(4)
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(last, copy.deepcopy(parent[last]))
    else:
        parent[last] = copy.deepcopy(rng.choice(JUNK))
    return tree


def bent_tensors(tensors: dict[str, np.ndarray], rng: random.Random) -> dict[str, np.ndarray]:
    """Return tensors of which one is missing, renamed, or of another shape, dtype or content."""
    name = rng.choice(list(tensors))
    kind = rng.randrange(7)
    others = {k: a for k, a in tensors.items() if k != name}
    a = tensors[name]
    changed = {
        0: {},
        1: {rng.choice([name + "x", "preprocess.mean", "optimizer/x", "history/x", "w", "/"]): a},
        2: {name: a.reshape(-1)},
        3: {name: a.reshape(a.shape + (1,))},
        4: {name: np.zeros(a.shape, rng.choice(["f8", "f2", "i8", "u1", "?"]))},
        5: {name: np.full_like(a, np.nan)},
        6: {name: a[..., :-1]},
    }[kind]
    return {**others, **changed}


@pytest.mark.parametrize("where", ["architecture", "trainer", "tensors"])
def test_files_that_are_whole_but_wrong(where, tmp_path, monkeypatch):
    """With valid checksums the contents are judged: refused with ModelFileError, or a model that works, never anything else."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # four hundred times is slow
    trainer = trained("batch_norm", np.array([3, 5, 9])[Y], optimizer=optim.SGD(0.1, momentum=0.5))
    trainer.model.preprocess = fnn.data.Standardize().fit(X)
    trainer.checkpoint(tmp_path / "c")
    tensors, metadata = safetensors.read(tmp_path / "c")
    rng = random.Random(where)
    refused = loaded = 0
    for _ in range(400):
        if where == "tensors":
            safetensors.write(tmp_path / "m", bent_tensors(tensors, rng), metadata)
        else:
            text = json.dumps(bent(json.loads(metadata[where]), rng))
            safetensors.write(tmp_path / "m", tensors, {**metadata, where: text})
        try:
            again = fnn.Trainer.resume(tmp_path / "m")
        except ModelFileError as error:
            assert 0 < len(str(error)) < 2000
            refused += 1
        else:
            rows = np.zeros((4, *again.model.input_shape), np.float32)
            if again.model.preprocess is None or hasattr(again.model.preprocess, "shift_"):
                assert len(again.model.predict(rows)) == 4
            loaded += 1
    assert refused > 150
    assert loaded > 10


KILLED = r"""
import sys
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn

rng = np.random.default_rng(0)
X, y = rng.standard_normal((96, 200)).astype("f4"), rng.integers(0, 3, 96)
trainer = fnn.Trainer(nn.Sequential(nn.Linear(300), nn.BatchNorm(), nn.ReLU(), nn.Linear(3)), seed=5)


def save(trainer, row):
    trainer.checkpoint(sys.argv[1])
    if row["epoch"] == 1:
        print("saved", flush=True)


trainer.fit(X, y, epochs=int(sys.argv[2]), callbacks=[save] if sys.argv[2] == "100000" else [], verbose=0)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_killed_while_saving_leaves_a_file_that_loads(tmp_path):
    """Ten kills at different moments; the checkpoint left behind continues to the bits of an unbroken run."""
    path = tmp_path / "run.ckpt"
    rng = random.Random(0)
    epochs = []
    for _ in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), "100000"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        process.stdout.close()
        epochs.append(fnn.Trainer.resume(path).epoch)
    assert len(set(epochs)) > 1, f"always killed in the same epoch: {epochs}"
    left = sorted(p.name for p in tmp_path.iterdir())
    assert len(left) <= 2, f"files of dead writers pile up: {left}"

    data_rng = np.random.default_rng(0)
    rows, labels = data_rng.standard_normal((96, 200)).astype("f4"), data_rng.integers(0, 3, 96)
    resumed = fnn.Trainer.resume(path)
    resumed.fit(rows, labels, epochs=2, verbose=0)
    layers = (nn.Linear(300), nn.BatchNorm(), nn.ReLU(), nn.Linear(3))
    whole = fnn.Trainer(nn.Sequential(*layers), seed=5)
    whole.fit(rows, labels, epochs=resumed.epoch, verbose=0)
    for name, array in whole.model.state_dict().items():
        assert_same_bits(resumed.model.state_dict()[name], array, name)
