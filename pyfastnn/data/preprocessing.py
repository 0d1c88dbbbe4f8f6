"""Preprocessing that is a shift and a scale per feature: ``out = (x - shift_) * scale_``.

Every class here only learns ``shift_`` and ``scale_``, so a model can fold any of them into the
native gather of its rows, save them as two arrays and embed them in an export.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from pyfastnn._names import unknown
from pyfastnn.data.errors import CHUNK_ELEMENTS, count_nonfinite

if TYPE_CHECKING:
    from pyfastnn.graph import Builder

__all__ = ["Center", "Preprocessor", "Rescale", "Standardize", "from_config"]

Array = npt.NDArray[Any]
Config = dict[str, "str | float"]
P = TypeVar("P", bound="Preprocessor")

PER = ("feature", "channel", "all")
SMALLEST_DEVIATION = 2.0**-126  # smallest normal float32: its inverse still is a float32


class Preprocessor:
    """Base of all preprocessing: ``out = (x - shift_) * scale_``.

    Attributes
    ----------
    shift_ : ndarray of float64, shape (features,)
        Learned by `fit`; ``features`` counts the values of one row.
    scale_ : ndarray of float64, shape (features,)
        Learned by `fit`; finite and never 0.
    """

    name: ClassVar[str] = ""

    shift_: npt.NDArray[np.float64]
    scale_: npt.NDArray[np.float64]

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return hasattr(self, "shift_")

    def emit(self, builder: Builder, data: str, index: str, prefix: str) -> str:
        """Add the gather of some rows, preprocessed, to a graph.

        Parameters
        ----------
        builder : Builder
            The graph under construction.
        data, index : str
            Values: rows of a data set, and the numbers of those wanted.
        prefix : str
            What names of new values begin with.

        Returns
        -------
        str
            The rows, of shape (n, features).
        """
        features = builder.graph.values[data].shape[1]
        fold = [builder.value(f"{prefix}{name}", (features,)) for name in ("shift", "scale")]
        return builder.emit("gather_rows", (data, index, *fold), outputs=(f"{prefix}x",), name="gather")[0]

    def arrays(self, prefix: str, dtype: npt.DTypeLike) -> dict[str, Array]:
        """Return what the nodes of `emit` read, by value name.

        Raises
        ------
        RuntimeError
            If `fit` was not called.
        """
        if not self.fitted:
            raise RuntimeError(f"the model's preprocessing {self!r} is not fitted yet: train the model first")
        return {f"{prefix}shift": self.shift_.astype(dtype), f"{prefix}scale": self.scale_.astype(dtype)}

    def fit(self: P, X: Array) -> P:
        """Learn ``shift_`` and ``scale_``.

        Parameters
        ----------
        X : ndarray of float32, float64 or uint8, shape (n, ...)
            At least one row. Not changed.

        Returns
        -------
        Preprocessor
            The object itself.

        Raises
        ------
        TypeError
            If ``X`` is not an ndarray of one of these dtypes.
        ValueError
            If ``X`` has no rows or no features, or holds NaN or infinity.
        """
        self._check_input(X)
        if X.shape[0] == 0 or X.size == 0:
            raise ValueError(f"{type(self).__name__}: 'X' has shape {X.shape}, which is empty")
        total, columns, first, in_first = count_nonfinite(X)
        if total:
            more = f" ({total} in {columns} columns)" if columns > 1 else ""
            raise ValueError(
                f"{type(self).__name__}: 'X' has {in_first} NaN or infinite values in column "
                f"{first}{more}; fill or remove them first"
            )
        shift, scale = self._learn(X)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and scale.all()):
            raise ValueError(f"{type(self).__name__}: the values of 'X' are too large for float64 statistics")
        features = X.size // X.shape[0]
        # Channels are the last axis, so repeating the short vector lines it up with the features.
        self.shift_ = np.tile(shift, features // shift.size)
        self.scale_ = np.tile(scale, features // scale.size)
        return self

    def transform(self, X: Array, dtype: npt.DTypeLike = np.float32) -> Array:
        """Apply ``(x - shift_) * scale_``.

        Parameters
        ----------
        X : ndarray of float32, float64 or uint8, shape (n, ...)
            Rows with as many values as those given to `fit`. NaN stays NaN.
        dtype : dtype, default float32
            Either float32 or float64. Computed in float64 and rounded once.

        Returns
        -------
        ndarray of dtype, shape of X
            A new C-contiguous array.

        Raises
        ------
        TypeError
            If ``X`` or ``dtype`` is of another type.
        ValueError
            If a row has another number of values.
        RuntimeError
            If `fit` was not called.
        """
        self._check_input(X)
        wanted = np.dtype(dtype)
        if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"{type(self).__name__}: 'dtype' is {wanted}, expected float32 or float64")
        out = np.empty(X.shape, wanted)
        for rows in self._chunks(X):
            x = X[rows].reshape(-1, self.shift_.size).astype(np.float64)
            out[rows] = ((x - self.shift_) * self.scale_).reshape(X[rows].shape)
        return out

    def inverse_transform(self, Z: Array) -> Array:
        """Undo `transform`: ``z / scale_ + shift_``.

        Parameters
        ----------
        Z : ndarray of float32 or float64, shape (n, ...)
            Rows with as many values as those given to `fit`.

        Returns
        -------
        ndarray, dtype and shape of Z
            A new C-contiguous array.

        Raises
        ------
        TypeError
            If ``Z`` is not an ndarray of float32 or float64.
        ValueError
            If a row has another number of values.
        RuntimeError
            If `fit` was not called.
        """
        self._check_input(Z, name="Z", allowed=("float32", "float64"))
        out = np.empty(Z.shape, Z.dtype)
        for rows in self._chunks(Z, name="Z"):
            z = Z[rows].reshape(-1, self.shift_.size).astype(np.float64)
            out[rows] = (z / self.scale_ + self.shift_).reshape(Z[rows].shape)
        return out

    def to_config(self) -> Config:
        """Return the settings, for `from_config`.

        Returns
        -------
        dict
            JSON strings and numbers, ``name`` among them.
        """
        return {"name": self.name, **self._settings()}

    def state(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return what was learned, for `from_config`.

        Returns
        -------
        dict of str to ndarray of float64, shape (features,)
            Copies, as ``{"shift": ..., "scale": ...}``.

        Raises
        ------
        RuntimeError
            If `fit` was not called.
        """
        self._check_fitted()
        return {"shift": self.shift_.copy(), "scale": self.scale_.copy()}

    def __repr__(self) -> str:
        """Show the class with its settings."""
        settings = ", ".join(f"{k}={v!r}" for k, v in self._settings().items())
        return f"{type(self).__name__}({settings})"

    def _settings(self) -> Config:
        raise NotImplementedError

    def _learn(self, X: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return shift and scale of one length that divides the number of features."""
        raise NotImplementedError

    def _check_fitted(self) -> None:
        if not hasattr(self, "shift_"):
            raise RuntimeError(f"{type(self).__name__}: call fit(X) first")

    def _check_input(
        self,
        x: Array,
        name: str = "X",
        allowed: tuple[str, ...] = ("float32", "float64", "uint8"),
    ) -> None:
        kind = type(self).__name__
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{kind}: {name!r} is {type(x).__name__}, expected a NumPy array")
        if x.dtype not in [np.dtype(a) for a in allowed]:
            raise TypeError(f"{kind}: {name!r} has dtype {x.dtype}, expected {', '.join(allowed)}")
        if x.ndim == 0:
            raise ValueError(f"{kind}: {name!r} is a single value, expected shape (n, ...)")

    def _chunks(self, x: Array, name: str = "X") -> Iterator[slice]:
        """Yield slices of rows of about 8 MiB as float64, after checking the row size."""
        self._check_fitted()
        features = math.prod(x.shape[1:])
        if features != self.shift_.size:
            raise ValueError(
                f"{type(self).__name__}: {name!r} has shape {x.shape}, which is {features} values "
                f"a row; expected {self.shift_.size}"
            )
        step = max(1, CHUNK_ELEMENTS // features)
        for begin in range(0, x.shape[0], step):
            yield slice(begin, min(begin + step, x.shape[0]))


class Standardize(Preprocessor):
    """Subtract the mean and divide by the standard deviation.

    ``shift_ = mean(x)``, ``scale_ = 1 / sqrt(mean((x - mean(x))**2))``. Constant features
    (deviation under ``2**-126``, the smallest normal float32) get scale 1, so they become 0.

    Parameters
    ----------
    per : {"feature", "channel", "all"}, default "feature"
        What shares one mean and deviation: every single feature has its own, all values of one
        channel (the last axis: colours of NHWC images), or the whole array has one.
    """

    name = "standardize"

    def __init__(self, per: str = "feature") -> None:
        self.per = _check_per("Standardize", per)

    def _settings(self) -> Config:
        return {"per": self.per}

    def _learn(self, X: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean, variance = _moments(X, self.per)
        if not np.isfinite(variance).all():
            return mean, variance  # refused by fit
        deviation = np.sqrt(variance)
        scale = np.ones_like(deviation)
        np.divide(1.0, deviation, out=scale, where=deviation >= SMALLEST_DEVIATION)
        return mean, scale


class Center(Preprocessor):
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

    def _learn(self, X: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        mean, _ = _moments(X, self.per)
        return mean, np.ones_like(mean)


class Rescale(Preprocessor):
    """Map the interval ``[low, high]`` onto [0, 1]: ``shift_ = low``, ``scale_ = 1/(high - low)``.

    Values outside the interval go outside [0, 1]; nothing is clipped.

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

    def _settings(self) -> Config:
        return {"low": self.low, "high": self.high}

    def _learn(self, X: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        return np.array([self.low]), np.array([1.0 / (self.high - self.low)])


_REGISTRY: dict[str, type[Preprocessor]] = {c.name: c for c in (Center, Rescale, Standardize)}


def from_config(config: Mapping[str, Any], state: Mapping[str, Array] | None) -> Preprocessor:
    """Build a preprocessor from `Preprocessor.to_config` and `Preprocessor.state`.

    Only the classes of this module can be named; nothing is imported or called by name.

    Parameters
    ----------
    config : mapping
        ``name`` and the settings of that class, no more and no less.
    state : mapping or None
        ``shift`` and ``scale``, float64 of the same shape (features,); None gives an object that
        has not been fitted.

    Returns
    -------
    Preprocessor
        A new object with copies of the arrays.

    Raises
    ------
    TypeError
        If a setting or array has the wrong type.
    ValueError
        If a name, key, value or shape is not allowed.
    """
    name = config.get("name")
    if not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(unknown("preprocessing", name, _REGISTRY))
    settings = {k: v for k, v in config.items() if k != "name"}
    allowed = _REGISTRY[name]()._settings()
    for key in settings:
        if key not in allowed:
            raise ValueError(unknown(f"setting of {name}", key, allowed))
    if missing := [key for key in allowed if key not in settings]:
        raise ValueError(f"preprocessing {name!r}: missing setting {missing[0]!r}")
    made = _REGISTRY[name](**settings)
    if state is None:
        return made
    if sorted(state) != ["scale", "shift"]:
        raise ValueError(f"preprocessing {name!r}: 'state' has {sorted(state)}, expected scale, shift")
    shift, scale = state["shift"], state["scale"]
    for key, array in (("shift", shift), ("scale", scale)):
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            raise TypeError(f"preprocessing {name!r}: {key!r} is not a float64 array")
        if array.ndim != 1 or array.shape != shift.shape or array.size == 0:
            raise ValueError(
                f"preprocessing {name!r}: {key!r} has shape {array.shape}, expected (features,) for both arrays"
            )
        if not np.isfinite(array).all() or (key == "scale" and not array.all()):
            raise ValueError(f"preprocessing {name!r}: {key!r} must be finite, scale not 0")
    made.shift_ = shift.copy()
    made.scale_ = scale.copy()
    return made


def _check_per(kind: str, per: str) -> str:
    if not isinstance(per, str):
        raise TypeError(f"{kind}: 'per' is {per!r}, expected one of {', '.join(PER)}")
    if per not in PER:
        raise ValueError(f"{kind}: {unknown('per', per, PER)}")
    return per


def _moments(X: Array, per: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and variance (divided by n) in float64, reading a few MiB of rows at a time.

    Chunks are combined by the update of Chan, Golub and LeVeque (1983). The first value of each
    group is subtracted before anything is summed: a constant group then has variance 0 exactly.
    """
    features = X.size // X.shape[0]
    channels = X.shape[-1] if X.ndim > 1 else 1
    width = {"feature": features, "channel": channels, "all": 1}[per]
    first = X[0].reshape(-1)[:width].astype(np.float64)
    mean = np.zeros(width)
    squares = np.zeros(width)
    seen = 0
    step = max(1, CHUNK_ELEMENTS // features)
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
