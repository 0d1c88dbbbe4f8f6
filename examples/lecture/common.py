"""What the scripts of the lectures' experiments share: options, images, numbers beside the published ones, pictures."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pyfastnn as fnn

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("cifar-10-batches-bin", "cifar-10", "cifar10")
"""Where CIFAR-10 (the binary version, unpacked) is looked for, in the checkout and beside it."""
FIRST_PIXEL = (59, 62, 63)
"""That of the first training image of CIFAR-10. Another one: the images went through JPEG compression or the like."""
COLORS = BLUE, RED, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
"""Okabe and Ito's: told apart with every kind of colour vision."""


def options(about: str | None, *, images: bool = False) -> argparse.Namespace:
    """Read the command line: ``short``, ``output`` and, for scripts that work on images, ``data``."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a smaller experiment of a few seconds")
    parser.add_argument("-o", "--output", metavar="FILE", help="draw a picture (.png, .svg, .pdf); needs matplotlib")
    if images:
        text = "folder with the binary version of CIFAR-10, or the word 'digits'; by default CIFAR-10 if found, with --short digits"
        parser.add_argument("--data", metavar="FOLDER", help=text)
    found = parser.parse_args()
    if found.output and importlib.util.find_spec("matplotlib") is None:
        parser.error("pictures need matplotlib: pip install pyfastnn[plot]")
    return found


# Images


@dataclass
class Images:
    """Images of uint8, shape (n, height, width, channels), and their labels; those of the digits for testing are those for validation."""

    name: str
    X: Any
    y: Any
    X_val: Any
    y_val: Any
    X_test: Any
    y_test: Any
    classes: list[str]

    def centered(self) -> tuple[Any, Any]:
        """Return training and validation rows as the lectures' nets see them: pixels 0 to 255 minus the mean training image."""
        center = fnn.data.Center().fit(self.X)
        return tuple(center.transform(part).reshape(len(part), -1) for part in (self.X, self.X_val))


def load(args: argparse.Namespace, *, rows: int = 49_000, validation: int = 1000) -> Images:
    """Load CIFAR-10 as the lectures split it, or the digits that come with the package; print which.

    Parameters
    ----------
    args : argparse.Namespace
        What `options` returned. Without ``data`` CIFAR-10 is taken if it is found, and the digits otherwise and for ``short``.
    rows, validation : int, default 49000 and 1000
        The first rows are for training, the last of the training part for validation; fewer where there are not so many.
    """
    source = args.data or ("digits" if args.short else _cifar())
    data = fnn.data.load(source)
    X, y, name = data.X_train, data.y_train, "CIFAR-10"
    if source == "digits":
        name = "digits of 8 x 8 pixels that come with the package"
        X = (X.reshape(-1, 8, 8, 1) * (255.0 / 16.0)).astype(np.uint8)
    elif data.feature_shape != (32, 32, 3):
        raise SystemExit(f"--data {source}: images of shape {data.feature_shape}, expected those of CIFAR-10")
    elif tuple(X[0, 0, 0]) != FIRST_PIXEL:
        name = "CIFAR-10, JPEG version"
    last = len(X) - min(validation, len(X) // 5)
    part = slice(min(rows, last))
    classes = data.class_names or [str(label) for label in np.unique(y)]
    print(f"{name}: {part.stop} images for training, {len(X) - last} for validation")
    held_out = X[last:], y[last:]
    test = held_out if data.X_test is None else (data.X_test, data.y_test)
    return Images(name, X[part], y[part], *held_out, *test, classes)


def _cifar() -> Path | str:
    """Return the folder of CIFAR-10 in the checkout or beside it, or the word for the digits."""
    for home in (ROOT, ROOT.parent, ROOT.parent / "shared"):
        for folder in (home / name for name in FOLDERS):
            if (folder / "data_batch_1.bin").is_file():
                return folder
    print("no CIFAR-10 found, name its folder with --data")
    return "digits"


# Numbers


def compare(*rows: Sequence[Any], heads: Sequence[str] = ("", "ours", "published")) -> None:
    """Print a table; numbers get six digits, and None (such as what was never published) a dash.

    Parameters
    ----------
    *rows : sequence
        A name and the values beside it.
    heads : sequence of str
        One per column.
    """
    table = [list(heads), *([_shown(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *values in table:
        print(
            "  ".join([name.ljust(widths[0]), *(v.rjust(w) for v, w in zip(values, widths[1:], strict=True))]).rstrip()
        )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.6g}"


# Pictures


@contextmanager
def picture(
    path: str | os.PathLike[str], rows: int = 1, columns: int = 1, size: tuple[float, float] = (7, 3.2)
) -> Iterator[Any]:
    """Give the panels of a picture, an array of axes row by row, and write the picture after the block.

    Parameters
    ----------
    path : path
        Where to; the ending says the format.
    rows, columns : int
        Of panels.
    size : tuple of float
        Of the picture in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "lecture", "font.size": 9, "axes.titlesize": 10}):
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
        for axes in panels:
            axes.set_prop_cycle(color=COLORS)
            axes.grid(visible=True, color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        yield panels
        svg = os.fspath(path).lower().endswith(".svg")
        figure.savefig(path, metadata={"Date": None} if svg else None)  # the same picture is the same file
    print(f"picture: {os.fspath(path)}")


def show_images(axes: Any, image: Any, title: str = "") -> None:
    """Show one image, or rows and columns of them (rows, columns, height, width, channels), without axes; any range of values."""
    image = np.asarray(image, np.float64)
    if image.ndim == 5:
        tall, wide, height, width, channels = image.shape
        image = np.pad(image, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=np.nan)
        image = image.swapaxes(1, 2).reshape(tall * (height + 1), wide * (width + 1), channels)[:-1, :-1]
    low, high = np.nanmin(image), np.nanmax(image)
    image = np.nan_to_num((image - low) / ((high - low) or 1.0), nan=1.0)
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()
