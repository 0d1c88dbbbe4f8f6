"""9. Updates and weights: the norm of an update should be about a thousandth of that of its weights.

A trainer measures it natively in every 50th step (here in every 10th) and keeps it in ``history.statistics``. Far below 1e-3 a net learns
slowly, far above it the weights jump about; the ratio shows it from the first epoch on. The lecture's example, 0.0002 / 0.02 = 0.01, is
"about okay" there.

    python examples/lecture/09_update_ratio.py [--short] [--data FOLDER] [-o update_ratio.png]
"""

from __future__ import annotations

import warnings

import numpy as np
from common import COLORS, compare, load, options, picture

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.diagnose import Monitor, TrainingWarning

RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
WEIGHTS = ("linear_1.w", "linear_2.w")


def trainer(rate: float) -> fnn.Trainer:
    """Return a two-layer net under plain SGD that is watched in every 10th step."""
    model = nn.Sequential(nn.Linear(50), nn.ReLU(), nn.Linear(10), preprocess=fnn.data.Standardize(per="all"))
    return fnn.Trainer(model, optimizer=optim.SGD(rate), monitor=Monitor(every=10), guard=None)


def main() -> None:
    """Train at rates from far too low to far too high."""
    args = options(__doc__, images=True)
    data = load(args)
    warnings.simplefilter("ignore", TrainingWarning)  # shown below, beside the ratios
    X, X_val = (rows.reshape(len(rows), -1) for rows in (data.X, data.X_val))
    epochs = 20 if args.short else 10
    trainers = [trainer(rate) for rate in RATES]
    histories = fnn.train_many(trainers, X, data.y, X_val=X_val, y_val=data.y_val, epochs=epochs, batch_size=100)

    table, ratios = [], []
    for rate, history in zip(RATES, histories, strict=True):
        layers = [row["layers"] for row in history.statistics]
        ratios.append(np.array([[each[name]["update_ratio"] for name in WEIGHTS] for each in layers]))
        table.append((f"{rate:g}", *np.median(ratios[-1], axis=0), history["loss"][-1], history["val_accuracy"][-1]))
    compare(*table, heads=("rate", *(f"ratio of {name}" for name in WEIGHTS), "loss", "val accuracy"))
    best = int(np.argmax([history["val_accuracy"][-1] for history in histories]))
    compare((f"ratio at the best rate, {RATES[best]:g}", np.median(ratios[best][:, 0]), "0.001 wanted, 0.01 okay"))
    print()
    for rate, history in zip(RATES, histories, strict=True):
        for verdict in history.verdicts:
            print(f"rate {rate:g}: {verdict}")

    if args.output:
        with picture(args.output, columns=2, size=(8.5, 3.4)) as (left, right):
            per_epoch = -(-len(X) // 100)
            for rate, history, ratio, color in zip(RATES, histories, ratios, COLORS, strict=True):
                time = np.array([row["step"] for row in history.statistics]) / per_epoch
                left.semilogy(time, ratio[:, 0], color=color, linewidth=0.9)
                label = f"rate {rate:g}" + ("" if np.isfinite(ratio).all() else ": NaN")
                right.semilogx(np.median(ratio[:, 0]), history["val_accuracy"][-1], "o", color=color, label=label)
            left.set(title="norm of update / norm of weights, first layer", xlabel="epoch", ylim=(1e-6, 1))
            right.set(
                title="validation accuracy at the end",
                xlabel="ratio, median (grey: wanted to okay)",
                xlim=(1e-6, 1),
                ylim=(0, None),
            )
            left.axhspan(1e-3, 1e-2, color="#dddddd", zorder=0)
            right.axvspan(1e-3, 1e-2, color="#dddddd", zorder=0)
            right.legend(frameon=False, loc="lower right", fontsize=8)


if __name__ == "__main__":
    main()
