"""Experiment 4: batch normalization. It permits higher rates and worse first weights; training and testing differ; it can learn the
identity.

Eight layers of 50 units on 1000 images, once with and once without it. Ioffe and Szegedy (2015) trained Inception with batch norm at 5
and at 30 times the rate it needed without.
"""

from __future__ import annotations

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.nn.initializers import Normal

DEPTH, WIDTH, EPOCHS = 7, 50, 10


def network(init: str | Normal, *, batch_norm: bool) -> nn.Sequential:
    """Return seven hidden layers and a head."""
    layers: list[nn.Layer] = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, init=init), *([nn.BatchNorm()] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(10, init=init), preprocess=fnn.data.Standardize(per="all"))


def trained(X, y, trainers: list[fnn.Trainer]) -> list[float]:
    """Train all side by side and return the accuracies of their last epoch."""
    histories = fnn.train_many(trainers, X, y, epochs=EPOCHS, batch_size=50)
    return [history["accuracy"][-1] for history in histories]


def rates_and_weights(X, y, points: int) -> tuple[np.ndarray, np.ndarray, dict, dict]:
    """Train at many rates, and from first weights of many sizes, with and without batch norm."""
    rates, sizes = np.logspace(-3, 1.5, points), np.logspace(-4, 0, points)
    quiet = {"monitor": False, "guard": None}  # some of these are meant to fail
    by_rate, by_size = {}, {}
    for name, batch_norm in (("without", False), ("with batch norm", True)):
        nets = [fnn.Trainer(network("he_normal", batch_norm=batch_norm), optimizer=optim.SGD(r), **quiet) for r in rates]
        by_rate[name] = trained(X, y, nets)
        nets = [fnn.Trainer(network(Normal(s), batch_norm=batch_norm), optimizer=optim.Adam(1e-3), **quiet) for s in sizes]
        by_size[name] = trained(X, y, nets)

    rows = []
    good = 0.9 * max(map(max, by_rate.values()))
    largest = {name: max((r for r, a in zip(rates, found, strict=True) if a >= good), default=0.0) for name, found in by_rate.items()}
    best = {name: rates[np.argmax(found)] for name, found in by_rate.items()}
    good = 0.9 * max(by_size["without"])
    works = {name: [s for s, a in zip(sizes, found, strict=True) if a >= good] for name, found in by_size.items()}
    for name in by_rate:
        rows += [
            (f"{name}: best accuracy, at rate", f"{max(by_rate[name]):.1%} {best[name]:.2g}", None),
            (f"{name}: first weights that train", f"{min(works[name]):.1g} to {max(works[name]):.1g}", None),
        ]
    ratio = largest["with batch norm"] / largest["without"] if largest["without"] else np.inf
    rows.append(("rate it stands, times that without", f"{ratio:.0f}", "5 and 30"))
    common.compare(*rows)
    return rates, sizes, by_rate, by_size


def two_modes(X, y) -> None:
    """Show that in training the answer to a row depends on its batch, and in testing on the row alone."""
    trainer = fnn.Trainer(network("he_normal", batch_norm=True), optimizer=optim.Adam(1e-3), monitor=False)
    trainer.fit(X, y, epochs=EPOCHS, batch_size=50, verbose=0)
    tested = [trainer.model(X[:50])[0], trainer.model(X[:1])[0]]
    training = [trainer.forward(np.concatenate([X[:1], rest]))[0] for rest in (X[1:50], X[50:99])]
    rows = [
        ("training: scores of a row in two batches differ by", np.ptp(training, axis=0).max(), "differ"),
        ("testing: alone and in a batch they differ by", np.ptp(tested, axis=0).max(), "0"),
    ]
    common.compare(*rows)


def identity(short: bool) -> None:
    """Let a layer of batch norm alone learn to answer what it is given: it undoes its normalization."""
    X = np.random.default_rng(0).standard_normal((1000, 4)) * [0.5, 1.0, 2.0, 4.0] + [1.0, -1.0, 3.0, 0.0]
    layer = nn.Sequential(nn.BatchNorm(), dtype="float64")
    rate = optim.Cosine(0.1, epochs=100 if short else 400)
    history = fnn.Trainer(layer, "mean_squared_error", optim.Adam(rate), monitor=False).fit(
        X, X, epochs=100 if short else 400, batch_size=len(X), verbose=0
    )
    gamma, beta = layer.parameters["batch_norm_1.gamma"], layer.parameters["batch_norm_1.beta"]
    common.compare(
        ("gamma and the deviation differ by", np.abs(gamma / np.sqrt(X.var(0) + 1e-5) - 1).max(), "0"),
        ("beta and the mean differ by", np.abs(beta - X.mean(0)).max(), "0"),
        ("error of the identity", history["loss"][-1], "0"),
    )


def main() -> None:
    """Print the three experiments, and draw the first."""
    args = common.options(__doc__, images=True)
    data = common.load(args, rows=300 if args.short else 1000)
    rates, sizes, by_rate, by_size = rates_and_weights(data.X, data.y, 8 if args.short else 20)
    two_modes(data.X, data.y)
    identity(args.short)
    if args.output:
        with common.picture(args.output, 1, 2, (9, 3.4)) as (left, right):
            for axes, x, found in ((left, rates, by_rate), (right, sizes, by_size)):
                for name, accuracies in found.items():
                    axes.semilogx(x, accuracies, marker="o", markersize=3, label=name)
                axes.set(ylim=(0, 1), ylabel="training accuracy")
                axes.legend(frameon=False)
            left.set(title=f"{EPOCHS} epochs of SGD, He's weights", xlabel="learning rate")
            right.set(title=f"{EPOCHS} epochs of Adam at 1e-3", xlabel="deviation of the first weights")


if __name__ == "__main__":
    main()
