"""JAX on the CPU as it is written well: one jitted function a step, or many steps in one ``lax.scan``; buffers are given away.

Without 64-bit numbers, as it comes. Every thread runs where the system puts it, but there are only as many as asked for: XLA counts the
CPUs this process may use when its pool is made.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from pyfastnn.bench import gemm, search, tasks
from pyfastnn.bench.timing import Case, Subject

VARIANTS = {"gemm": ("",), "step": ("jit", "scan"), "search": ("scan", "scan side by side")}

SCAN, SCAN_LARGE, LARGE_FLOP = 50, 5, 1e9
"""Steps of a scan; fewer for tasks above so many operations a step, where a call costs nothing beside the work."""


def _start(threads: int) -> Any:
    """Import JAX with a pool of so many threads."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    # A call then runs in the thread that makes it: with one thread there is none to hand it to.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.numpy.zeros(1).block_until_ready()
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), allowed)
    return jax


jax = _start(int(os.environ.get("OMP_NUM_THREADS", "1")))
jnp = jax.numpy


def version() -> str:
    """Return JAX's version."""
    return str(jax.__version__)


def subject(bench: str, case: Case, variant: str) -> Subject:
    """Make the subject of a case."""
    if bench == "gemm":
        return Product(case)
    if bench == "search":
        return search.PeerSearch(case, partial(Net, scan=True), at_once=search.at_once(case, variant, one_pool=True))
    task = tasks.get(case["task"])
    tasks.only_float32(task)
    if task.image and variant == "scan":
        raise NotImplementedError("XLA's loops take its slow path for convolutions")
    return Net(task, scan=variant == "scan")


class Product(Subject):
    """``a @ b`` in a jitted function; it has no way to write into a given array."""

    def __init__(self, case: Case) -> None:
        if case["dtype"] != "float32":
            raise NotImplementedError("JAX computes in float32 unless told otherwise")
        self.case = case
        self.arrays = gemm.operands(case)
        self.a, self.b = (jnp.asarray(x) for x in self.arrays)
        self.product = _products()[case["kind"]]

    def check(self) -> dict[str, Any]:
        """Multiply once and return the error over its bound."""
        out = np.asarray(self.product(self.a, self.b))
        return {"excess": gemm.excess(self.case, *self.arrays, out)}

    def run(self, calls: int) -> None:
        """Multiply."""
        product, a, b = self.product, self.a, self.b
        for _ in range(calls):
            product(a, b).block_until_ready()


@lru_cache(maxsize=1)
def _products() -> dict[str, Any]:
    kinds = {"NN": lambda a, b: a @ b, "NT": lambda a, b: a @ b.T, "TN": lambda a, b: a.T @ b}
    return {kind: jax.jit(work) for kind, work in kinds.items()}


def _loss(layers: Any, parameters: Any, running: Any, x: Any, labels: Any) -> Any:
    """Return the mean loss and the new running statistics."""
    kept = {}
    for name, layer in layers:
        if layer[0] == "linear":
            x = x @ parameters[f"{name}.w"] + parameters[f"{name}.b"]
        elif layer[0] == "conv2d":
            x = jax.lax.conv_general_dilated(
                x, parameters[f"{name}.w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + parameters[f"{name}.b"]
        elif layer[0] == "max_pool2d":
            window = (1, layer[1], layer[1], 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        elif layer[0] == "flatten":
            x = x.reshape(len(x), -1)
        elif layer[0] == "batch_norm":
            mean = x.mean(axis=0)
            var = jnp.square(x - mean).mean(axis=0)
            old_mean, old_var = running[name]
            n = len(x)
            kept[name] = (0.9 * old_mean + 0.1 * mean, 0.9 * old_var + 0.1 * (n / (n - 1)) * var)
            x = (x - mean) * jax.lax.rsqrt(var + 1e-5) * parameters[f"{name}.gamma"] + parameters[f"{name}.beta"]
        else:
            x = jax.nn.relu(x) if layer[0] == "relu" else jnp.tanh(x)
    scores = jnp.take_along_axis(x, labels[:, None], axis=1)[:, 0]
    return (jax.scipy.special.logsumexp(x, axis=1) - scores).mean(), kept


def _step(layers: Any, optimizer: str, data: Any, rate: Any, decay: Any, state: Any, index: Any) -> Any:
    """Return the state after a step, and the loss."""
    X, y = data
    parameters, slots, running, count = state
    x, labels = (a.at[index].get(mode="promise_in_bounds") for a in (X, y))
    work = jax.value_and_grad(partial(_loss, layers), has_aux=True)
    (loss, running), gradients = work(parameters, running, x, labels)
    gradients = {k: g + decay * parameters[k] if k.endswith(".w") else g for k, g in gradients.items()}
    count = count + 1
    if optimizer == "adam":
        m = {k: 0.9 * slots["m"][k] + 0.1 * g for k, g in gradients.items()}
        v = {k: 0.999 * slots["v"][k] + 0.001 * g * g for k, g in gradients.items()}
        correction1, correction2 = 1 - 0.9**count, 1 - 0.999**count
        parameters = {
            k: p - rate * (m[k] / correction1) / (jnp.sqrt(v[k] / correction2) + 1e-8) for k, p in parameters.items()
        }
        slots = {"m": m, "v": v}
    elif optimizer == "momentum":
        slots = {"v": {k: 0.9 * slots["v"][k] + g for k, g in gradients.items()}}
        parameters = {k: p - rate * slots["v"][k] for k, p in parameters.items()}
    else:
        parameters = {k: p - rate * gradients[k] for k, p in parameters.items()}
    return (parameters, slots, running, count), loss


@lru_cache(maxsize=16)
def _compiled(layers: Any, optimizer: str, scan: bool) -> Any:
    """Return the jitted step, or scan over rows of indices; nets of the same form share it."""
    step = partial(_step, layers, optimizer)
    if scan:
        # Unnamed loops over (state, index): the data stay outside, so that they are not copied round by round.
        def work(data: Any, rate: Any, decay: Any, state: Any, indices: Any) -> Any:
            return jax.lax.scan(partial(step, data, rate, decay), state, indices)

        return jax.jit(work, donate_argnums=3)
    return jax.jit(step, donate_argnums=3)


class Net(Subject):
    """A training task."""

    def __init__(self, task: tasks.Task, scan: bool) -> None:
        self.task = task
        X, y, order = tasks.data(task)
        self.data = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
        self.first = tasks.first_weights(task)
        self.unit = 1
        if scan:
            self.unit = SCAN if task.flop < LARGE_FLOP else SCAN_LARGE
        self.scan = scan
        steps = np.arange(np.lcm(task.steps, self.unit)) % task.steps
        rows = order.reshape(task.steps, task.batch)[steps].astype(np.int32)
        self.indices = [jnp.asarray(part if scan else part[0]) for part in rows.reshape(-1, self.unit, task.batch)]
        self.work = _compiled(tuple(tasks.named_layers(task)), task.optimizer, scan)
        self.numbers = jnp.float32(task.learning_rate), jnp.float32(task.weight_decay)
        self.reset()

    def reset(self) -> None:
        """Put back the first weights, empty the optimizer's arrays."""
        # jnp.array copies: the state is given away, step by step.
        parameters = {k: jnp.array(v) for k, v in self.first.items()}
        names = {"adam": "mv", "momentum": "v", "sgd": ""}[self.task.optimizer]
        slots = {name: {k: jnp.zeros_like(p) for k, p in parameters.items()} for name in names}
        running = {
            name: (jnp.zeros(layer[1]), jnp.ones(layer[1]))
            for name, layer in tasks.named_layers(self.task)
            if layer[0] == "batch_norm"
        }
        self.state = parameters, slots, running, jnp.float32(0)
        self.at = 0

    def check(self) -> dict[str, Any]:
        """Train some steps and return their losses."""
        self.reset()
        losses: list[float] = []
        while len(losses) < tasks.CHECK_STEPS:
            losses += np.atleast_1d(np.asarray(self._advance())).tolist()
        return {"losses": losses[: tasks.CHECK_STEPS]}

    def run(self, calls: int) -> None:
        """Train ``calls`` steps, a multiple of the unit."""
        for _ in range(calls // self.unit):
            loss = self._advance()
        loss.block_until_ready()

    def _advance(self) -> Any:
        index = self.indices[self.at % len(self.indices)]
        self.at += 1
        self.state, loss = self.work(self.data, *self.numbers, self.state, index)
        return loss
