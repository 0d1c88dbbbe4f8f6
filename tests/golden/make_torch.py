"""Make the golden numbers of `tests/test_golden.py` with PyTorch: ten steps of three small networks.

Run with PyTorch 2.13.0 and NumPy as ``python make_torch.py`` in this folder; the test suite only reads the files it writes.
Everything runs in float64, so the numbers do not depend on the machine beyond the last digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

STEPS = 10


class WithState(nn.Module):
    """A chain of modules, and which pyfastnn array each of its arrays is."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.chain = nn.Sequential(*modules).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.chain(x)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return parameters and running statistics under pyfastnn's names, weights as (in, out)."""
        found: dict[str, np.ndarray] = {}
        counts = {"linear": 0, "batch_norm": 0}
        for module in self.chain:
            if isinstance(module, nn.Linear):
                counts["linear"] += 1
                name = f"linear_{counts['linear']}"
                found[f"{name}.w"] = module.weight.detach().numpy().T.copy()
                if module.bias is not None:
                    found[f"{name}.b"] = module.bias.detach().numpy().copy()
            elif isinstance(module, nn.BatchNorm1d):
                counts["batch_norm"] += 1
                name = f"batch_norm_{counts['batch_norm']}"
                found[f"{name}.gamma"] = module.weight.detach().numpy().copy()
                found[f"{name}.beta"] = module.bias.detach().numpy().copy()
                found[f"{name}.running_mean"] = module.running_mean.numpy().copy()
                found[f"{name}.running_var"] = module.running_var.numpy().copy()
        return found

    def groups(self, decay: float) -> list[dict[str, object]]:
        """Return parameter groups in which only the weights of linear layers decay."""
        weights = [m.weight for m in self.chain if isinstance(m, nn.Linear)]
        others = [p for p in self.parameters() if not any(p is w for w in weights)]
        return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def relu_net() -> WithState:
    """31-37-11-7 with ReLU and leaky ReLU."""
    return WithState(nn.Linear(31, 37), nn.ReLU(), nn.Linear(37, 11), nn.LeakyReLU(0.07), nn.Linear(11, 7))


def norm_net() -> WithState:
    """13-19-5 with batch norm and tanh; no bias where a norm follows."""
    return WithState(
        nn.Linear(13, 19, bias=False), nn.BatchNorm1d(19, eps=1e-3, momentum=0.23), nn.Tanh(), nn.Linear(19, 5)
    )


def smooth_net() -> WithState:
    """9-17-3 with ELU, batch norm and sigmoid, for mean squared error."""
    return WithState(
        nn.Linear(9, 17), nn.ELU(0.6), nn.BatchNorm1d(17), nn.Linear(17, 6, bias=False), nn.Sigmoid(), nn.Linear(6, 3)
    )


OPTIMIZERS = {
    "momentum": lambda g: torch.optim.SGD(g, lr=0.05, momentum=0.9),
    "nesterov": lambda g: torch.optim.SGD(g, lr=0.05, momentum=0.8, nesterov=True),
    "adam": lambda g: torch.optim.Adam(g, lr=0.01, betas=(0.85, 0.99), eps=1e-6),
    "adamw": lambda g: torch.optim.AdamW(g, lr=0.01, betas=(0.9, 0.999), eps=1e-8),
}
DECAY = {"momentum": 0.02, "nesterov": 0.0, "adam": 0.03, "adamw": 0.1}
NETS = {"relu": (relu_net, 31, 7, 23), "norm": (norm_net, 13, 5, 17), "smooth": (smooth_net, 9, 3, 29)}


def exact(values: torch.Tensor) -> torch.Tensor:
    """Round to float32 and back, so that the file may hold the shorter numbers."""
    return values.float().double()


def train(
    net: str, optimizer: str, X: torch.Tensor, y: torch.Tensor, start: dict[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """Return the loss of every step and the last arrays."""
    make, _, _, batch = NETS[net]
    model = make()
    model.load_state_dict(start)
    loss_of = nn.MSELoss() if net == "smooth" else nn.CrossEntropyLoss()
    rule = OPTIMIZERS[optimizer](model.groups(DECAY[optimizer]))
    losses = []
    for k in range(STEPS):
        rows = slice(k * batch, (k + 1) * batch)
        rule.zero_grad()
        loss = loss_of(model(X[rows]), y[rows])
        loss.backward()
        rule.step()
        losses.append(loss.item())
    return {"losses": np.array(losses), **{f"end/{k}": a for k, a in model.arrays().items()}}


def golden(net: str) -> dict[str, np.ndarray]:
    """Return rows, targets, first arrays, and what each optimizer makes of them."""
    make, features, outputs, batch = NETS[net]
    torch.manual_seed(len(net))
    model = make()
    start = {k: exact(a) if a.is_floating_point() else a for k, a in model.state_dict().items()}
    model.load_state_dict(start)
    X = exact(torch.randn(STEPS * batch, features, dtype=torch.float64))
    if net == "smooth":
        y = exact(torch.randn(STEPS * batch, outputs, dtype=torch.float64))
    else:
        y = torch.randint(0, outputs, (STEPS * batch,))
    found = {"torch": np.array(torch.__version__), "batch": np.array(batch)}
    found |= {"X": X.float().numpy(), "y": y.float().numpy() if net == "smooth" else y.numpy()}
    found |= {f"start/{k}": a.astype(np.float32) for k, a in model.arrays().items()}
    for optimizer in OPTIMIZERS:
        found |= {f"{optimizer}/{k}": a for k, a in train(net, optimizer, X, y, start).items()}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    for net in NETS:
        np.savez_compressed(Path(__file__).parent / f"torch_{net}.npz", **golden(net))
