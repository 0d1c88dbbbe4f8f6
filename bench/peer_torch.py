"""PyTorch as it is written well: tensors made before, gather into a given tensor, the optimizer plain or fused, eager or compiled.

"compile" compiles the loss and the optimizer's step as they come; "graph" compiles the whole step, with functional gradients and the
update written out, as one graph.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pyfastnn.bench import gemm, search, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {
    "gemm": ("",),
    "step": ("", "fused", "compile", "graph"),
    "op": ("",),
    "search": ("fused", "fused side by side"),
}


def set_threads(threads: int) -> None:
    """Fix the number of threads of an operation."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    # Every task compiles the same lines of Python anew.
    torch._dynamo.config.recompile_limit = 64


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make the subject of a case."""
    if bench == "gemm":
        return Product(case)
    if bench == "step":
        task = tasks.get(case["task"])
        if variant in ("compile", "graph"):
            tasks.only_float32(task)
        if variant == "graph":
            from bench.torch_graph import Net as WholeGraph

            return WholeGraph(task)
        return Net(task, fused=variant == "fused", compiled=variant == "compile")
    if bench == "search":
        return search.PeerSearch(case, partial(Net, fused=True), at_once=search.at_once(case, variant))
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

    def __init__(self, task: tasks.Task, fused: bool, compiled: bool = False) -> None:
        self.task, self.compiled = task, compiled
        self.update: Any = None
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
        self.loss: Any = self._loss
        if compiled:
            self.loss = torch.compile(self._loss)
        self.x = torch.empty((task.batch, task.features))
        self.labels = torch.empty(task.batch, dtype=torch.int64)
        self.reset()

    def reset(self) -> None:
        """Put back the first weights and make a new optimizer."""
        with torch.no_grad():
            for name, value in self.first.items():
                tensor = torch.from_numpy(value)
                self.targets[name].copy_(tensor.t() if name.endswith(".w") else tensor)
        if self.compiled and self.update is not None:
            # A new optimizer would be compiled anew; with all its tensors zero, the old one is at its start.
            for state in self.optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()
            return
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
        self.update = self.optimizer.step
        if self.compiled:
            self.update = torch.compile(self.optimizer.step)

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
        loss: torch.Tensor = self.loss(self.x, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.update()
        return loss.detach()

    def _loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.task.precision == "bf16":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return F.cross_entropy(self.model(x), labels)
        return F.cross_entropy(self.model(x), labels)
