"""8. The trials that the lecture prints of its searches, run again.

Eleven are of its coarse search, of five epochs each, the others of its fine search, of which it does not say how many epochs it took. Two
things come out: after five epochs those others are not as good yet, after fifteen they are; and the momentum was 0, the default of the
lecture's trainer, though the call asks for update='momentum': at 0.9 the same rates give other accuracies.

    python examples/lecture/08_published_trials.py [--short] [--data FOLDER] [-o published_trials.png]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import BLUE, RED, SKY, compare, load, options, picture

import pyfastnn as fnn
from pyfastnn import nn, optim

COARSE = (
    (0.412, 1.405206e-4, 4.793564e-1), (0.214, 7.231888e-6, 2.321281e-4), (0.208, 2.119571e-6, 8.011857e1),
    (0.196, 1.551131e-5, 4.374936e-5), (0.079, 1.753300e-5, 1.200424e3), (0.223, 4.215128e-5, 4.196174e1),
    (0.441, 1.750259e-4, 2.110807e-4), (0.241, 6.749231e-5, 4.226413e1), (0.482, 4.296863e-4, 6.642555e-1),
    (0.079, 5.401602e-6, 1.599828e4), (0.154, 1.618508e-6, 4.925252e-1),
)  # fmt: skip
"""Published validation accuracy, learning rate and strength of regularization."""
FINE = (
    (0.527, 5.340517e-4, 4.097824e-1), (0.492, 2.279484e-4, 9.991345e-4), (0.512, 8.680827e-4, 1.349727e-2),
    (0.461, 1.028377e-4, 1.220193e-2), (0.460, 1.113730e-4, 5.244309e-2), (0.498, 9.477776e-4, 2.001293e-3),
    (0.469, 1.484369e-4, 4.328313e-1), (0.522, 5.586261e-4, 2.312685e-4), (0.530, 5.808183e-4, 8.259964e-2),
    (0.489, 1.979168e-4, 1.010889e-4), (0.490, 2.036031e-4, 2.406271e-3), (0.475, 2.021162e-4, 2.287807e-1),
    (0.460, 1.135527e-4, 3.905040e-2), (0.515, 6.947668e-4, 1.562808e-2), (0.531, 9.471549e-4, 1.433895e-3),
    (0.509, 3.140888e-4, 2.857518e-1), (0.514, 6.438349e-4, 3.033781e-1), (0.502, 3.921784e-4, 2.707126e-4),
    (0.509, 9.752279e-4, 2.850865e-3), (0.500, 2.412048e-4, 4.997821e-4), (0.466, 1.319314e-4, 1.189915e-2),
    (0.516, 8.039527e-4, 1.528291e-2),
)  # fmt: skip
LONGER = 15


def trainer(rate: float, reg: float, momentum: float, seed: int) -> fnn.Trainer:
    """Return the lecture's net; after every epoch the rate is multiplied by 0.9."""
    small = nn.initializers.Normal(1e-4)
    model = nn.Sequential(nn.Linear(50, init=small), nn.ReLU(), nn.Linear(10, init=small))
    optimizer = optim.SGD(optim.Step(rate, epochs=1, factor=0.9), momentum=momentum, weight_decay=reg)
    return fnn.Trainer(model, optimizer=optimizer, monitor=None, guard=None, seed=seed)


def main() -> None:
    """Repeat the trials."""
    args = options(__doc__, images=True)
    data = load(args)
    X, X_val = data.centered()
    cifar = X.shape[1] == 3072
    unit = 1.0 if cifar else 20.0  # rows of 64 pixels are shorter than rows of 3072

    def repeat(trials: Any, epochs: int, momentum: float = 0.0) -> Any:
        """Return the validation accuracies after every epoch of every trial."""
        trainers = [trainer(rate * unit, reg, momentum, seed) for seed, (_, rate, reg) in enumerate(trials)]
        rows = {"X_val": X_val, "y_val": data.y_val, "batch_size": 100}
        return np.array([h["val_accuracy"] for h in fnn.train_many(trainers, X, data.y, epochs=epochs, **rows)])

    def apart(ours: Any, trials: Any) -> tuple[float, float]:
        """Return by how much accuracies differ from the published ones, on average and as root mean square."""
        difference = ours - [trial[0] for trial in trials]
        return float(np.mean(difference)), math.sqrt(np.mean(difference**2))

    coarse, heavy, fine = repeat(COARSE, 5), repeat(COARSE, 5, 0.9), repeat(FINE, LONGER)
    columns = {
        "coarse": (COARSE, {"5 epochs": coarse[:, 4], "momentum 0.9": heavy[:, 4]}),
        "fine": (FINE, {"5 epochs": fine[:, 4], f"{LONGER} epochs": fine[:, LONGER - 1]}),
    }
    for name, (trials, ours) in columns.items():
        rows = zip(trials, *ours.values(), strict=True)
        table = [(f"{rate * unit:e}", f"{reg:e}", *found, val) for (val, rate, reg), *found in rows]
        compare(
            *table,
            heads=(f"{name}: rate", "regularization", *(f"ours, {column}" for column in ours), "published (CIFAR-10)"),
        )
        for column, found in ours.items() if cifar else ():
            bias, spread = apart(found, trials)
            print(f"{column}: {bias:+.4f} from the published ones on average, {spread:.4f} as root mean square")
        print()

    if args.output:
        with picture(args.output, columns=2, size=(8.5, 4)) as panels:
            for axes, (name, (trials, ours)), colors in zip(
                panels, columns.items(), ((BLUE, RED), (SKY, BLUE)), strict=True
            ):
                published = [trial[0] for trial in trials]
                for (column, found), color in zip(ours.items(), colors, strict=True):
                    axes.plot(published, found, "o", markersize=4.5, color=color, label=column)
                ends = (0, 1) if not cifar else (0, 0.55) if name == "coarse" else (0.37, 0.55)
                axes.plot(ends, ends, color="#999999", linewidth=0.8)
                axes.set(title=f"{name}: validation accuracy", xlabel="published", ylabel="ours", xlim=ends, ylim=ends)
                axes.legend(frameon=False)


if __name__ == "__main__":
    main()
