"""6. Overfit 20 examples: if a net cannot learn these by heart, something is broken.

No regularization, plain gradient descent on all 20 images, 200 steps: the loss must come down to nearly 0 and the accuracy to 1. The nets
of the lectures see pixels from 0 to 255 minus the mean image. With pixels from 0 to 1 the same rate is 65,000 times smaller to the first
layer, and the loss has hardly moved after 200 steps.

    python examples/lecture/06_overfit.py [--short] [--data FOLDER] [-o overfit.png]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import BLUE, GREEN, RED, compare, load, options, picture

from pyfastnn.cs231n import ClassifierTrainer, init_two_layer_model, two_layer_net

EPOCHS = 200
PUBLISHED = {
    1: "2.302603", 2: "2.302258", 5: "2.300044", 10: "2.234787", 15: "1.820876", 19: "1.421527", 195: "0.002694",
    200: "0.002597",
}  # fmt: skip
"""Costs of the lecture by epoch."""


def overfit(X: Any, y: Any, rate: float, seed: int) -> dict[str, Any]:
    """Train a new net on these rows alone and return what it went through."""
    model = init_two_layer_model(X.shape[1], 50, 10, seed=seed)
    _, stats = ClassifierTrainer().train(
        X, y, X, y, model, two_layer_net, num_epochs=EPOCHS, reg=0.0, update="sgd", learning_rate_decay=1,
        sample_batches=False, learning_rate=rate,
    )  # fmt: skip
    return stats


def main() -> None:
    """Overfit 20 images from several first weights."""
    args = options(__doc__, images=True)
    data = load(args, rows=49_000)
    X, y = data.centered()[0][:20], data.y[:20]
    cifar = X.shape[1] == 3072
    rate = 1e-3 if cifar else 2e-2  # rows of 64 pixels are shorter than rows of 3072
    runs = [overfit(X, y, rate, seed) for seed in range(3 if args.short else 20)]
    costs = np.array([run["loss_history"] for run in runs])
    scaled = overfit(X / 255, y, rate, seed=0)

    compare(
        *(
            (f"cost, epoch {k}", f"{np.median(costs[:, k - 1]):.6f}", PUBLISHED[k] if cifar else None)
            for k in PUBLISHED
        ),
        (f"cost, epoch {EPOCHS}, least", f"{costs[:, -1].min():.6f}", None),
        (f"cost, epoch {EPOCHS}, largest", f"{costs[:, -1].max():.6f}", None),
        ("cost with pixels from 0 to 1", f"{scaled['loss_history'][-1]:.6f}", None),
        ("accuracy, lowest", min(run["train_acc_history"][-1] for run in runs), 1.0),
        heads=("", f"ours, median of {len(runs)}", "published"),
    )

    if args.output:
        with picture(args.output, columns=2) as (left, right):
            epochs = np.arange(1, EPOCHS + 1)
            left.semilogy(epochs, costs.T, color=BLUE, linewidth=0.7, alpha=0.5)
            left.semilogy(epochs, np.median(costs, axis=0), color=BLUE, linewidth=1.8, label="ours")
            left.semilogy(epochs, scaled["loss_history"], color=GREEN, linewidth=1.8, label="pixels from 0 to 1")
            if cifar:
                known, costs_known = zip(*PUBLISHED.items(), strict=True)
                left.semilogy(known, np.array(costs_known, float), "x", color=RED, markeredgewidth=2, label="published")
            left.set(title=f"{len(runs)} draws of first weights", xlabel="epoch", ylabel="cost")
            left.legend(frameon=False)
            right.plot(epochs, np.mean([run["train_acc_history"] for run in runs], axis=0), color=BLUE, linewidth=1.8)
            right.plot(epochs, scaled["train_acc_history"], color=GREEN, linewidth=1.8)
            right.set(title="accuracy on the 20 images", xlabel="epoch", ylim=(0, 1.03))


if __name__ == "__main__":
    main()
