"""5. The first loss: before any training it is log(classes), and regularization makes it rise.

Two checks of a loss function that cost nothing. A net that knows nothing gives every class the same probability, so its loss is
log(10) = 2.3026 for ten classes. The penalty 0.5 * reg * sum(W * W) then comes on top.

    python examples/lecture/05_first_loss.py [--short] [--data FOLDER] [-o first_loss.png]
"""

from __future__ import annotations

import numpy as np
from common import BLUE, RED, compare, load, options, picture

from pyfastnn.cs231n import init_two_layer_model, two_layer_net

HIDDEN, STD = 50, 1e-4
STRENGTHS = np.logspace(0, 5, 21)
CLASSES = (2, 5, 10, 100, 1000)


def main() -> None:
    """Compare first losses with what they must be."""
    args = options(__doc__, images=True)
    data = load(args, rows=500 if args.short else 5000)
    X, _ = data.centered()
    draws = [init_two_layer_model(X.shape[1], HIDDEN, 10, seed=seed) for seed in range(3 if args.short else 20)]

    def losses(reg: float) -> list[float]:
        return [two_layer_net(X, model, data.y, reg)[0] for model in draws]

    weights = (X.shape[1] + 10) * HIDDEN
    formula = {reg: np.log(10) + 0.5 * reg * weights * STD**2 for reg in (0.0, 1e3)}
    found = {reg: losses(reg) for reg in formula}
    cifar = X.shape[1] == 3072
    published = {0.0: 2.30261216167, 1e3: 3.06856716482} if cifar else {}
    table = [(f"reg {reg:g}", np.mean(a), np.std(a), published.get(reg), formula[reg]) for reg, a in found.items()]
    compare(
        *((name, *("-" if value is None else f"{value:.6f}" for value in values)) for name, *values in table),
        heads=("first loss", f"ours, mean of {len(draws)}", "deviation of one", "published", "formula"),
    )

    rng = np.random.default_rng(0)
    first = []
    for classes in CLASSES:
        model = init_two_layer_model(X.shape[1], HIDDEN, classes, seed=0)
        first.append(two_layer_net(X[:500], model, rng.integers(0, classes, 500), 0.0)[0])
    print("\nand for other numbers of classes, labels drawn at random")
    rows = zip(map(str, CLASSES), first, np.log(CLASSES), strict=True)
    compare(*rows, heads=("classes", "first loss", "log(classes)"))

    if args.output:
        with picture(args.output, columns=2) as (left, right):
            curve = [two_layer_net(X[:500], draws[0], data.y[:500], reg)[0] for reg in STRENGTHS]
            expected = np.log(10) + 0.5 * STRENGTHS * weights * STD**2
            left.loglog(STRENGTHS, expected, color=BLUE, label="log(10) + penalty")
            left.loglog(STRENGTHS, curve, "o", color=BLUE, markersize=4, label="first loss")
            if published:
                left.loglog(1e3, published[1e3], "x", color=RED, markersize=9, markeredgewidth=2, label="published")
            left.set(title="regularization makes the loss rise", xlabel="reg", ylabel="loss")
            left.set_yticks((2.3, 5, 10, 20, 50), ("2.3", "5", "10", "20", "50"))
            left.minorticks_off()
            right.semilogx(CLASSES, np.log(CLASSES), color=BLUE, label="log(classes)")
            right.semilogx(CLASSES, first, "o", color=BLUE, markersize=4, label="first loss")
            right.set(title="without it, it is that of guessing", xlabel="classes", ylabel="loss")
            for axes in (left, right):
                axes.legend(frameon=False)


if __name__ == "__main__":
    main()
