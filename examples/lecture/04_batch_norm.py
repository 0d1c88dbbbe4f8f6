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
    layers: list[nn.Layer] = [nn.Flatten()]
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, init=init), *([nn.BatchNorm()] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(10, init=init), preprocess=fnn.data.Standardize(per="all"))


def curves(X, y, settings: np.ndarray, make) -> dict[str, list[float]]:
    """Return the accuracy after training for every setting, without and with batch norm; all nets are trained side by side."""
    quiet = {"monitor": False, "guard": None}  # some of these are meant to fail
    found = {}
    for name, batch_norm in (("without", False), ("with batch norm", True)):
        trainers = [fnn.Trainer(*make(setting, batch_norm), **quiet) for setting in settings]
        histories = fnn.train_many(trainers, X, y, epochs=EPOCHS, batch_size=50)
        found[name] = [history["accuracy"][-1] for history in histories]
    return found


def works(settings: np.ndarray, accuracies: list[float], best: float) -> np.ndarray:
    """Return the settings that reach half of the best accuracy."""
    return settings[np.array(accuracies) >= 0.5 * best]


def rates_and_weights(X, y, points: int) -> list[tuple]:
    """Train at many rates, and from first weights of many sizes; print which ones work."""
    rates, sizes = np.logspace(-3, 1.5, points), np.logspace(-4, 0, points)
    loss = "softmax_cross_entropy"
    by_rate = curves(X, y, rates, lambda rate, norm: (network("he_normal", batch_norm=norm), loss, optim.SGD(rate)))
    by_size = curves(X, y, sizes, lambda size, norm: (network(Normal(size), batch_norm=norm), loss, optim.Adam(1e-3)))
    rows, largest = [], {}
    for name in by_rate:
        best, most = max(by_rate[name]), max(by_size[name])
        largest[name] = works(rates, by_rate[name], best).max()
        good = works(sizes, by_size[name], most)
        rows += [
            (f"{name}: best accuracy at any rate", f"{best:.1%}", None),
            (f"{name}: largest rate that works", f"{largest[name]:.2g}", None),
            (f"{name}: best accuracy from any weights", f"{most:.1%}", None),
            (f"{name}: first weights that work", f"{good.min():.1g} to {good.max():.1g}", None),
        ]
    rows.append(("largest rate over that without", f"{largest['with batch norm'] / largest['without']:.2g}", "5 to 30"))
    common.compare(*rows)
    return [(rates, by_rate), (sizes, by_size)]


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
    epochs = 200 if short else 1000
    trainer = fnn.Trainer(layer, "mean_squared_error", optim.Adam(optim.Cosine(0.1, epochs=epochs)), monitor=False)
    history = trainer.fit(X, X, epochs=epochs, batch_size=len(X), verbose=0)
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
    found = rates_and_weights(data.X, data.y, 10 if args.short else 20)
    two_modes(data.X, data.y)
    identity(args.short)
    if args.output:
        with common.picture(args.output, 1, 2, (9, 3.4)) as panels:
            for axes, (settings, accuracies) in zip(panels, found, strict=True):
                for name, values in accuracies.items():
                    axes.semilogx(settings, values, marker="o", markersize=3, label=name)
                axes.set(ylim=(0, 1), ylabel="training accuracy")
                axes.legend(frameon=False)
            panels[0].set(title=f"{EPOCHS} epochs of SGD from He's weights", xlabel="learning rate")
            panels[1].set(title=f"{EPOCHS} epochs of Adam at 1e-3", xlabel="deviation of the first weights")


if __name__ == "__main__":
    main()
