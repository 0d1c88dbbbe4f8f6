"""Experiment 12: ensembles and fine-tuning. Several nets know more than one, and a net that knows eight classes learns two more quickly.

The lecture: train several models, average what they say, and enjoy 2 % more; snapshots of one run, or a running mean of its weights, give
some of that for nothing. Fine-tuning: where images are few, a new head on frozen layers; then all layers at a tenth of the rate, the early
ones at a hundredth.
"""

from __future__ import annotations

import copy

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import nn, optim

MODELS, SNAPSHOTS, FEW = 8, 5, 10


def accuracy(model: nn.Model | fnn.Ensemble, X, y) -> float:
    """Return the share of the rows that a model or an ensemble gets right."""
    return float((model.predict(X) == y).mean())


def ensembles(data: common.Images, epochs: int) -> list[float]:
    """Train several nets side by side, and let them, snapshots of the first, and its running mean vote."""
    trainers = []
    for seed in range(MODELS):
        layers = nn.Flatten(), nn.Linear(100), nn.ReLU(), nn.Linear(10)
        net = nn.Sequential(*layers, preprocess=fnn.data.Standardize(per="all"))
        rule = optim.SGD(0.01, momentum=0.9, weight_decay=0.005, ema=0.995)  # x_test = 0.995 * x_test + 0.005 * x
        trainers.append(fnn.Trainer(net, optimizer=rule, seed=seed, monitor=False))
    fnn.train_many(trainers, data.X, data.y, epochs=epochs - SNAPSHOTS, batch_size=100)
    snapshots = []
    for _ in range(SNAPSHOTS):
        fnn.train_many(trainers, data.X, data.y, epochs=1, batch_size=100)
        snapshots.append(copy.deepcopy(trainers[0].model))

    models, test = [trainer.model for trainer in trainers], (data.X_test, data.y_test)
    alone = [accuracy(model, *test) for model in models]
    votes = [accuracy(fnn.Ensemble(models[: k + 1]), *test) for k in range(MODELS)]
    gain = votes[-1] - np.mean(alone)
    kinds = {
        f"the last {SNAPSHOTS} epochs of the first": accuracy(fnn.Ensemble(snapshots), *test),
        "the mean of their weights": accuracy(fnn.average_weights(snapshots), *test),
        "its running mean, 0.995": accuracy(trainers[0].ema_model(), *test),
    }
    common.compare(
        (f"one of {MODELS} nets", f"{np.mean(alone):.1%}", None, None),
        (f"all {MODELS} together", f"{votes[-1]:.1%}", f"{gain:+.1%}", "+2%"),
        ("the first net", f"{alone[0]:.1%}", None, None),
        *((name, f"{found:.1%}", f"{found - alone[0]:+.1%}", "a little") for name, found in kinds.items()),
        heads=("", "ours", "gain", "published"),
    )
    return votes


def fine_tuning(data: common.Images, epochs: int, draws: int) -> dict[str, float]:
    """Learn the last two classes from a few images, from nothing and from a net that knows the other eight."""
    known, new, unseen = data.y < 8, data.y >= 8, data.y_test >= 8
    layers = [nn.Conv2d(16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 3, padding="same"), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64), nn.ReLU(), nn.Linear(8)]
    expert = nn.Sequential(*layers, preprocess=fnn.data.Standardize(per="all"))
    fnn.Trainer(expert, monitor=False).fit(data.X[known], data.y[known], epochs=epochs, batch_size=100, verbose=0)
    early = "conv2d_1", "conv2d_2", "linear_1"

    found = []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(np.flatnonzero(new))
        rows = np.concatenate([order[data.y[order] == label][:FEW] for label in (8, 9)])

        def learn(model: nn.Model, rule: optim.Optimizer, rows=rows, seed=seed) -> float:
            trainer = fnn.Trainer(model, optimizer=rule, seed=seed, monitor=False)
            trainer.fit(data.X[rows], data.y[rows], epochs=100, batch_size=10, verbose=0)
            return accuracy(model, data.X_test[unseen], data.y_test[unseen])

        fresh, tuned = copy.deepcopy(expert), copy.deepcopy(expert)
        fresh.replace_head(nn.Linear(2))
        tuned.replace_head(nn.Linear(2), seed=seed)
        alone = learn(fresh.build(seed=seed), optim.Adam(1e-3))
        tuned.freeze(*early)
        head = learn(tuned, optim.Adam(1e-3))
        tuned.unfreeze()
        found.append((alone, head, learn(tuned, optim.Adam(1e-4, rate_factors=dict.fromkeys(early, 0.1)))))
    names = "a new net", "a new head on frozen layers", "then all layers, slowly"
    means = dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))
    pair = f"{data.classes[8]} or {data.classes[9]}"
    common.compare(*((f"{pair}: {name}", f"{mean:.1%}", None) for name, mean in means.items()))
    return means


def main() -> None:
    """Print what ensembles and fine-tuning bring, and draw it."""
    args = common.options(__doc__, images=True)
    data = common.load(args, rows=1500 if args.short else 49_000)
    votes = ensembles(data, 40 if args.short else 20)
    means = fine_tuning(data, 20 if args.short else 8, 3 if args.short else 10)
    if args.output:
        with common.picture(args.output, 1, 2, (9, 3)) as (left, right):
            left.plot(range(1, MODELS + 1), votes, marker="o")
            left.set(title="test accuracy of an ensemble", xlabel="nets")
            right.barh(list(means), list(means.values()), color=common.COLORS[:3], height=0.6)
            right.set(title=f"two classes from {FEW} images each", xlim=(0, 1), xlabel="test accuracy")
            right.invert_yaxis()


if __name__ == "__main__":
    main()
