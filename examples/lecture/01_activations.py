"""Experiment 1: activations. Which of them saturate, which die, why all-positive inputs make the weights zig-zag, and how fast nets
with each of them learn.

Krizhevsky et al. (2012) trained a four-layer convolutional net on CIFAR-10 until 25 % of its training answers were wrong: with ReLUs
six times as fast as with tanh, each at the rate that was best for it. The race here is on fewer images and smaller layers.
"""

from __future__ import annotations

from itertools import pairwise

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import functional as F
from pyfastnn import nn, optim
from pyfastnn.nn.initializers import Normal

# Values, gradients (of dy, x and y), and what the lecture says of them.
ACTIVATIONS = {
    "sigmoid": (F.sigmoid, lambda dy, x, y: F.sigmoid_backward(dy, y), "saturates"),
    "tanh": (F.tanh, lambda dy, x, y: F.tanh_backward(dy, y), "saturates"),
    "ReLU": (F.relu, lambda dy, x, y: F.relu_backward(dy, y), "can die"),
    "leaky ReLU": (F.leaky_relu, lambda dy, x, y: F.leaky_relu_backward(dy, x), "will not die"),
    "ELU": (F.elu, lambda dy, x, y: F.elu_backward(dy, y), "saturates below"),
}


def gradient(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values and gradients of an activation."""
    forward, backward, _ = ACTIVATIONS[name]
    y = forward(x)
    return y, backward(np.ones_like(x), x, y)


def word(slopes: np.ndarray) -> str:
    """Say in the lecture's words what the gradients at -10 and 10 mean for learning."""
    below, above = slopes[0], slopes[-1]
    if below == 0.0:
        return "can die"
    if below > 1e-3:
        return "will not die"
    return "saturates" if above < 1e-3 else "saturates below"


def look_at_gradients() -> None:
    """Print values and gradients at -10, 0 and 10."""
    x = np.array([-10.0, 0.0, 10.0])
    rows = []
    for name, (_, _, published) in ACTIVATIONS.items():
        y, slopes = gradient(name, x)
        rows.append((name, *(f"{v:.4g}" for v in (*y, *slopes)), word(slopes), published))
    common.compare(*rows, heads=("", "f(-10)", "f(0)", "f(10)", "f'(-10)", "f'(0)", "f'(10)", "ours", "published"))


GOAL = 1.0, -1.0


def zigzag(low: float, high: float, rate: float, seed: int, steps: int = 200) -> np.ndarray:
    """Return the way of the two weights of a neuron that learns to subtract inputs of a range, up to the goal; one row a step."""
    X = np.random.default_rng(seed).uniform(low, high, (steps, 2)).astype(np.float32)
    y = X @ np.float32(GOAL)
    model = nn.Sequential(nn.Linear(1, bias=False, init="zeros"))
    trainer = fnn.Trainer(model, "mean_squared_error", optim.SGD(rate), monitor=False)
    way = [np.zeros(2)]
    for row in range(steps):
        trainer.step(X[row : row + 1], y[row : row + 1])
        way.append(model.parameters["linear_1.w"][:, 0].astype(np.float64))
    far = np.linalg.norm(np.array(way) - GOAL, axis=1) > 0.05
    return np.array(way[: np.flatnonzero(far)[-1] + 2])


def look_at_zigzag() -> dict[str, np.ndarray]:
    """Compare inputs that are all positive, as after a sigmoid, with inputs around 0; return a way of each at one rate."""
    found, rows = {}, []
    for name, low, high, published in (("inputs 0 to 1", 0.0, 1.0, "100%"), ("inputs -0.5 to 0.5", -0.5, 0.5, None)):
        tried = [[zigzag(low, high, rate, seed) for seed in range(10)] for rate in (0.5, 1.0, 2.0)]
        ways = min(tried, key=lambda ways: sum(map(len, ways)))  # those of the best rate
        moves = np.concatenate([np.diff(way, axis=0) for way in ways])
        detour = np.linalg.norm(moves, axis=1).sum() / len(ways) / np.linalg.norm(GOAL)
        rows += [
            (
                f"{name}: steps whose gradients have one sign",
                f"{(moves[:, 0] * moves[:, 1] >= 0).mean():.0%}",
                published,
            ),
            (f"{name}: way over distance", f"{detour:.1f}", published and "zig-zag"),
            (f"{name}: steps to the goal", f"{len(moves) / len(ways):.1f}", None),
        ]
        found[name] = zigzag(low, high, 0.5, 1)
    common.compare(*rows)
    return found


WRONG = 0.25
RATES = 0.1, 0.03, 0.01, 0.003


def network(activation: type[nn.Layer]) -> nn.Sequential:
    """Return a net of four layers on raw pixels that begins with the small weights of its day."""
    layers: list[nn.Layer] = []
    for filters, size in ((16, 0.0001), (16, 0.01), (32, 0.01)):
        layers += [nn.Conv2d(filters, 5, padding="same", init=Normal(size)), activation(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(10, init=Normal(0.01)), preprocess=fnn.data.Center())


def epochs_until(errors: list[float], goal: float) -> float:
    """Return when a curve crosses the goal, between two epochs on a line; infinity if it does not."""
    curve = [0.9, *errors]  # where guessing begins
    for epoch, (before, behind) in enumerate(pairwise(curve)):
        if behind <= goal:
            return epoch + (before - goal) / (before - behind)
    return np.inf


def race(args) -> dict[str, dict[float, list[float]]]:
    """Train a net with each activation at each rate, side by side; print how long they take, and return their errors."""
    data = common.load(args, rows=1000 if args.short else 3000)
    epochs = 20 if args.short else 40
    runs = [(kind.__name__, rate) for kind in (nn.ReLU, nn.Tanh, nn.Sigmoid) for rate in RATES]
    trainers = [
        fnn.Trainer(network(getattr(nn, name)), optimizer=optim.SGD(rate, momentum=0.9), monitor=False, guard=None)
        for name, rate in runs
    ]
    histories = fnn.train_many(trainers, data.X, data.y, epochs=epochs, batch_size=100)
    errors: dict[str, dict[float, list[float]]] = {name: {} for name, _ in runs}
    for (name, rate), history in zip(runs, histories, strict=True):
        errors[name][rate] = [1.0 - accuracy for accuracy in history["accuracy"]]

    rows, fastest = [], {}
    for name, curves in errors.items():
        fastest[name], rate = min((epochs_until(curve, WRONG), rate) for rate, curve in curves.items())
        shown = f"{fastest[name]:.1f} at {rate:g}" if fastest[name] < np.inf else f"over {epochs}"
        rows.append((f"{name}: epochs until {WRONG:.0%} wrong", shown, None))
    lead = times(fastest["Tanh"], fastest["ReLU"], epochs)
    rows.append(("ReLU before tanh, each at its best rate: times as fast", lead, "6"))
    for rate in RATES[1:]:
        relu, tanh = errors["ReLU"][rate], errors["Tanh"][rate]
        goal = max(relu[-1], tanh[-1])  # what both reach
        lead = times(epochs_until(tanh, goal), epochs_until(relu, goal), epochs)
        rows.append((f"both at {rate:g}: times as fast", lead, None))
    common.compare(*rows)
    return {
        name: min(curves.values(), key=lambda curve: (epochs_until(curve, WRONG), curve[-1]))
        for name, curves in errors.items()
    }


def times(slow: float, fast: float, most: int) -> str:
    """Return how many times as long the slow one takes."""
    return f"{slow / fast:.1f}" if slow < np.inf else f"over {most / fast:.1f}"


def main() -> None:
    """Print the three experiments, and draw them."""
    args = common.options(__doc__, images=True)
    look_at_gradients()
    ways = look_at_zigzag()
    curves = race(args)
    if args.output:
        draw(ways, curves, args.output)


def draw(ways: dict, curves: dict, path: str) -> None:
    """Draw activations and their gradients, the ways of two weights, and the race."""
    x = np.linspace(-5.0, 5.0, 400)
    with common.picture(path, 2, 2, (8.5, 6.5)) as (values, slopes, plane, errors):
        for name in ACTIVATIONS:
            y, slope = gradient(name, x)
            values.plot(x, y, label=name)
            slopes.plot(x, slope, label=name)
        values.set(title="activations", ylim=(-1.6, 3))
        values.legend(frameon=False)
        slopes.set(title="their gradients", ylim=(-0.05, 1.1))
        for name, way in ways.items():
            plane.plot(*way.T, marker=".", markersize=3, linewidth=0.8, label=name)
        plane.plot(*GOAL, "k*", markersize=9, label="goal")
        plane.set(title="two weights, step by step at rate 0.5", xlabel="first weight", ylabel="second weight")
        plane.legend(frameon=False)
        for name, curve in curves.items():
            errors.plot(range(1, len(curve) + 1), curve, label=name)
        errors.axhline(WRONG, color="black", linestyle=":", linewidth=0.8)
        errors.set(title="training error, each at its best rate", xlabel="epoch", ylim=(0, 1))
        errors.xaxis.get_major_locator().set_params(integer=True)
        errors.legend(frameon=False)


if __name__ == "__main__":
    main()
