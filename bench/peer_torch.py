"""PyTorch as it is written well: tensors made before, gather into a given tensor, the optimizer plain or fused, eager or compiled.

"compile" compiles the loss and the optimizer's step as they come; "graph" compiles the whole step, with functional gradients and the
update written out, as one graph. Images lie as (channels, height, width), PyTorch's default, or with "channels_last" as (height, width,
channels), each in the data set already; "graph" has them channels last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pyfastnn.bench import coarse, gemm, search, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {
    "gemm": ("",),
    "step": ("", "fused", "channels_last", "channels_last fused", "compile", "graph"),
    "op": ("",),
    "search": ("fused", "fused side by side"),
    "coarse": ("fused", "fused side by side"),
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
        if "channels_last" in variant and not task.image:
            raise NotImplementedError("rows of numbers have one layout")
        return Net(task, "fused" in variant, compiled=variant == "compile", channels_last="channels_last" in variant)
    if bench == "search":
        return search.PeerSearch(case, partial(Net, fused=True), at_once=search.at_once(case, variant))
    if bench == "coarse":
        from bench.torch_search import CoarseSearch

        return CoarseSearch(case, coarse.at_once(case, variant))
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


class Rows(nn.Module):
    """Images that lie channels last as rows, without a copy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task, fused: bool, compiled: bool = False, channels_last: bool = False) -> None:
        self.task, self.compiled, self.channels_last = task, compiled, channels_last
        self.update: Any = None
        X, y, order = tasks.data(task)
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        if task.image and not channels_last:
            self.X = self.X.permute(0, 3, 1, 2).contiguous()
        self.batches = list(torch.from_numpy(order).split(task.batch))
        self.first = first_weights(task, channels_last)
        modules: list[nn.Module] = []
        self.targets: dict[str, nn.Parameter] = {}
        for name, layer in tasks.named_layers(task):
            if layer[0] == "linear":
                module: nn.Module = nn.Linear(layer[1], layer[2])
                self.targets |= {f"{name}.w": module.weight, f"{name}.b": module.bias}
            elif layer[0] == "batch_norm":
                module = nn.BatchNorm1d(layer[1])
                self.targets |= {f"{name}.gamma": module.weight, f"{name}.beta": module.bias}
            elif layer[0] == "conv2d":
                module = nn.Conv2d(layer[2], layer[3], layer[1], padding="same")
                if channels_last:
                    module.to(memory_format=torch.channels_last)
                self.targets |= {f"{name}.w": module.weight, f"{name}.b": module.bias}
            elif layer[0] == "max_pool2d":
                module = nn.MaxPool2d(layer[1])
            elif layer[0] == "flatten":
                module = Rows() if channels_last else nn.Flatten()
            else:
                module = nn.ReLU() if layer[0] == "relu" else nn.Tanh()
            modules.append(module)
        self.model = nn.Sequential(*modules)
        self.fused = fused
        self.loss: Any = self._loss
        if compiled:
            self.loss = torch.compile(self._loss)
        self.x = torch.empty((task.batch, *self.X.shape[1:]))
        self.labels = torch.empty(task.batch, dtype=torch.int64)
        self.reset()

    def reset(self) -> None:
        """Put back the first weights and make a new optimizer."""
        with torch.no_grad():
            for name, value in self.first.items():
                self.targets[name].copy_(value)
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
        x = self.x.permute(0, 3, 1, 2) if self.channels_last else self.x
        loss: torch.Tensor = self.loss(x, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.update()
        return loss.detach()

    def _loss(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.task.precision == "bf16":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return F.cross_entropy(self.model(x), labels)
        return F.cross_entropy(self.model(x), labels)


def first_weights(task: tasks.Task, channels_last: bool) -> dict[str, torch.Tensor]:
    """Return every parameter by name in the shape that PyTorch's modules have."""
    found: dict[str, torch.Tensor] = {}
    shapes = dict(zip((name for name, _ in tasks.named_layers(task)), [task.row_shape, *task.shapes], strict=False))
    flat = [name for name, layer in tasks.named_layers(task) if layer[0] == "flatten"]
    for name, value in tasks.first_weights(task).items():
        tensor = torch.from_numpy(value)
        if tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1)
        elif tensor.ndim == 2:
            if flat and not channels_last and name == "linear_1.w":
                # The rows of the first linear layer follow the pixels; the modules' images have the channels first.
                tensor = tensor.reshape(*shapes[flat[0]], -1).permute(2, 0, 1, 3).flatten(0, 2)
            tensor = tensor.t()
        found[name] = tensor
    return found
