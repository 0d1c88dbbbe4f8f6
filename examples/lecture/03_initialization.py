"""Experiment 3: what reaches the tenth layer. Ten layers of 500 units look at 1000 rows of unit gaussian numbers.

Weights that are too small let the signal die, too large ones saturate every tanh; Xavier's keep it alive through tanh layers but not
through ReLUs, which need He's. The lecture shows one draw; here are the mean of 20 draws, its standard error, and how far one draw lies
from it.
"""

from __future__ import annotations

import common
import numpy as np

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.nn.initializers import Normal

UNITS, LAYERS, ROWS = 500, 10, 1000
SETTINGS = {
    # What is drawn: weights, activation, and the published numbers (statistic, layer, value).
    "0.01 * randn, tanh": (Normal(0.01), nn.Tanh, [("std", 1, 0.213081), ("std", 10, 0.0)]),
    "1.0 * randn, tanh": (Normal(1.0), nn.Tanh, [("std", 1, 0.981879), ("std", 10, 0.981736)]),
    "Xavier, tanh": ("xavier_normal", nn.Tanh, [("std", 1, 0.627953), ("std", 10, 0.228008)]),
    "Xavier, ReLU": (
        "xavier_normal",
        nn.ReLU,
        [("std", 1, 0.582273), ("std", 10, 0.026076), ("mean", 1, 0.398623), ("mean", 10, 0.018408)],
    ),
    "He, ReLU": (
        "he_normal",
        nn.ReLU,
        [("std", 1, 0.825232), ("std", 10, 0.844523), ("mean", 1, 0.562488), ("mean", 10, 0.552531)],
    ),
}


def look(init, activation, seed: int):
    """Return the statistics of the ten layers for one draw of weights and rows."""
    X = np.random.default_rng(seed).standard_normal((ROWS, UNITS), np.float32)
    layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(UNITS, init=init), activation())]
    return fnn.diagnose.activation_statistics(nn.Sequential(*layers), X, seed=seed).layers


def main() -> None:
    """Print means over the seeds beside the published numbers."""
    args = common.options(__doc__)
    seeds = range(2 if args.short else 20)
    found = {name: [look(init, kind, seed) for seed in seeds] for name, (init, kind, _) in SETTINGS.items()}

    rows = []
    for name, (_, _, published) in SETTINGS.items():
        for statistic, layer, value in published:
            draws = np.array([getattr(layers[layer - 1], statistic) for layers in found[name]])
            spread = draws.std(ddof=1)
            shown = [f"{x:.6f}" for x in (draws.mean(), spread / np.sqrt(len(draws)), value, spread)]
            rows.append((f"{name}: {statistic} of layer {layer}", *shown))
    common.compare(*rows, heads=(f"{len(seeds)} draws", "ours", "std. error", "published", "one draw +-"))
    if args.output:
        draw(found, args.output)


def draw(found, path: str) -> None:
    """Draw the deviations over the layers, and the histograms of one draw."""
    with common.picture(path, len(found), 1 + LAYERS, (11, 6.6)) as panels:
        for (name, draws), row in zip(found.items(), panels.reshape(len(found), -1), strict=True):
            stds = np.array([[layer.std for layer in layers] for layers in draws])
            row[0].errorbar(range(1, LAYERS + 1), stds.mean(0), stds.std(0), marker="o", markersize=2.5)
            row[0].set(ylabel=name, ylim=(0, 1.1), xticks=(1, 10), title="std by layer")
            for number, (axes, layer) in enumerate(zip(row[1:], draws[0], strict=True), 1):
                axes.stairs(layer.histogram, layer.edges, fill=True, edgecolor=common.BLUE, linewidth=1.0)
                axes.set(
                    xlim=(-1.1, 1.1) if "tanh" in name else (-0.1, 3), yticks=[], title=f"{number}: {layer.std:.2g}"
                )
                axes.grid(visible=False)


if __name__ == "__main__":
    main()
