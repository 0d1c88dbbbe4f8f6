"""8. Random search against grid search (Bergstra and Bengio 2012).

Of two settings one matters, the learning rate, and one hardly does, the strength of regularization. Nine trials of a grid try three rates,
three times each; nine trials drawn at random try nine rates. Both search the same range, whose ends are drawn anew for every repetition, so
that neither is lucky with where it begins.

    python examples/lecture/08_random_or_grid.py [--short] [-o random_or_grid.png]
"""

from __future__ import annotations

import numpy as np
from common import BLUE, RED, compare, options, picture

import pyfastnn as fnn
from pyfastnn import nn, optim, search

DECADES = 4
RATE, REG = "learning_rate", "weight_decay"


def build(learning_rate: float, weight_decay: float) -> fnn.Trainer:
    """Return a small net for the digits."""
    model = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10), preprocess=fnn.data.Standardize(per="all"))
    optimizer = optim.SGD(learning_rate, momentum=0.9, weight_decay=weight_decay)
    return fnn.Trainer(model, optimizer=optimizer, monitor=None)


def main() -> None:
    """Repeat both searches in ranges that begin at a random place."""
    args = options(__doc__)
    X, y = fnn.data.load_digits()
    Xt, Xv, yt, yv = fnn.data.split(X, y, validation=0.3, seed=0, stratify=y)
    common = {"X_val": Xv, "y_val": yv, "epochs": 5, "verbose": 0}
    rng = np.random.default_rng(0)
    grids, randoms = [], []
    for seed in range(5 if args.short else 100):
        low = 10.0 ** rng.uniform(-5, -3)
        space = {RATE: search.log_uniform(low, low * 10**DECADES), REG: search.log_uniform(1e-7, 1e-3)}
        grids.append(search.grid(build, space, Xt, yt, points=3, seed=seed, **common))
        randoms.append(search.random(build, space, Xt, yt, trials=9, seed=seed, **common))
    scores = {"grid": [study.best.score for study in grids], "random": [study.best.score for study in randoms]}
    table = [(name, np.mean(best), np.std(best) / len(best) ** 0.5, min(best)) for name, best in scores.items()]
    compare(*table, heads=("best of 9 trials", "mean accuracy", "its error", "worst"))
    tried = [len({trial.params[RATE] for trial in study}) for study in (grids[0], randoms[0])]
    compare(("rates tried by a grid", tried[0], 3), ("rates tried at random", tried[1], 9))
    won = np.mean(np.sign(np.subtract(scores["random"], scores["grid"])) / 2 + 0.5)
    print(f"random is better in {won:.0%} of {len(grids)} repetitions (a tie is half a win)")

    if args.output:
        every = [trial for study in randoms for trial in study]
        with picture(args.output, columns=3, size=(9.5, 3.2)) as (left, middle, right):
            right.semilogx(
                [t.params[RATE] for t in every], [t.score for t in every], ".", color="#bbbbbb", markersize=3
            )
            for axes, study, name, color in ((left, grids[0], "grid", RED), (middle, randoms[0], "random", BLUE)):
                rates, regs = ([trial.params[setting] for trial in study] for setting in (RATE, REG))
                axes.loglog(rates, regs, "o", color=color)
                axes.loglog(rates, np.full(9, 3e-8), "|", color=color, markersize=12)
                axes.set(title=f"{name}: {len(set(rates))} rates tried", ylim=(2e-8, 2e-3))
                axes.set(xlabel="learning rate", ylabel="weight decay")
                right.semilogx(rates, [trial.score for trial in study], "o", color=color, markersize=5, label=name)
            right.set(
                title="what matters is the rate", xlabel="learning rate", ylabel="validation accuracy", ylim=(0, 1.03)
            )
            right.legend(frameon=False, loc="lower center")


if __name__ == "__main__":
    main()
