"""PyTorch as it is written well: tensors made before, gather into a given tensor, eager, the optimizer plain or fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pyfastnn.bench import gemm, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {"gemm": ("",), "step": ("", "fused"), "op": ("",)}


def set_threads(threads: int) -> None:
    """Fix the number of threads of an operation."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make the subject of a case."""
    if bench == "gemm":
        return Product(case)
    if bench == "step":
        return Net(tasks.get(case["task"]), fused=variant == "fused")
    from bench.ops_torch import Op

    return Op(case)


class Product(Subject):
    """``torch.mm`` with ``out=``; transposed factors are views."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.arrays = gemm.operands(case)
        a, b = (torch.from_numpy(x) for x in self.arrays)
        self.left = a.t() if case["kind"] == "TN" else a
        self.right = b.t() if case["kind"] == "NT" else b
        self.out = torch.full((case["m"], case["n"]), torch.nan, dtype=getattr(torch, case["dtype"]))

    def check(self) -> dict[str, Any]:
        """Multiply once and return the error over its bound."""
        self.run(1)
        return {"excess": gemm.excess(self.case, *self.arrays, self.out.numpy())}

    def run(self, calls: int) -> None:
        """Multiply."""
        mm, left, right, out = torch.mm, self.left, self.right, self.out
        with torch.inference_mode():
            for _ in range(calls):
                mm(left, right, out=out)


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task, fused: bool) -> None:
        self.task = task
        X, y, order = tasks.data(task)
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        self.batches = list(torch.from_numpy(order).split(task.batch))
        self.first = tasks.first_weights(task)
        modules: list[nn.Module] = []
        self.targets: dict[str, nn.Parameter] = {}
        for name, layer in tasks.named_layers(task):
            if layer[0] == "linear":
                module: nn.Module = nn.Linear(layer[1], layer[2])
                self.targets |= {f"{name}.w": module.weight, f"{name}.b": module.bias}
            elif layer[0] == "batch_norm":
                module = nn.BatchNorm1d(layer[1])
                self.targets |= {f"{name}.gamma": module.weight, f"{name}.beta": module.bias}
            else:
                module = nn.ReLU() if layer[0] == "relu" else nn.Tanh()
            modules.append(module)
        self.model = nn.Sequential(*modules)
        self.fused = fused
        self.x = torch.empty((task.batch, task.features))
        self.labels = torch.empty(task.batch, dtype=torch.int64)
        self.reset()

    def reset(self) -> None:
        """Put back the first weights and make a new optimizer."""
        with torch.no_grad():
            for name, value in self.first.items():
                tensor = torch.from_numpy(value)
                self.targets[name].copy_(tensor.t() if name.endswith(".w") else tensor)
        task, how = self.task, {"fused": True} if self.fused else {}
        groups: Any = list(self.model.parameters())
        if task.weight_decay:
            weights = [p for k, p in self.targets.items() if k.endswith(".w")]
            others = [p for k, p in self.targets.items() if not k.endswith(".w")]
            groups = [{"params": weights, "weight_decay": task.weight_decay}, {"params": others}]
        if task.optimizer == "adam":
            self.optimizer: Any = torch.optim.Adam(groups, task.learning_rate, **how)
        else:
            momentum = 0.9 if task.optimizer == "momentum" else 0.0
            self.optimizer = torch.optim.SGD(groups, task.learning_rate, momentum=momentum, **how)

    def check(self) -> dict[str, Any]:
        """Train some steps and return their losses."""
        self.reset()
        return {"losses": [self._step(self.batches[k % len(self.batches)]).item() for k in range(tasks.CHECK_STEPS)]}

    def run(self, calls: int) -> None:
        """Train ``calls`` steps."""
        step, batches, count = self._step, self.batches, len(self.batches)
        for k in range(calls):
            step(batches[k % count])

    def _step(self, index: torch.Tensor) -> torch.Tensor:
        torch.index_select(self.X, 0, index, out=self.x)
        torch.index_select(self.y, 0, index, out=self.labels)
        loss = F.cross_entropy(self.model(self.x), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
