"""7. Learning rates: too low, far too high, and a little too high.

At 1e-6 the loss barely moves, and yet the accuracy rises: the softmax is nearly even, but small changes decide which score is the highest.
At 1e6 the loss explodes at once. At 3e-3 a net learns for some epochs and explodes then.

There the lecture's loss is inf: it takes the logarithm of exp(score) / sum, which is 0 for a float64 as soon as a score lies 745 below the
highest. log(sum) - score is the same number without that way round: it says how bad the scores are, and goes on to say so.

    python examples/lecture/07_learning_rates.py [--short] [--data FOLDER] [-o learning_rates.png]
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from common import BLUE, GREEN, RED, compare, load, options, picture

from pyfastnn.cs231n import ClassifierTrainer, init_two_layer_model, two_layer_net

EPOCHS = 10
LOW = {1: (2.302576, 0.103), 4: (2.302519, 0.151), 7: (2.302466, 0.176), 10: (2.302420, 0.192)}
"""Published costs and validation accuracies at 1e-6, by epoch."""
HIGH = {
    1: (2.186654, 0.306), 2: (2.176230, 0.350), 3: (1.942257, 0.352), 4: (1.827868, 0.310), 5: (np.inf, 0.128),
    6: (np.inf, 0.147),
}  # fmt: skip
"""The same at 3e-3."""


def train(rows: Any, model: Any, rate: float, epochs: int = 1, seed: int = 0, **more: Any) -> tuple[Any, Any]:
    """Train a net as the lecture does, in place; return the costs of all steps and the validation accuracies of all epochs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training stopped")
        _, stats = ClassifierTrainer(seed).train(
            *rows, model, two_layer_net, num_epochs=epochs, reg=1e-6, update="sgd", learning_rate_decay=1,
            sample_batches=True, learning_rate=rate, **more,
        )  # fmt: skip
    return stats["loss_history"], stats["val_acc_history"]


def lecture_loss(scores: Any, y: Any) -> float:
    """Return the loss as the lecture computes it: first probabilities, then their logarithm."""
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return float(-np.mean(np.log(p[np.arange(len(y)), y])))


def explosion(costs: Any) -> int:
    """Return the step, counted from 1, whose cost is more than three times the first one, as the lecture's tip has it; 0 if none is."""
    over = ~(np.asarray(costs) <= 3 * costs[0])
    return int(np.argmax(over)) + 1 if over.any() else 0


def main() -> None:
    """Train at three rates of which none is right."""
    args = options(__doc__, images=True)
    data = load(args, rows=1000 if args.short else 49_000)
    X, X_val = data.centered()
    rows, some = (X, data.y, X_val, data.y_val), slice(1000)
    cifar = X.shape[1] == 3072
    low, high = (1e-6, 3e-3) if cifar else (2e-5, 3e-2)  # rows of 64 pixels are shorter than rows of 3072

    def new(seed: int = 0) -> Any:
        return init_two_layer_model(X.shape[1], 50, 10, seed=seed)

    def beside(published: dict[int, tuple[float, float]], epoch: int, costs: Any, accuracy: Any) -> tuple[Any, ...]:
        cost, val = published.get(epoch, (None, None)) if cifar else (None, None)
        ours = costs[epoch * (len(X) // 100) - 1]
        return str(epoch), f"{ours:.7g}", None if cost is None else f"{cost:.7g}", accuracy[epoch - 1], val

    heads = ("epoch", "cost, ours", "published", "val accuracy, ours", "published")
    print(f"\nrate {low:g}: the loss barely moves though the accuracy rises")
    slow, slow_accuracy = train(rows, new(), low, epochs=EPOCHS)
    compare(*(beside(LOW, epoch, slow, slow_accuracy) for epoch in LOW), heads=heads)

    print("\nrate 1e6: the loss explodes at once")
    stopped, _ = train(rows, new(), 1e6, guard="lecture")
    passed, _ = train(rows, new(), 1e6, epochs=3)
    first = ", ".join(f"{cost:.3g}" for cost in passed[:4])
    print(f"guard='lecture', which allows three times the first cost, stops it at step {len(stopped)}")
    print(f"without it: {first} ... nan at step {1 + np.argmax(np.isnan(passed))} (published: nan)")

    print(f"\nrate {high:g}: it learns, and explodes later")
    runs = []
    for seed in range(2 if args.short else 8):
        model, costs, accuracy, table = new(seed), [], [], []
        for epoch in range(1, EPOCHS + 1):
            found = train(rows, model, high, seed=100 * seed + epoch)
            costs, accuracy = costs + found[0], accuracy + found[1]
            stable, _ = two_layer_net(X[some], model, data.y[some])
            naive = lecture_loss(two_layer_net(X[some], model), data.y[some])
            table.append((*beside(HIGH, epoch, costs, accuracy), stable, naive))
        if seed == 0:
            compare(*table, heads=(*heads, "loss, 1000 rows", "the lecture's way"))
        runs.append((costs, accuracy))
    steps = [explosion(costs) for costs, _ in runs]
    epochs = [str(-(-step * 100 // len(X))) if step else "never" for step in steps]
    print(f"explodes in epoch {', '.join(epochs)} ({len(runs)} runs" + ("; published: 5)" if cifar else ")"))

    if args.output:
        per_epoch = len(X) // 100
        with picture(args.output, columns=2, size=(8.5, 3.4)) as (left, right):
            for k, (costs, _) in enumerate(runs):
                smooth = np.convolve(costs, np.full(per_epoch // 5, 5 / per_epoch), "valid")
                time = (np.arange(len(smooth)) + per_epoch / 5) / per_epoch
                label = f"{high:g}, {len(runs)} runs" if k == 0 else None
                left.semilogy(time, np.minimum(smooth, 1e9), color=RED, linewidth=0.9, label=label)
            left.semilogy(np.arange(1, len(slow) + 1) / per_epoch, slow, color=BLUE, label=f"{low:g}")
            left.semilogy(np.arange(1, 3) / per_epoch, passed[:2], color=GREEN, label="1e6")
            left.set(title="cost", xlabel="epoch", ylim=(1, 1e4))
            right.plot(range(1, EPOCHS + 1), runs[0][1], color=RED, label=f"{high:g}")
            right.plot(range(1, EPOCHS + 1), slow_accuracy, color=BLUE, label=f"{low:g}")
            right.set(title="validation accuracy", xlabel="epoch", ylim=(0, 0.45 if cifar else 1))
            for published, color in ((HIGH, RED), (LOW, BLUE)) if cifar else ():
                epochs_known, (known, values) = list(published), zip(*published.values(), strict=True)
                shown = np.minimum(known, 7e3)  # inf stands at the upper edge
                left.plot(epochs_known, shown, "x", color=color, markeredgewidth=2)
                right.plot(epochs_known, values, "x", color=color, markeredgewidth=2, label="published")
            if cifar:
                left.text(5.5, 3e3, "inf", color=RED, ha="center")
            left.legend(loc="center", bbox_to_anchor=(0.47, 0.45), edgecolor="none", fontsize=8)
            right.legend(frameon=False)


if __name__ == "__main__":
    main()
