"""Residual connections on handwritten digits: a deep network learns if there is a way past its layers (He et al. 2016).

Run it with ``python examples/residual.py``; it takes a second or two.
"""

from __future__ import annotations

import pyfastnn as fnn
from pyfastnn import nn, optim

WIDTH = 32


def layers(x: nn.Symbol) -> nn.Symbol:
    """Return what two layers make of ``x``."""
    for _ in range(2):
        x = nn.Linear(WIDTH)(nn.ReLU()(nn.BatchNorm()(x)))
    return x


def network(features: int, blocks: int, *, residual: bool) -> nn.Model:
    """Return a network of ``blocks`` times two layers; a residual one adds to each block what went into it."""
    x = nn.Input(features)
    h = nn.Linear(WIDTH)(x)
    for _ in range(blocks):
        h = nn.Add()(h, layers(h)) if residual else layers(h)
    scores = nn.Linear(10)(nn.ReLU()(nn.BatchNorm()(h)))
    return nn.Model(x, scores, preprocess=fnn.data.Standardize(per="all"))


def main() -> None:
    """Train plain and residual networks of growing depth and print how many validation rows they get right."""
    X, y = fnn.data.load_digits()
    Xt, Xv, yt, yv = fnn.data.split(X, y, validation=0.2, seed=0, stratify=y)
    print("layers   plain  residual")
    for blocks in (4, 10, 20):
        reached = []
        for residual in (False, True):
            model = network(X.shape[1], blocks, residual=residual)
            trainer = fnn.Trainer(model, optimizer=optim.SGD(0.02, momentum=0.9), seed=0)
            history = trainer.fit(Xt, yt, X_val=Xv, y_val=yv, epochs=15, batch_size=64, verbose=0)
            reached.append(history["val_accuracy"][-1])
        print(f"{2 * blocks + 2:6d}  {reached[0]:6.1%}  {reached[1]:8.1%}")


if __name__ == "__main__":
    main()
