"""NumPy as a good NumPy programmer writes it: no allocation in a step, BLAS for the products, all parameters in one vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyfastnn.bench import gemm, search, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {"gemm": ("",), "step": ("",), "op": ("",), "search": ("", "side by side")}


def version() -> str:
    """Return NumPy's version and its BLAS."""
    blas: Any = np.show_config(mode="dicts")
    blas = blas["Build Dependencies"]["blas"]
    return f"{np.__version__} ({blas['name']} {blas['version']})"


CHUNK = 16384
"""Numbers an update goes through at a time, so that its passes stay in the cache."""


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make the subject of a case."""
    if bench == "gemm":
        return Product(case)
    if bench == "step":
        task = tasks.get(case["task"])
        tasks.only_float32(task)
        tasks.no_images(task)
        return Net(task)
    if bench == "search":
        return search.PeerSearch(case, Net, at_once=search.at_once(case, variant))
    from bench.ops_numpy import Op

    return Op(case)


class Product(Subject):
    """``np.matmul`` with ``out=``; transposed factors are views, which BLAS takes as they are."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.a, self.b = gemm.operands(case)
        self.out = np.full((case["m"], case["n"]), np.nan, case["dtype"])
        self.left = self.a.T if case["kind"] == "TN" else self.a
        self.right = self.b.T if case["kind"] == "NT" else self.b

    def check(self) -> dict[str, Any]:
        """Multiply once and return the error over its bound."""
        self.run(1)
        return {"excess": gemm.excess(self.case, self.a, self.b, self.out)}

    def run(self, calls: int) -> None:
        """Multiply."""
        matmul, left, right, out = np.matmul, self.left, self.right, self.out
        for _ in range(calls):
            matmul(left, right, out=out)


class Linear:
    """``y = x @ w + b``."""

    def __init__(self, n: int, views: dict[str, Any], name: str, first: bool) -> None:
        self.w, self.b = views[f"{name}.w"], views[f"{name}.b"]
        self.dw, self.db = views[f"d {name}.w"], views[f"d {name}.b"]
        self.y = np.empty((n, len(self.b)), np.float32)
        self.dx = None if first else np.empty((n, len(self.w)), np.float32)
        self.ones = np.ones(n, np.float32)

    def forward(self, x: Any) -> Any:
        """Return the output; keeps what the backward pass needs."""
        self.x = x
        np.matmul(x, self.w, out=self.y)
        np.add(self.y, self.b, out=self.y)
        return self.y

    def backward(self, dy: Any) -> Any:
        """Return the gradient of the input; may overwrite ``dy``."""
        np.matmul(self.x.T, dy, out=self.dw)
        np.matmul(self.ones, dy, out=self.db)
        if self.dx is not None:
            np.matmul(dy, self.w.T, out=self.dx)
        return self.dx


class ReLU:
    """In place."""

    def __init__(self, n: int, features: int) -> None:
        self.mask = np.empty((n, features), np.bool_)

    def forward(self, x: Any) -> Any:
        """Return the output; keeps what the backward pass needs."""
        self.y = np.maximum(x, 0, out=x)
        return x

    def backward(self, dy: Any) -> Any:
        """Return the gradient of the input; may overwrite ``dy``."""
        np.greater(self.y, 0, out=self.mask)
        return np.multiply(dy, self.mask, out=dy)


class Tanh:
    """In place."""

    def __init__(self, n: int, features: int) -> None:
        self.slope = np.empty((n, features), np.float32)

    def forward(self, x: Any) -> Any:
        """Return the output; keeps what the backward pass needs."""
        self.y = np.tanh(x, out=x)
        return x

    def backward(self, dy: Any) -> Any:
        """Return the gradient of the input; may overwrite ``dy``."""
        slope = np.multiply(self.y, self.y, out=self.slope)
        np.subtract(1, slope, out=slope)
        return np.multiply(dy, slope, out=dy)


class BatchNorm:
    """Batch statistics and running ones."""

    def __init__(self, n: int, features: int, views: dict[str, Any], name: str) -> None:
        self.gamma, self.beta = views[f"{name}.gamma"], views[f"{name}.beta"]
        self.dgamma, self.dbeta = views[f"d {name}.gamma"], views[f"d {name}.beta"]
        self.mean, self.var, self.rstd, self.t = (np.empty(features, np.float32) for _ in range(4))
        self.running_mean, self.running_var = np.zeros(features, np.float32), np.ones(features, np.float32)
        self.xhat, self.y = np.empty((n, features), np.float32), np.empty((n, features), np.float32)
        self.ones, self.n = np.full(n, 1 / n, np.float32), n
        self.sums = np.ones(n, np.float32)

    def forward(self, x: Any) -> Any:
        """Return the output; keeps what the backward pass needs."""
        n, mean, var, rstd, xhat = self.n, self.mean, self.var, self.rstd, self.xhat
        np.matmul(self.ones, x, out=mean)
        np.subtract(x, mean, out=xhat)
        np.einsum("ij,ij->j", xhat, xhat, out=var)
        var /= n
        np.add(var, 1e-5, out=rstd)
        np.sqrt(rstd, out=rstd)
        np.divide(1, rstd, out=rstd)
        np.multiply(xhat, rstd, out=xhat)
        np.multiply(xhat, self.gamma, out=self.y)
        np.add(self.y, self.beta, out=self.y)
        self.running_mean += 0.1 * (mean - self.running_mean)
        self.running_var += 0.1 * (var * (n / (n - 1)) - self.running_var)
        return self.y

    def backward(self, dy: Any) -> Any:
        """Return the gradient of the input; may overwrite ``dy``."""
        np.matmul(self.sums, dy, out=self.dbeta)
        np.einsum("ij,ij->j", dy, self.xhat, out=self.dgamma)
        np.multiply(self.xhat, self.dgamma / self.n, out=self.xhat)
        np.subtract(dy, self.xhat, out=dy)
        np.subtract(dy, self.dbeta / self.n, out=dy)
        np.multiply(self.gamma, self.rstd, out=self.t)
        return np.multiply(dy, self.t, out=dy)


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task) -> None:
        self.task = task
        self.X, self.y, order = tasks.data(task)
        self.batches = [order[k * task.batch : (k + 1) * task.batch] for k in range(task.steps)]
        self.weights = tasks.first_weights(task)
        # Weights that decay stand first: the L2 term is one pass over a slice.
        names = sorted(self.weights, key=lambda k: not k.endswith(".w"))
        size = sum(self.weights[k].size for k in names)
        self.p, self.dp = np.empty(size, np.float32), np.empty(size, np.float32)
        self.decaying = sum(self.weights[k].size for k in names if k.endswith(".w"))
        self.views, at = {}, 0
        for name in names:
            shape, length = self.weights[name].shape, self.weights[name].size
            self.views[name] = self.p[at : at + length].reshape(shape)
            self.views[f"d {name}"] = self.dp[at : at + length].reshape(shape)
            at += length
        n, self.layers, features = task.batch, [], task.features
        for name, layer in tasks.named_layers(task):
            if layer[0] == "linear":
                self.layers.append(Linear(n, self.views, name, first=not self.layers))
                features = layer[2]
            elif layer[0] == "batch_norm":
                self.layers.append(BatchNorm(n, features, self.views, name))
            else:
                self.layers.append((ReLU if layer[0] == "relu" else Tanh)(n, features))
        self.x, self.labels = np.empty((n, task.features), np.float32), np.empty(n, np.int64)
        self.scores = np.empty((n, tasks.CLASSES), np.float32)
        self.row, self.at, self.picked = (
            np.empty((n, 1), np.float32),
            np.arange(n) * tasks.CLASSES,
            np.empty(n, np.float32),
        )
        self.flat = np.empty(n, np.int64)
        self.m, self.v, self.t = (
            np.zeros(size, np.float32),
            np.zeros(size, np.float32),
            np.empty(min(size, CHUNK), np.float32),
        )
        self.update = {"sgd": self._sgd, "momentum": self._momentum, "adam": self._adam}[task.optimizer]
        self.reset()

    def reset(self) -> None:
        """Put back the first weights, empty the optimizer's arrays."""
        for name, value in self.weights.items():
            self.views[name][...] = value
        self.m[...] = 0
        self.v[...] = 0
        self.step = 0

    def check(self) -> dict[str, Any]:
        """Train some steps and return their losses."""
        self.reset()
        return {"losses": [self._step(self.batches[k % len(self.batches)]) for k in range(tasks.CHECK_STEPS)]}

    def run(self, calls: int) -> None:
        """Train ``calls`` steps."""
        step, batches, count = self._step, self.batches, len(self.batches)
        for k in range(calls):
            step(batches[k % count])

    def _step(self, index: Any) -> float:
        # mode="clip" writes straight into out; the default goes through a buffer.
        x = np.take(self.X, index, axis=0, out=self.x, mode="clip")
        labels = np.take(self.y, index, out=self.labels, mode="clip")
        for layer in self.layers:
            x = layer.forward(x)
        dy, row, n = self.scores, self.row, self.task.batch
        np.max(x, axis=1, keepdims=True, out=row)
        np.subtract(x, row, out=dy)
        flat = np.add(self.at, labels, out=self.flat)
        scores = dy.reshape(-1)
        np.take(scores, flat, out=self.picked, mode="clip")
        np.exp(dy, out=dy)
        np.sum(dy, axis=1, keepdims=True, out=row)
        np.multiply(row, n, out=self.row)
        np.divide(dy, row, out=dy)
        scores[flat] -= np.float32(1 / n)
        np.log(row, out=row)
        loss = (float(row.sum()) - float(self.picked.sum())) / n - np.log(n)
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        if self.task.weight_decay and self.task.optimizer != "momentum":
            self._decay(0, self.decaying)
        self.step += 1
        self.update()
        return float(loss)

    def _decay(self, a: int, b: int) -> None:
        for i in range(a, b, CHUNK):
            j = min(b, i + CHUNK)
            self.dp[i:j] += np.multiply(self.p[i:j], self.task.weight_decay, out=self.t[: j - i])

    def _sgd(self) -> None:
        for i in range(0, len(self.p), CHUNK):
            dp = self.dp[i : i + CHUNK]
            dp *= self.task.learning_rate
            self.p[i : i + CHUNK] -= dp

    def _momentum(self) -> None:
        for i in range(0, len(self.p), CHUNK):
            p, dp, v = self.p[i : i + CHUNK], self.dp[i : i + CHUNK], self.v[i : i + CHUNK]
            if i < self.decaying and self.task.weight_decay:
                self._decay(i, min(i + CHUNK, self.decaying))
            v *= 0.9
            v += dp
            p -= np.multiply(v, self.task.learning_rate, out=self.t[: len(v)])

    def _adam(self) -> None:
        correction1, correction2 = 1 - 0.9**self.step, 1 - 0.999**self.step
        rate, eps = self.task.learning_rate * correction2**0.5 / correction1, 1e-8 * correction2**0.5
        for i in range(0, len(self.p), CHUNK):
            j = i + CHUNK
            p, dp, m, v = self.p[i:j], self.dp[i:j], self.m[i:j], self.v[i:j]
            t = self.t[: len(p)]
            m *= 0.9
            m += np.multiply(dp, 0.1, out=t)
            v *= 0.999
            np.multiply(dp, dp, out=t)
            t *= 0.001
            v += t
            np.sqrt(v, out=t)
            t += eps
            np.divide(m, t, out=t)
            t *= rate
            p -= t
