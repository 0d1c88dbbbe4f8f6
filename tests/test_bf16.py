"""Training in precision "bf16": the rewrite, its switch, what it refuses, files, and that it learns as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn
from pyfastnn.graph.rewrites import to_bf16
from pyfastnn.io import safetensors
from pyfastnn.nn.losses import SoftmaxCrossEntropy
from pyfastnn.optim import Adam
from pyfastnn.reference.linear_bf16 import round_bf16
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train.compiled import training_graph

HERE = _core.multiplies_bf16()
needs_bf16 = pytest.mark.skipif(not HERE, reason="the processor or the forced instruction set has no AVX512-BF16")


def model_of(dtype: str = "float32") -> nn.Sequential:
    return nn.Sequential(nn.Linear(64), nn.BatchNorm(), nn.ReLU(), nn.Linear(40), nn.Tanh(), nn.Linear(10), dtype=dtype)


def products(graph) -> list[tuple[str, str | None]]:
    return [(n.op, n.outputs[0]) for n in graph.nodes if n.op.startswith("linear") and "db" not in n.op]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_rounding_of_the_reference(dtype):
    """Against the definition by bits of float32: add half, ties to even, cut."""
    x = rng_of("rounding").integers(0, 2**32, 100_000, dtype=np.uint32)
    x[: 2**13] = np.arange(2**13, dtype=np.uint32) << 19 | 0x8000  # ties
    numbers = x.view(np.float32)
    x = x[np.isfinite(numbers) & (np.abs(numbers) >= 2.0**-126)]
    want = ((x + 0x7FFF + (x >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    assert_same_bits(round_bf16(x.view(np.float32).astype(dtype)).astype(np.float32), want, "normal numbers")
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-127, -(2.0**-149)], dtype)
    assert_same_bits(
        round_bf16(special)[:4].astype(np.float32), np.array([0, -0.0, np.inf, -np.inf], np.float32), "special"
    )
    assert np.isnan(round_bf16(special)[4])
    assert (round_bf16(special)[5:] == 0).all()


def test_the_rewrite_takes_wide_products_and_leaves_narrow_ones():
    model = model_of()
    model.build((50,))
    plain = training_graph(model, SoftmaxCrossEntropy(), Adam(), hoist=False)
    before = [n.op for n in plain.nodes]
    rounded = to_bf16(plain)
    assert [n.op for n in plain.nodes] == before
    assert [op.removesuffix("_bf16") for op, _ in products(rounded)] == [op for op, _ in products(plain)]
    taken = sorted(op for op, _ in products(rounded) if op.endswith("_bf16"))
    assert taken == ["linear_dw_bf16"] * 2 + ["linear_dx_bf16"] + ["linear_forward_bf16"] * 2
    left = sorted(op for op, _ in products(rounded) if not op.endswith("_bf16"))
    assert left == ["linear_dw", "linear_dx", "linear_forward"]
    for old, new in zip(plain.nodes, rounded.nodes, strict=True):
        assert (old.inputs, old.outputs, old.attrs, old.group) == (new.inputs, new.outputs, new.attrs, new.group)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_switch(bf16):
    model = model_of()
    model.build((50,))
    graph = training_graph(model, SoftmaxCrossEntropy(), Adam(), bf16=bf16)
    assert any(n.op.endswith("_bf16") for n in graph.nodes) is bf16


def data(rows: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = rng_of("bf16 data")
    return rng.standard_normal((rows, 50)).astype("f4"), rng.integers(0, 10, rows)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="unknown precision 'bf61', did you mean 'bf16'"):
        fnn.Trainer(model_of(), precision="bf61")
    with pytest.raises(ValueError, match="models of float32, this one is float64"):
        fnn.Trainer(model_of("float64"), precision="bf16")
    assert fnn.Trainer(model_of("float64")).precision == "float32"


@pytest.mark.parametrize("isa", [i for i in _core.compiled_isas() if i != "avx512"] + ([] if HERE else [None]))
def test_a_processor_without_it_is_an_error_that_names_the_feature(isa, tmp_path):
    code = (
        "from pyfastnn import nn, Trainer\n"
        "try:\n    Trainer(nn.Sequential(nn.Linear(3)), precision='bf16')\n"
        "except RuntimeError as e:\n    print(e)"
    )
    environment = {**os.environ, **({"PYFASTNN_ISA": isa} if isa else {})}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "AVX512-BF16" in ran.stdout


@needs_bf16
def test_every_node_is_within_its_bound():
    X, y = data()
    trainer = fnn.Trainer(model_of(), precision="bf16", seed=3)
    assert trainer.compare(X, y) is None
    trainer.step(X, y)
    assert "linear_forward_bf16" in trainer.describe()
    assert trainer.compare(X, y) is None


@needs_bf16
def test_bits_do_not_depend_on_threads():
    X, y = data(1500)
    results = []
    for threads in (1, 2, 5):
        model = nn.Sequential(nn.Linear(600), nn.ReLU(), nn.Linear(300), nn.ReLU(), nn.Linear(10))
        trainer = fnn.Trainer(model, precision="bf16", threads=threads)
        before = _core.parallel_cost()
        _core.set_parallel_cost(0.0)
        try:
            trainer.fit(X, y, epochs=2, batch_size=500, verbose=0)
        finally:
            _core.set_parallel_cost(before)
        results.append(model.state_dict())
    for other in results[1:]:
        for name, array in results[0].items():
            assert_same_bits(other[name], array, name)


@needs_bf16
def test_evaluation_stays_float32():
    X, y = data()
    trainer = fnn.Trainer(model_of(), precision="bf16")
    trainer.fit(X, y, epochs=1, verbose=0)
    plain = fnn.Trainer(model_of())
    plain.fit(X, y, epochs=1, verbose=0)
    plain.model.load_state_dict(trainer.model.state_dict())
    assert trainer.evaluate(X, y) == plain.evaluate(X, y)


@needs_bf16
def test_changing_the_precision_compiles_again():
    X, y = data()
    trainer = fnn.Trainer(model_of())
    trainer.step(X, y)
    assert "bf16" not in trainer.describe()
    trainer.precision = "bf16"
    trainer.step(X, y)
    assert "bf16" in trainer.describe()


@needs_bf16
def test_a_checkpoint_keeps_the_precision_and_continues_bit_for_bit(tmp_path):
    X, y = data()
    whole = fnn.Trainer(model_of(), precision="bf16")
    whole.fit(X, y, epochs=2, verbose=0)
    path = tmp_path / "half.safetensors"
    whole.checkpoint(path)
    resumed = fnn.Trainer.resume(path)
    assert resumed.precision == "bf16"
    for trainer in (whole, resumed):
        trainer.fit(X, y, epochs=2, verbose=0)
    for name, array in whole.model.state_dict().items():
        assert_same_bits(resumed.model.state_dict()[name], array, name)


def test_a_checkpoint_without_the_setting_is_float32(tmp_path):
    X, y = data()
    trainer = fnn.Trainer(model_of())
    trainer.fit(X, y, epochs=1, verbose=0)
    path = Path(tmp_path / "old.safetensors")
    trainer.checkpoint(path)
    tensors, metadata = safetensors.read(path)
    assert '"precision": "float32", ' in metadata["trainer"]
    older = metadata["trainer"].replace('"precision": "float32", ', "")
    safetensors.write(path, tensors, {**metadata, "trainer": older})
    assert fnn.Trainer.resume(path).precision == "float32"


@needs_bf16
def test_it_learns_the_digits_as_well():
    """Accuracies differ by no more than two standard errors of the held-out rows."""
    X, y = fnn.data.load_digits()
    Xt, Xv, yt, yv = fnn.data.split(X, y, validation=0.2, seed=0, stratify=y)
    reached = {}
    for precision in ("float32", "bf16"):
        layers = nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(10)
        model = nn.Sequential(*layers, preprocess=fnn.data.Standardize(per="all"))
        trainer = fnn.Trainer(model, optimizer=Adam(learning_rate=1e-3), precision=precision)
        trainer.fit(Xt, yt, epochs=15, batch_size=64, verbose=0)
        reached[precision] = trainer.evaluate(Xv, yv)["accuracy"]
    p = reached["float32"]
    assert p > 0.9
    assert abs(reached["bf16"] - p) <= 2 * np.sqrt(2 * p * (1 - p) / len(yv)), reached
