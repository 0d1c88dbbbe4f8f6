"""Preprocessing of each feature by itself: ``out = (x - shift_) * scale_``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pyfastnn._inputs import Csr
from pyfastnn._names import unknown
from pyfastnn.data.preprocessing import sparse
from pyfastnn.data.preprocessing.base import (
    Array,
    Config,
    Floats,
    Preprocessor,
    Rows,
    check_arrays,
    chunk_rows,
)

__all__ = ["Affine", "Center", "MaxAbs", "MinMax", "Rescale", "Standardize", "moments"]

PER = ("feature", "channel", "all")
SMALLEST_DEVIATION = 2.0**-126  # smallest normal float32: its inverse still is a float32


class Affine(Preprocessor):
    """Base of what learns ``shift_`` and ``scale_`` alone, folded into the gather of a network's rows."""

    def _learn(self, X: Rows) -> None:
        shift, scale = self._statistics(X)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and scale.all()):
            raise ValueError(f"{type(self).__name__}: the values of 'X' are too large for float64 statistics")
        features = X.size // X.shape[0]
        # Channels are the last axis, so repeating the short vector lines it up with the features.
        self.shift_ = np.tile(shift, features // shift.size)
        self.scale_ = np.tile(scale, features // scale.size)

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        """Return shift and scale of one length that divides the number of features."""
        raise NotImplementedError

    def _undo(self, z: Floats) -> Floats:
        x: Floats = z / self.scale_ + self.shift_
        return x

    def _restore(self, state: Mapping[str, Array]) -> None:
        check_arrays(self.name, state, ("shift", "scale"))
        shift, scale = state["shift"], state["scale"]
        for key, array in (("shift", shift), ("scale", scale)):
            if array.ndim != 1 or array.shape != shift.shape:
                raise ValueError(
                    f"preprocessing {self.name!r}: {key!r} has shape {array.shape}, expected (features,) for both arrays"
                )
        if not scale.all():
            raise ValueError(f"preprocessing {self.name!r}: 'scale' must be finite and not 0")
        self.shift_, self.scale_ = shift.copy(), scale.copy()


class Standardize(Affine):
    """Subtract the mean and divide by the standard deviation.

    ``shift_ = mean(x)``, ``scale_ = 1 / sqrt(mean((x - mean(x))**2))``. Constant features
    (deviation under ``2**-126``, the smallest normal float32) get scale 1, so they become 0.

    Parameters
    ----------
    per : {"feature", "channel", "all"}, default "feature"
        What shares one mean and deviation: every single feature has its own, all values of one
        channel (the last axis: colours of NHWC images), or the whole array has one.
    with_mean : bool, default True
        Whether the mean is subtracted. If not, ``shift_ = 0``: zeros stay zeros, so rows may be sparse.
    """

    name = "standardize"
    _added: ClassVar[Config] = {"with_mean": True}

    def __init__(self, per: str = "feature", with_mean: bool = True) -> None:
        self.per = _check_per("Standardize", per)
        if not isinstance(with_mean, (bool, np.bool_)):
            raise TypeError(f"Standardize: 'with_mean' is {with_mean!r}, expected True or False")
        self.with_mean = bool(with_mean)

    @property
    def keeps_zeros(self) -> bool:
        """Whether it is a scale alone."""
        return not self.with_mean

    def _settings(self) -> Config:
        return {"per": self.per, "with_mean": self.with_mean}

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        mean, variance = moments(X, self.per)
        if not np.isfinite(variance).all():
            return mean, variance  # refused by fit
        deviation = np.sqrt(variance)
        scale = np.ones_like(deviation)
        np.divide(1.0, deviation, out=scale, where=deviation >= SMALLEST_DEVIATION)
        return mean if self.with_mean else np.zeros_like(mean), scale


class Center(Affine):
    """Subtract the mean: with ``per="feature"`` the mean image of the lectures.

    ``shift_ = mean(x)``, ``scale_ = 1``.

    Parameters
    ----------
    per : {"feature", "channel", "all"}, default "feature"
        What shares one mean: every single feature has its own, all values of one channel (the
        last axis: colours of NHWC images), or the whole array has one.
    """

    name = "center"

    def __init__(self, per: str = "feature") -> None:
        self.per = _check_per("Center", per)

    def _settings(self) -> Config:
        return {"per": self.per}

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        mean, _ = moments(X, self.per)
        return mean, np.ones_like(mean)


class Rescale(Affine):
    """Map the interval ``[low, high]`` onto [0, 1]: ``shift_ = low``, ``scale_ = 1/(high - low)``.

    Values outside the interval go outside [0, 1]; nothing is clipped. With ``low=0`` zeros stay zeros, so rows may be sparse.

    Parameters
    ----------
    low, high : float, default 0 and 255
        Finite, ``low < high``.
    """

    name = "rescale"

    def __init__(self, low: float = 0.0, high: float = 255.0) -> None:
        for key, value in (("low", low), ("high", high)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Rescale: {key!r} is {value!r}, expected a number")
        span = float(high) - float(low)
        if not (math.isfinite(span) and span >= SMALLEST_DEVIATION):
            raise ValueError(f"Rescale: low={low}, high={high}: expected finite with low < high")
        self.low = float(low)
        self.high = float(high)

    @property
    def keeps_zeros(self) -> bool:
        """Whether it is a scale alone."""
        return self.low == 0.0

    def _settings(self) -> Config:
        return {"low": self.low, "high": self.high}

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        return np.array([self.low]), np.array([1.0 / (self.high - self.low)])


class MinMax(Affine):
    """Map the interval from the smallest to the largest training value onto [0, 1].

    ``shift_ = min(x)``, ``scale_ = 1 / (max(x) - min(x))``. Constant features (a difference under ``2**-126``) get scale 1, so they become
    0. Later values outside the interval go outside [0, 1]; nothing is clipped.

    Parameters
    ----------
    per : {"feature", "channel", "all"}, default "feature"
        What shares one interval: every single feature has its own, all values of one channel (the last axis: colours of NHWC images), or
        the whole array has one.
    """

    name = "minmax"

    def __init__(self, per: str = "feature") -> None:
        self.per = _check_per("MinMax", per)

    def _settings(self) -> Config:
        return {"per": self.per}

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        assert not isinstance(X, Csr)  # refused by fit
        width = _width(X, self.per)
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        step = chunk_rows(X)
        for begin in range(0, X.shape[0], step):
            x = X[begin : begin + step].reshape(-1, width)
            np.minimum(low, x.min(axis=0), out=low)
            np.maximum(high, x.max(axis=0), out=high)
        with np.errstate(over="ignore"):
            span = high - low
        scale = np.ones(width)
        np.divide(1.0, span, out=scale, where=span >= SMALLEST_DEVIATION)
        return low, scale


class MaxAbs(Affine):
    """Divide by the largest absolute training value, which maps into [-1, 1] and leaves zeros alone: rows may be sparse.

    ``shift_ = 0``, ``scale_ = 1 / max(abs(x))``. Features that are 0 everywhere (under ``2**-126``) get scale 1. Later values beyond the
    largest go outside [-1, 1]; nothing is clipped.

    Parameters
    ----------
    per : {"feature", "channel", "all"}, default "feature"
        What shares one largest value: every single feature has its own, all values of one channel (the last axis: colours of NHWC images),
        or the whole array has one.
    """

    name = "maxabs"

    def __init__(self, per: str = "feature") -> None:
        self.per = _check_per("MaxAbs", per)

    @property
    def keeps_zeros(self) -> bool:
        """Whether it is a scale alone: it is."""
        return True

    def _settings(self) -> Config:
        return {"per": self.per}

    def _statistics(self, X: Rows) -> tuple[Floats, Floats]:
        width = _width(X, self.per)
        if isinstance(X, Csr):
            largest = sparse.largest(X, width)
        else:
            largest = np.zeros(width)
            step = chunk_rows(X)
            for begin in range(0, X.shape[0], step):
                # In float64 already: the absolute value of the smallest int would not fit its dtype.
                x = np.abs(X[begin : begin + step].reshape(-1, width).astype(np.float64))
                np.maximum(largest, x.max(axis=0), out=largest)
        scale = np.ones(width)
        np.divide(1.0, largest, out=scale, where=largest >= SMALLEST_DEVIATION)
        return np.zeros(width), scale


def _check_per(kind: str, per: str) -> str:
    if not isinstance(per, str):
        raise TypeError(f"{kind}: 'per' is {per!r}, expected one of {', '.join(PER)}")
    if per not in PER:
        raise ValueError(f"{kind}: {unknown('per', per, PER)}")
    return per


def _width(X: Rows, per: str) -> int:
    """Return how many groups of values have a number of their own."""
    features = X.size // X.shape[0]
    return {"feature": features, "channel": X.shape[-1] if len(X.shape) > 1 else 1, "all": 1}[per]


def moments(X: Rows, per: str) -> tuple[Floats, Floats]:
    """Return mean and variance (divided by n) in float64, reading a few MiB of rows at a time.

    Chunks are combined by the update of Chan, Golub and LeVeque (1983). The first value of each
    group is subtracted before anything is summed: a constant group then has variance 0 exactly.
    """
    width = _width(X, per)
    if isinstance(X, Csr):
        return sparse.moments(X, width)
    first = X[0].reshape(-1)[:width].astype(np.float64)
    mean = np.zeros(width)
    squares = np.zeros(width)
    seen = 0
    step = chunk_rows(X)
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, X.shape[0], step):
            x = X[begin : begin + step].reshape(-1, width).astype(np.float64)
            x -= first
            count = x.shape[0]
            chunk_mean = x.mean(axis=0)
            x -= chunk_mean
            delta = chunk_mean - mean
            total = seen + count
            mean += delta * (count / total)
            squares += np.square(x, out=x).sum(axis=0)
            if seen:
                squares += delta * delta * (seen * (count / total))
            seen = total
        return mean + first, squares / seen
