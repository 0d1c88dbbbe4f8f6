"""8. Searching for a learning rate and a strength of regularization, from coarse to fine.

Both act by their ratio, so both are drawn in log scale. A first search over wide ranges and few epochs shows where it is worth looking, a
second one looks there for longer. If the best of it lies at an end of a range, the range was wrong: the search says so.

    python examples/lecture/08_coarse_to_fine.py [--short] [--data FOLDER] [-o coarse_to_fine.png]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import compare, load, options, picture

import pyfastnn as fnn
from pyfastnn import nn, optim, search

FINE_EPOCHS = 5


def build(lr: float, reg: float) -> fnn.Trainer:
    """Return the lecture's net; after every epoch the rate is multiplied by 0.9."""
    small = nn.initializers.Normal(1e-4)
    model = nn.Sequential(nn.Linear(50, init=small), nn.ReLU(), nn.Linear(10, init=small))
    rate = optim.Step(lr, epochs=1, factor=0.9)
    return fnn.Trainer(model, optimizer=optim.SGD(rate, weight_decay=reg), monitor=None)


def main() -> None:
    """Search twice, and draw where the trials were."""
    args = options(__doc__, images=True)
    data = load(args)
    X, X_val = data.centered()
    unit = 1.0 if X.shape[1] == 3072 else 20.0  # rows of 64 pixels are shorter than rows of 3072
    rows = {"X": X, "y": data.y, "X_val": X_val, "y_val": data.y_val, "batch_size": 100}
    trials = 15 if args.short else 100

    wide = {"lr": search.log_uniform(1e-6 * unit, 1e-3 * unit), "reg": search.log_uniform(1e-5, 1e5)}
    coarse = search.random(build, wide, trials=trials, epochs=5, **rows)
    narrow = {"lr": search.log_uniform(1e-4 * unit, 1e-3 * unit), "reg": search.log_uniform(1e-4, 1.0)}
    fine = search.random(build, narrow, trials=trials, epochs=FINE_EPOCHS, seed=1, **rows)

    published = (0.482, 4.296863e-04, 6.642555e-01), (0.531, 9.471549e-04, 1.433895e-03)
    for name, study, values in (("coarse", coarse, published[0]), ("fine", fine, published[1])):
        print(f"\n{name} search, {study.seconds:.0f} s" + "".join(f"\nwarning: {line}" for line in study.warnings))
        best = study.best
        ours = best.score, best.params["lr"], best.params["reg"]
        names = "best validation accuracy", "its rate", "its regularization"
        compare(*zip(names, ours, values, strict=True), heads=("", "ours", "published (CIFAR-10)"))

    if args.output:
        with picture(args.output, columns=2, size=(9.5, 3.8)) as panels:
            for axes, study, title in zip(panels, (coarse, fine), ("coarse", "fine"), strict=True):
                draw(axes, study, f"{title}: {study.best.score:.3f} at best, the best five ringed")


def draw(axes: Any, study: search.Study, title: str) -> None:
    """Draw the trials of a search over both settings, the best five ringed."""
    params = np.array([[trial.params["lr"], trial.params["reg"], trial.score] for trial in study])
    points = axes.scatter(*params[:, :2].T, c=params[:, 2], s=26, cmap="viridis")
    best = np.array([[trial.params["lr"], trial.params["reg"]] for trial in study.top(5)])
    axes.scatter(*best.T, s=90, facecolors="none", edgecolors="#D55E00", linewidths=1.4)
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="regularization", title=title)
    for name, line in (("lr", axes.axvline), ("reg", axes.axhline)):
        for end in (study.spaces[0][name].low, study.spaces[0][name].high):
            line(end, color="#999999", linewidth=0.8, linestyle="--")
    axes.tick_params(which="minor", labelbottom=False)
    axes.figure.colorbar(points, ax=axes, label="validation accuracy")


if __name__ == "__main__":
    main()
