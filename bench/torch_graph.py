"""A whole training step as one compiled PyTorch graph: gather, loss, functional gradients and the update written out."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from pyfastnn.bench import tasks
from pyfastnn.bench.timing import Subject

State = dict[str, dict[str, torch.Tensor]]


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task) -> None:
        self.task = task
        X, y, order = tasks.data(task)
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        self.batches = list(torch.from_numpy(order).split(task.batch))
        self.first = {k: torch.from_numpy(v) for k, v in tasks.first_weights(task).items()}
        # A view of (height, width, inputs, outputs) would be reordered step by step.
        filters = {k: v.permute(3, 2, 0, 1) for k, v in self.first.items() if v.ndim == 4}
        self.first |= {k: v.contiguous(memory_format=torch.channels_last) for k, v in filters.items()}
        self.layers = tasks.named_layers(task)
        self.step: Any = torch.compile(self._step, fullgraph=True)
        self.reset()

    def reset(self) -> None:
        """Put back the first weights, empty the optimizer's tensors."""
        self.state: State = {"p": {k: v.clone() for k, v in self.first.items()}}
        for slot in {"adam": "mv", "momentum": "v", "sgd": ""}[self.task.optimizer]:
            self.state[slot] = {k: torch.zeros_like(v) for k, v in self.first.items()}
        self.state["running"] = {}
        for name, layer in self.layers:
            if layer[0] == "batch_norm":
                self.state["running"] |= {f"{name}.mean": torch.zeros(layer[1]), f"{name}.var": torch.ones(layer[1])}
        self.count = torch.zeros(())

    def check(self) -> dict[str, Any]:
        """Train some steps and return their losses."""
        self.reset()
        return {"losses": [self._take(self.batches[k % len(self.batches)]).item() for k in range(tasks.CHECK_STEPS)]}

    def run(self, calls: int) -> None:
        """Train ``calls`` steps."""
        batches, count = self.batches, len(self.batches)
        for k in range(calls):
            self._take(batches[k % count])

    def _take(self, index: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            loss: torch.Tensor = self.step(self.X, self.y, index, self.state, self.count)
        return loss

    def _loss(self, p: dict[str, torch.Tensor], x: Any, labels: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found: dict[str, torch.Tensor] = {}
        x = x.permute(0, 3, 1, 2) if self.task.image else x
        for name, layer in self.layers:
            if layer[0] == "linear":
                x = torch.addmm(p[f"{name}.b"], x, p[f"{name}.w"])
            elif layer[0] == "conv2d":
                x = F.conv2d(x, p[f"{name}.w"], p[f"{name}.b"], padding="same")
            elif layer[0] == "max_pool2d":
                x = F.max_pool2d(x, layer[1])
            elif layer[0] == "flatten":
                x = x.permute(0, 2, 3, 1).flatten(1)
            elif layer[0] == "batch_norm":
                var, mean = torch.var_mean(x, dim=0, correction=0)
                found |= {f"{name}.mean": mean, f"{name}.var": var * (len(x) / (len(x) - 1))}
                x = (x - mean) * torch.rsqrt(var + 1e-5) * p[f"{name}.gamma"] + p[f"{name}.beta"]
            else:
                x = F.relu(x) if layer[0] == "relu" else torch.tanh(x)
        return F.cross_entropy(x, labels), found

    def _step(self, X: Any, y: Any, index: Any, state: State, count: Any) -> torch.Tensor:
        task, p = self.task, state["p"]
        x, labels = X.index_select(0, index), y.index_select(0, index)
        gradients, (loss, found) = torch.func.grad_and_value(self._loss, has_aux=True)(p, x, labels)
        for name, value in found.items():
            state["running"][name].lerp_(value, 0.1)
        count += 1
        for name, dp in gradients.items():
            if task.weight_decay and name.endswith(".w"):
                dp = dp + task.weight_decay * p[name]
            if task.optimizer == "adam":
                m, v = state["m"][name], state["v"][name]
                m.mul_(0.9).add_(dp, alpha=0.1)
                v.mul_(0.999).addcmul_(dp, dp, value=0.001)
                correction1, correction2 = 1 - 0.9**count, 1 - 0.999**count
                p[name].sub_(task.learning_rate * (m / correction1) / ((v / correction2).sqrt() + 1e-8))
            elif task.optimizer == "momentum":
                v = state["v"][name]
                v.mul_(0.9).add_(dp)
                p[name].sub_(task.learning_rate * v)
            else:
                p[name].sub_(task.learning_rate * dp)
        return loss
