"""Predict with a model that train --save wrote.

MODEL is a model file or a checkpoint, DATA what train reads, with or without labels (of a source with a test part, that part).
One prediction a line; where DATA has labels, how good they are is said on standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pyfastnn
from pyfastnn.cli.files import check_writable, named
from pyfastnn.cli.options import CommandError
from pyfastnn.data import load_features

Array = NDArray[Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("model", metavar="MODEL", help="model file")
    parser.add_argument("data", metavar="DATA", help="rows to predict")
    parser.add_argument("--output", metavar="FILE", help="write the predictions there instead of printing them")
    parser.add_argument(
        "--probabilities", action="store_true", help="print the probability of each class instead, as CSV"
    )
    parser.add_argument("--target", metavar="NAME", help="name or number of the label column of a table, if it has one")


def run(options: argparse.Namespace) -> int:
    """Load, predict, print."""
    check_writable("--output", options.output)
    with named(options.model):
        model = pyfastnn.load(options.model)
    if options.probabilities and model.classes_ is None:
        raise CommandError("--probabilities: the model predicts values, not classes")
    assert model.input_shape is not None
    X, y = load_features(options.data, math.prod(model.input_shape), target=options.target)
    predicted = model.predict(X)
    lines = _lines(predicted)
    if options.probabilities:
        assert model.classes_ is not None
        lines = [",".join(map(str, model.classes_.tolist())), *_lines(model.predict_proba(X))]
    if options.output is None:
        print("\n".join(lines), flush=True)
    else:
        from pyfastnn.io.atomic import atomic_write

        with atomic_write(options.output) as file:
            file.write(("\n".join(lines) + "\n").encode())
        print(f"{len(predicted)} predictions written to {options.output}")
    if y is not None:
        print(score(predicted, y, model.classes_ is not None), file=sys.stderr)
    return 0


def score(predicted: Array, y: Array, classes: bool) -> str:
    """Say how well the predictions meet the labels."""
    if predicted.shape != y.shape or (predicted.dtype.kind in "US") != (y.dtype.kind in "US"):
        return f"no score: the labels are {y.dtype} of shape {y.shape}, the predictions {predicted.dtype} of shape {predicted.shape}"
    if classes:
        right = int(np.count_nonzero(predicted == y))
        return f"accuracy {right / len(y):.4f} ({right} of {len(y)} rows)"
    error = float(np.mean(np.square(predicted.astype(np.float64) - y)))
    return f"mean squared error {error:.6g}, its root {math.sqrt(error):.6g} ({len(y)} rows)"


def _lines(values: Array) -> list[str]:
    """Return one line per row; floats in the shortest form that reads back as the same number."""
    if values.ndim == 1:
        return [str(v) for v in values]
    return [",".join(str(v) for v in row) for row in values]
