"""Experiment 1: activations. Which of them saturate, which die, why all-positive inputs make the weights zig-zag, and how fast nets
with each of them learn.

Krizhevsky et al. (2012) trained a four-layer convolutional net on CIFAR-10 until 25 % of its training answers were wrong: with ReLUs
six times as fast as with tanh, each at the rate that was best for it. The race here is on fewer images and smaller layers.
"""

from __future__ import annotations

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import functional as F
from pyfastnn import nn, optim

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


def zigzag(low: float, high: float, steps: int = 400) -> np.ndarray:
    """Return the path of the two weights of a neuron that learns to subtract, from inputs in a range, one row a step."""
    X = np.random.default_rng(1).uniform(low, high, (steps, 2)).astype(np.float32)
    y = X @ np.float32([1.0, -1.0])
    model = nn.Sequential(nn.Linear(1, bias=False, init="zeros"))
    trainer = fnn.Trainer(model, "mean_squared_error", optim.SGD(0.5))
    path = [np.zeros(2)]
    for row in range(steps):
        trainer.step(X[row : row + 1], y[row : row + 1])
        path.append(model.parameters["linear_1.w"][:, 0].astype(np.float64))
    return np.array(path)


def look_at_zigzag() -> dict[str, np.ndarray]:
    """Compare inputs that are all positive, as behind a sigmoid, with inputs of mean 0 and the same spread."""
    paths = {"inputs 0 to 1": zigzag(0.0, 1.0), "inputs -0.5 to 0.5": zigzag(-0.5, 0.5)}
    rows = []
    for name, path in paths.items():
        moves = np.diff(path, axis=0)
        moves = moves[np.abs(moves).max(1) > 1e-6]
        same = (moves[:, 0] * moves[:, 1] >= 0).mean()
        detour = np.linalg.norm(moves, axis=1).sum() / np.sqrt(2.0)
        near = int(np.argmax(np.linalg.norm(path - [1.0, -1.0], axis=1) < 0.05))
        rows += [
            (f"{name}: gradients of one sign", f"{same:.0%}", "100%" if "0 to 1" in name else None),
            (f"{name}: way over distance", f"{detour:.1f}", "zig-zag" if "0 to 1" in name else None),
            (f"{name}: steps to the goal", near, None),
        ]
    common.compare(*rows)
    return paths


RATES = 0.1, 0.03, 0.01
WRONG = 0.25


def network(activation: type[nn.Layer]) -> nn.Sequential:
    """Return a net of four layers with weights."""
    init = "he_normal" if activation is nn.ReLU else "xavier_normal"
    layers: list[nn.Layer] = []
    for filters in (16, 32, 32):
        layers += [nn.Conv2d(filters, 3, padding="same", init=init), activation(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(10), preprocess=fnn.data.Standardize(per="all"))


def good_enough(_: fnn.Trainer, row: dict[str, float]) -> bool:
    """Say, behind every epoch, whether the race is over."""
    return row["accuracy"] >= 1.0 - WRONG


def epochs_until(errors: list[float], goal: float) -> float:
    """Return when a curve crosses the goal, between two epochs on a line; infinity if it does not."""
    for epoch, (before, behind) in enumerate(zip(errors, errors[1:], strict=False), 1):
        if behind <= goal:
            return epoch + (before - goal) / (before - behind)
    return 1.0 if errors and errors[0] <= goal else np.inf


def race(args) -> dict[str, list[float]]:
    """Train a net with each activation at several rates; print how long the best of them take, and return their errors."""
    data = common.load(args, rows=5000)
    most = 15 if args.short else 40
    curves, taken = {}, {}
    for activation in (nn.ReLU, nn.Tanh, nn.Sigmoid):
        name = activation.__name__
        for rate in RATES:
            trainer = fnn.Trainer(network(activation), optimizer=optim.SGD(rate, momentum=0.9), monitor=False, guard=None)
            history = trainer.fit(data.X, data.y, epochs=most, batch_size=100, callbacks=[good_enough], verbose=0)
            errors = [1.0 - accuracy for accuracy in history["accuracy"]]
            epochs = epochs_until(errors, WRONG)
            if name not in taken or (epochs, errors[-1]) < (taken[name], curves[name][-1]):
                taken[name], curves[name] = epochs, errors
    rows = [(f"{k}: epochs until {WRONG:.0%} wrong", f"{v:.1f}" if v < np.inf else f"over {most}", None) for k, v in taken.items()]
    for name, published in (("Tanh", "6"), ("Sigmoid", None)):
        times = taken[name] / taken["ReLU"]
        shown = f"{times:.1f}" if times < np.inf else f"over {most / taken['ReLU']:.1f}"
        rows.append((f"ReLU is faster than {name.lower()}, times", shown, published))
    common.compare(*rows)
    return curves


def main() -> None:
    """Print the three experiments, and draw them."""
    args = common.options(__doc__, images=True)
    look_at_gradients()
    paths = look_at_zigzag()
    curves = race(args)
    if args.output:
        draw(paths, curves, args.output)


def draw(paths: dict, curves: dict, path: str) -> None:
    """Draw activations and their gradients, the paths of the two weights, and the race."""
    x = np.linspace(-5.0, 5.0, 400)
    with common.picture(path, 2, 2, (8.5, 6.5)) as (values, slopes, plane, errors):
        for name in ACTIVATIONS:
            y, slope = gradient(name, x)
            values.plot(x, y, label=name)
            slopes.plot(x, slope, label=name)
        values.set(title="activations", ylim=(-1.6, 3))
        values.legend(frameon=False)
        slopes.set(title="their gradients", ylim=(-0.05, 1.1))
        for name, way in paths.items():
            plane.plot(*way[:60].T, marker=".", markersize=3, linewidth=0.8, label=name)
        plane.plot(1.0, -1.0, "k*", markersize=9, label="goal")
        plane.set(title="two weights, step by step", xlabel="first weight", ylabel="second weight", aspect="equal")
        plane.legend(frameon=False)
        for name, curve in curves.items():
            errors.plot(range(1, len(curve) + 1), curve, label=name)
        errors.axhline(WRONG, color="black", linestyle=":", linewidth=0.8)
        errors.set(title="training error", xlabel="epoch", ylim=(0, 1))
        errors.legend(frameon=False)


if __name__ == "__main__":
    main()
