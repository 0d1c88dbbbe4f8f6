"""Fine-tuning: a network that knows the ten digits learns to tell odd ones from even ones, from 40 examples.

Run it with ``python examples/fine_tuning.py``; it takes a second or two.
"""

from __future__ import annotations

import numpy as np

import pyfastnn as fnn
from pyfastnn import nn, optim

EXAMPLES, SPLITS = 40, 5


def network(classes: int) -> nn.Sequential:
    """Return two hidden layers and a head."""
    layers = (nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(classes))
    return nn.Sequential(*layers, preprocess=fnn.data.Standardize(per="all"))


def compare(seed: int) -> dict[str, float]:
    """Return the accuracy on unseen rows of three ways to learn from few examples."""
    X, y = fnn.data.load_digits()
    X_known, X_new, digits, others = fnn.data.split(X, y, validation=0.5, seed=seed, stratify=y)
    parity = np.where(others % 2 == 1, "odd", "even")
    few, rest = slice(EXAMPLES), slice(EXAMPLES, None)
    found = {}

    def learn(name: str, model: nn.Model, optimizer: optim.Optimizer, epochs: int) -> None:
        trainer = fnn.Trainer(model, optimizer=optimizer, seed=seed)
        trainer.fit(X_new[few], parity[few], epochs=epochs, batch_size=8, verbose=0)
        found[name] = trainer.evaluate(X_new[rest], parity[rest])["accuracy"]

    learn("a new network", network(2), optim.Adam(1e-2), 60)

    model = network(10)
    fnn.Trainer(model, seed=seed).fit(X_known, digits, epochs=20, verbose=0)
    # The last layer gives way to one for two classes; the others keep what they know and are left alone.
    model.replace_head(nn.Linear(2), seed=seed)
    model.freeze("linear_1", "linear_2")
    learn("a new head on frozen layers", model, optim.Adam(1e-2), 30)
    # Then all layers go on, the early ones at a tenth and a third of the rate.
    model.unfreeze()
    learn("then all layers, slowly", model, optim.Adam(1e-3, rate_factors={"linear_1": 0.1, "linear_2": 0.3}), 30)
    return found


def main() -> None:
    """Print means over several splits of the data."""
    runs = [compare(seed) for seed in range(SPLITS)]
    print(f"odd or even, from {EXAMPLES} examples, mean accuracy of {SPLITS} splits")
    for name in runs[0]:
        print(f"{name:28s} {np.mean([run[name] for run in runs]):.1%}")


if __name__ == "__main__":
    main()
