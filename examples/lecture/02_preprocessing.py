"""Experiment 2: preprocessing. What centering, normalizing, decorrelating and whitening do to a cloud of points, and to images.

Images are only centered in practice, by the mean image (AlexNet) or the mean of each channel (VGGNet). Whitened ones have lost their
low frequencies: edges are what is left.
"""

from __future__ import annotations

import common
import numpy as np

from pyfastnn.data import PCA, Center, Standardize, Whiten

KEPT = 144
"""Principal axes of images that are kept."""


def cloud(steps: dict) -> dict:
    """Apply each step to one cloud of points, print what it does, and return the clouds."""
    X = np.random.default_rng(0).standard_normal((2000, 2)) @ [[1.6, 1.0], [0.0, 0.6]] + [3.0, 2.0]
    found = {"original": X, **{name: step.fit(X).transform(X, "float64") for name, step in steps.items()}}
    rows = []
    for name, Z in found.items():
        means, stds = ("({:.2f}, {:.2f})".format(*np.abs(v)) for v in (Z.mean(0), Z.std(0)))
        rows.append((name, means, stds, f"{abs(np.corrcoef(Z.T)[0, 1]):.2f}", PUBLISHED[name]))
    common.compare(*rows, heads=("", "means", "deviations", "correlation", "published"))
    return found


PUBLISHED = {
    "original": None,
    "centered": "means 0",
    "normalized": "and deviations 1",
    "decorrelated": "covariance diagonal",
    "whitened": "covariance 1",
}


def images(args) -> tuple:
    """Return the mean image and rows of pictures: original, centered, normalized, reduced and whitened."""
    data = common.load(args)
    X = data.X / np.float32(255.0)
    means = X.mean((0, 1, 2), dtype=np.float64) * 255.0
    color = X.shape[-1] == 3
    rows = [(f"mean of channel {c}", f"{m:.1f}", p) for c, m, p in zip("RGB", means, ("125.3", "123.0", "113.9"), strict=False)]
    common.compare(*(rows if color else [("mean of the pixels", f"{means[0]:.1f}", None)]))

    fitted, shown = X[:10_000], X[:8]
    kept = KEPT if color else 32
    whiten = Whiten(components=kept).fit(fitted)
    share = whiten.explained_variance_ratio_.sum()
    common.compare((f"variance in {kept} of {X[0].size} axes", f"{share:.1%}", "most of it"))
    pictures = {
        "original": shown,
        "minus the mean image": Center().fit(fitted).transform(shown),
        "normalized": Standardize().fit(fitted).transform(shown),
        f"on {kept} axes": whiten.inverse_transform(whiten.transform(shown)),
        "whitened": whiten.transform(shown),
    }
    return X.mean(0), {name: np.reshape(part, shown.shape) for name, part in pictures.items()}


def main() -> None:
    """Print what each step does, and draw it."""
    args = common.options(__doc__, images=True)
    # PCA turns the cloud to its principal axes: nothing is correlated there. Whitening also divides by the deviations.
    steps = {
        "centered": Center(),
        "normalized": Standardize(),
        "decorrelated": PCA(),
        "whitened": Whiten(method="pca"),
    }
    points = cloud(steps)
    mean, pictures = images(args)
    if args.output:
        with common.picture(args.output, 2, len(points), (11, 4.6)) as panels:
            for axes, (name, Z) in zip(panels, points.items(), strict=False):
                axes.plot(*Z.T, ".", markersize=1.5, alpha=0.5)
                axes.axhline(0, color="black", linewidth=0.6)
                axes.axvline(0, color="black", linewidth=0.6)
                axes.set(title=name, xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
            for axes, (name, part) in zip(panels[len(points) :], pictures.items(), strict=True):
                grid = part.reshape(4, 2, *part.shape[1:])
                common.show_images(axes, grid, name)


if __name__ == "__main__":
    main()
