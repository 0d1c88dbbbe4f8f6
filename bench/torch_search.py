"""The coarse search of `pyfastnn.bench.coarse` as a loop in PyTorch: data in tensors, batches gathered into a given tensor, fused SGD."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pyfastnn.bench import coarse
from pyfastnn.bench.timing import Case, Subject


class CoarseSearch(Subject):
    """All trials, one after the other or some at a time in threads."""

    warm = False

    def __init__(self, case: Case, at_once: int) -> None:
        self.case, self.at_once = case, at_once
        self.X, self.y, self.X_val, self.y_val = (torch.from_numpy(part) for part in coarse.data(case["rows"]))
        self.first = {name: torch.from_numpy(value) for name, value in coarse.first_weights().items()}
        self.params = coarse.params(case)

    def check(self) -> dict[str, Any]:
        """Search through the first trials, rows in their order, and return what came of each."""
        found = [self._train(params, shuffle=False) for params in self.params[: coarse.CHECKED]]
        return {"trials": [[losses, accuracy] for losses, accuracy in found]}

    def run(self, calls: int) -> None:
        """Run whole searches."""
        for _ in range(calls):
            if self.at_once == 1:
                for params in self.params:
                    self._train(params)
            else:
                with ThreadPoolExecutor(self.at_once) as pool:
                    list(pool.map(self._train, self.params))

    def _train(self, params: dict[str, float], shuffle: bool = True) -> tuple[list[float], float]:
        """Return the mean losses of the epochs, and the accuracy after the last one."""
        first = self.first
        model = nn.Sequential(
            nn.Linear(coarse.FEATURES, coarse.HIDDEN), nn.ReLU(), nn.Linear(coarse.HIDDEN, coarse.CLASSES)
        )
        with torch.no_grad():
            for place, name in ((0, "linear_1"), (2, "linear_2")):
                model[place].weight.copy_(first[f"{name}.w"].t())
                model[place].bias.copy_(first[f"{name}.b"])
        groups = [
            {"params": [model[0].weight, model[2].weight], "weight_decay": params["weight_decay"]},
            {"params": [model[0].bias, model[2].bias]},
        ]
        optimizer = torch.optim.SGD(groups, params["learning_rate"], momentum=coarse.MOMENTUM, fused=True)
        rows, batch = self.case["rows"], coarse.BATCH
        x = torch.empty((batch, coarse.FEATURES))
        labels = torch.empty(batch, dtype=torch.int64)
        means: list[float] = []
        limit, accuracy = math.inf, self._accuracy(model)
        for _ in range(self.case["epochs"]):
            order = torch.randperm(rows) if shuffle else torch.arange(rows)
            total = 0.0
            for index in order.split(batch):
                torch.index_select(self.X, 0, index, out=x)
                torch.index_select(self.y, 0, index, out=labels)
                loss = F.cross_entropy(model(x), labels)
                now = loss.item()
                if not now <= limit:
                    return means, accuracy
                if math.isinf(limit):
                    limit = coarse.LIMIT * now
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += now
            means.append(total / (rows // batch))
            accuracy = self._accuracy(model)
            for group in optimizer.param_groups:
                group["lr"] *= coarse.DECAY
        return means, accuracy

    def _accuracy(self, model: nn.Module) -> float:
        with torch.inference_mode():
            return (model(self.X_val).argmax(1) == self.y_val).double().mean().item()
