"""Ten steps of three small networks against the numbers of PyTorch 2.13.0 (made by golden/make_torch.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim

GOLDEN = Path(__file__).parent / "golden"

NETS = {
    "relu": lambda: (nn.Linear(37), nn.ReLU(), nn.Linear(11), nn.LeakyReLU(0.07), nn.Linear(7)),
    "norm": lambda: (nn.Linear(19, bias=False), nn.BatchNorm(eps=1e-3, momentum=0.23), nn.Tanh(), nn.Linear(5)),
    "smooth": lambda: (
        nn.Linear(17),
        nn.ELU(0.6),
        nn.BatchNorm(),
        nn.Linear(6, bias=False),
        nn.Sigmoid(),
        nn.Linear(3),
    ),
}
OPTIMIZERS = {
    "momentum": lambda: optim.SGD(0.05, momentum=0.9, weight_decay=0.02),
    "nesterov": lambda: optim.SGD(0.05, momentum=0.8, nesterov=True),
    "adam": lambda: optim.Adam(0.01, beta1=0.85, beta2=0.99, eps=1e-6, weight_decay=0.03),
    "adamw": lambda: optim.AdamW(0.01, weight_decay=0.1),
}
# Ten chained steps of float64 against float64, and of float32 against it; Adam divides by roots of small moments.
BOUND = {"float64": 1e-11, "float32": 1e-4}


def golden(net: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"torch_{net}.npz") as file:
        return {k: file[k] for k in file.files}


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def trained(net: str, optimizer: str, dtype: str) -> tuple[list[float], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train from PyTorch's first weights on its rows in its order; return losses, weights and the golden numbers."""
    given = golden(net)
    loss = "mean_squared_error" if net == "smooth" else "softmax_cross_entropy"
    model = nn.Sequential(*NETS[net](), dtype=dtype)
    trainer = fnn.Trainer(model, loss, OPTIMIZERS[optimizer]())
    X, y, batch = given["X"], given["y"], int(given["batch"])
    model.build((X.shape[1],))
    model.load_state_dict(part(given, "start/"))
    losses = [trainer.step(X[k : k + batch], y[k : k + batch]) for k in range(0, len(X), batch)]
    return losses, model.state_dict(), part(given, f"{optimizer}/")


def assert_golden(losses, arrays, want, bound: float) -> None:
    np.testing.assert_allclose(losses, want["losses"], rtol=bound)
    end = part(want, "end/")
    assert set(end) == set(arrays)
    for name, array in end.items():
        error = np.abs(arrays[name] - array).max() / np.abs(array).max()
        assert error <= bound, f"{name}: {error:.3g}"


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", NETS)
def test_ten_steps_as_in_pytorch(net, optimizer, dtype):
    losses, arrays, want = trained(net, optimizer, dtype)
    assert_golden(losses, arrays, want, BOUND[dtype] * (10 if "adam" in optimizer else 1))


def test_the_version_is_written_down():
    for net in NETS:
        assert str(golden(net)["torch"]).startswith("2.13.0")


def test_a_slightly_wrong_number_is_told_apart():
    """A thousandth of the rate, of a loss, or of one array more is rejected even by the bound of float32 under Adam."""
    losses, arrays, want = trained("norm", "adam", "float32")
    assert_golden(losses, arrays, want, 1e-3)
    with pytest.raises(AssertionError):
        assert_golden([v * 1.002 for v in losses], arrays, want, 1e-3)
    for name in arrays:
        with pytest.raises(AssertionError):
            assert_golden(losses, {**arrays, name: arrays[name] * 1.003}, want, 1e-3)
