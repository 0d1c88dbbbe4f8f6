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
    X = np.random.default_rng(0).standard_normal((1000, 2)) @ [[1.6, 1.0], [0.0, 0.6]] + [3.0, 2.0]
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


def look_at_images(args) -> dict:
    """Print means of the channels and what the largest axes hold; return rows of pictures."""
    data = common.load(args, rows=1500 if args.short else 49_000)
    X = data.X / np.float32(255.0)
    means = 255.0 * X.mean((0, 1, 2), dtype=np.float64)
    fitted, few, kept = X[:10_000], X[:4], KEPT if X[0].size > KEPT else 32
    whiten = Whiten(components=kept).fit(fitted)
    published = ("125.3", "123.0", "113.9") if len(means) == 3 else (None,)
    common.compare(
        *((f"mean of channel {c}", f"{m:.1f}", p) for c, m, p in zip("RGB", means, published, strict=False)),
        (f"variance on {kept} of {X[0].size} axes", f"{whiten.explained_variance_ratio_.sum():.1%}", "most of it"),
    )
    rows = {
        "original": few,
        "minus the mean image": Center().fit(fitted).transform(few),
        "normalized": Standardize().fit(fitted).transform(few),
        f"on {kept} axes": whiten.inverse_transform(whiten.transform(few)),
        "whitened": whiten.transform(few),
        "the first 16 axes": whiten.components_[:16],
        "mean image": X.mean(0, keepdims=True),
    }
    return {name: np.reshape(part, (-1, *X.shape[1:])) for name, part in rows.items()}


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
    points, pictures = cloud(steps), look_at_images(args)
    if args.output:
        with common.picture(args.output, 2, 6, (10, 3.7)) as panels:
            for axes, (name, Z) in zip(panels, points.items(), strict=False):
                axes.plot(*Z.T, ".", markersize=1.2, alpha=0.5, rasterized=True)
                axes.axhline(0, color="black", linewidth=0.6)
                axes.axvline(0, color="black", linewidth=0.6)
                axes.set(title=name, xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
            common.show_images(panels[5], pictures.pop("mean image")[0], "mean image")
            for axes, (name, part) in zip(panels[6:], pictures.items(), strict=True):
                side = int(np.sqrt(len(part)))
                common.show_images(axes, part.reshape(side, side, *part.shape[1:]), name)


if __name__ == "__main__":
    main()
