"""Preprocessing that mixes features along the principal axes of the training rows: PCA and whitening.

Sources: Pearson (1901); Hotelling (1933); Bell and Sejnowski (1997) for ZCA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyfastnn._inputs import Csr
from pyfastnn._names import unknown
from pyfastnn.data.preprocessing.affine import moments
from pyfastnn.data.preprocessing.base import Array, Config, Floats, Preprocessor, Rows, check_arrays, chunk_rows
from pyfastnn.data.sources import Source

__all__ = ["PCA", "Whiten"]

METHODS = ("zca", "pca")
MOST_FEATURES = 1 << 14  # the covariance matrix then has 2 GiB, and its axes take a quarter of an hour


class _Projection(Preprocessor):
    """What PCA and whitening share: the mean, the principal axes and the variances along them.

    Attributes
    ----------
    mean_ : ndarray of float64, shape (features,)
        The mean row.
    components_ : ndarray of float64, shape (components, features)
        The principal axes, largest variance first; rows of length 1, orthogonal to each other. The item of largest absolute value is
        positive.
    explained_variance_ : ndarray of float64, shape (components,)
        Variance of the training rows along each axis (the sum of squares is divided by n).
    explained_variance_ratio_ : ndarray of float64, shape (components,)
        Their shares of the variance of all features together.
    """

    _mixes = True
    components: int | float | None
    mean_: Floats
    components_: Floats
    explained_variance_: Floats
    explained_variance_ratio_: Floats

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row after the preprocessing, given that of a raw one."""
        features = math.prod(input_shape)
        if self.fitted:
            if features != self.shift_.size:
                raise ValueError(
                    f"{type(self).__name__}: it was fitted on rows of {self.shift_.size} values, these have {features}"
                )
            return (self._outputs(),)
        if isinstance(self.components, float):
            raise RuntimeError(
                f"{self!r} decides with the data how many values a row keeps: call its fit(X) first, or train the model, which does it"
            )
        return (self._count(features, None),)

    @property
    def needs_fit_for_shape(self) -> bool:
        """Whether `output_shape` is known only once `fit` was called."""
        return isinstance(self.components, float) and not self.fitted

    def _count(self, features: int, ratio: Floats | None) -> int:
        """Return how many axes are kept."""
        if self.components is None:
            return features
        if isinstance(self.components, int):
            if self.components > features:
                raise ValueError(
                    f"{type(self).__name__}: 'components' is {self.components}, expected at most the {features} values of a row"
                )
            return self.components
        assert ratio is not None
        return min(features, int(np.searchsorted(np.cumsum(ratio), self.components - 1e-12)) + 1)

    def _learn(self, X: Rows) -> None:
        assert not isinstance(X, Csr)  # refused by fit
        features = X.size // X.shape[0]
        self._check_features(features)
        if isinstance(self.components, int):
            self._count(features, None)
        mean, _ = moments(X, "feature")
        variance, axes = _principal(X, mean)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise ValueError(f"{type(self).__name__}: the values of 'X' are too large for float64 statistics")
        total = float(variance.sum())
        ratio = variance / total if total > 0 else np.zeros_like(variance)
        kept = self._count(features, ratio)
        self._set(mean, np.ascontiguousarray(axes[:kept]), variance[:kept].copy(), ratio[:kept].copy())

    def _check_features(self, features: int) -> None:
        if features > MOST_FEATURES:
            raise ValueError(
                f"{type(self).__name__}: rows of {features} values would need a matrix of {features} x {features}; at most "
                f"{MOST_FEATURES} are taken"
            )

    def _set(self, mean: Floats, axes: Floats, variance: Floats, ratio: Floats) -> None:
        forward, back = self._matrices(axes, variance)
        if not (np.isfinite(forward).all() and np.isfinite(back).all()):
            raise ValueError(
                f"{self!r}: {int((variance <= 0).sum())} axes have no variance, which eps=0 cannot divide by; give a larger eps or fewer "
                "components"
            )
        self.mean_, self.components_ = mean, axes
        self.explained_variance_, self.explained_variance_ratio_ = variance, ratio
        self.shift_, self.scale_ = mean, np.ones_like(mean)
        self.matrix_, self._back = np.ascontiguousarray(forward), back

    def _matrices(self, axes: Floats, variance: Floats) -> tuple[Floats, Floats]:
        """Return the matrix (features, outputs) and the one that undoes it."""
        raise NotImplementedError

    def _undo(self, z: Floats) -> Floats:
        x: Floats = z @ self._back + self.mean_
        return x

    def _state(self) -> dict[str, Floats]:
        return {
            "mean": self.mean_,
            "components": self.components_,
            "variance": self.explained_variance_,
            "ratio": self.explained_variance_ratio_,
        }

    def _restore(self, state: Mapping[str, Array]) -> None:
        check_arrays(self.name, state, ("mean", "components", "variance", "ratio"))
        mean, axes, variance, ratio = (state[k].copy() for k in ("mean", "components", "variance", "ratio"))
        if mean.ndim != 1 or axes.ndim != 2 or axes.shape[1] != mean.size or axes.shape[0] > mean.size:
            raise ValueError(
                f"preprocessing {self.name!r}: 'components' has shape {axes.shape} for a 'mean' of shape {mean.shape}, expected "
                "(components, features)"
            )
        self._check_features(mean.size)
        if variance.shape != axes.shape[:1] or ratio.shape != variance.shape or (variance < 0).any():
            raise ValueError(
                f"preprocessing {self.name!r}: 'variance' and 'ratio' must have one item of 0 or more for each axis"
            )
        if isinstance(self.components, int) and self.components != len(axes):
            raise ValueError(f"preprocessing {self.name!r}: {len(axes)} axes for components={self.components}")
        self._set(mean, axes, variance, ratio)


class PCA(_Projection):
    """Subtract the mean and turn the axes to the principal ones: ``out = (x - mean_) @ components_.T``.

    Parameters
    ----------
    components : None, int or float, default None
        How many axes of largest variance to keep: all, so many, or (a float between 0 and 1) as few as together have this share of the
        variance.

    Raises
    ------
    TypeError, ValueError
        If ``components`` is no such number.

    Notes
    -----
    The axes come from the covariance matrix in float64 (features x features), so axes whose variance is under about 1e-15 of the largest
    are arbitrary. Inside a network the product runs natively, in the model's float type.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.data import PCA
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> pca = PCA(components=1).fit(X)
    >>> pca.transform(X, dtype="float64").round(3).tolist()
    [[-1.414], [0.0], [1.414]]
    >>> pca.explained_variance_ratio_.round(3).tolist()
    [1.0]
    """

    name = "pca"

    def __init__(self, components: int | float | None = None) -> None:
        self.components = _check_components("PCA", components)

    def _settings(self) -> Config:
        return {"components": self.components}

    def _matrices(self, axes: Floats, variance: Floats) -> tuple[Floats, Floats]:
        return axes.T, axes


class Whiten(_Projection):
    """Subtract the mean, and make the features uncorrelated with variance 1.

    ``method="pca"``: ``out = (x - mean_) @ components_.T / sqrt(explained_variance_ + eps)``. ``method="zca"`` turns the axes back after
    that (``@ components_``), which of all whitenings changes the rows least: whitened images still look like images, and keep their shape.

    Parameters
    ----------
    method : {"zca", "pca"}, default "zca"
        Whether to turn back.
    components : None, int or float, default None
        How many axes of largest variance to keep: all, so many, or (a float between 0 and 1) as few as together have this share of the
        variance.
    eps : float, default 1e-5
        Added to every variance, 0 or more. It limits how much axes of little variance, which are noise, are stretched. It belongs to the
        scale of the data: 1e-5 is meant for values around 1; bytes from 0 to 255 are rescaled first (`Compose`), or take an eps 65025 times
        as large.

    Raises
    ------
    TypeError, ValueError
        If a setting is no such number or name.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.data import Whiten
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 1.0], [4.0, 1.0]])
    >>> Whiten(eps=0.0).fit(X).transform(X, dtype="float64").round(6).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """

    name = "whiten"

    def __init__(self, method: str = "zca", components: int | float | None = None, eps: float = 1e-5) -> None:
        if not isinstance(method, str):
            raise TypeError(f"Whiten: 'method' is {method!r}, expected one of {', '.join(METHODS)}")
        if method not in METHODS:
            raise ValueError(f"Whiten: {unknown('method', method, METHODS)}")
        if isinstance(eps, bool) or not isinstance(eps, (int, float)):
            raise TypeError(f"Whiten: 'eps' is {eps!r}, expected a number")
        if not 0.0 <= eps < math.inf:
            raise ValueError(f"Whiten: 'eps' is {eps}, expected 0 or more")
        self.method = method
        self.components = _check_components("Whiten", components)
        self.eps = float(eps)

    @property
    def needs_fit_for_shape(self) -> bool:
        """Whether `output_shape` is known only once `fit` was called."""
        return self.method == "pca" and super().needs_fit_for_shape

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row after the preprocessing, given that of a raw one."""
        if self.method == "pca":
            return super().output_shape(input_shape)
        if self.fitted:
            super().output_shape(input_shape)
        return input_shape

    def _settings(self) -> Config:
        return {"method": self.method, "components": self.components, "eps": self.eps}

    def _matrices(self, axes: Floats, variance: Floats) -> tuple[Floats, Floats]:
        deviation = np.sqrt(variance + self.eps)
        with np.errstate(divide="ignore", invalid="ignore"):
            forward, back = axes.T / deviation, deviation[:, None] * axes
            return (forward @ axes, axes.T @ back) if self.method == "zca" else (forward, back)


def _principal(X: Array | Source, mean: Floats) -> tuple[Floats, Floats]:
    """Return the variances along the principal axes, largest first, and the axes as rows."""
    features = mean.size
    covariance = np.zeros((features, features))
    step = chunk_rows(X)
    with np.errstate(over="ignore", invalid="ignore"):
        for begin in range(0, X.shape[0], step):
            x = X[begin : begin + step].reshape(-1, features).astype(np.float64)
            x -= mean
            covariance += x.T @ x
        covariance /= X.shape[0]
    if not np.isfinite(covariance).all():
        return np.full(features, np.inf), np.eye(features)
    variance, axes = np.linalg.eigh(covariance)
    axes = np.ascontiguousarray(axes.T[::-1])
    # The sign of an axis is arbitrary: fix it.
    strongest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes *= np.where(strongest < 0, -1.0, 1.0)
    return np.maximum(variance[::-1], 0.0), axes


def _check_components(kind: str, components: Any) -> int | float | None:
    if components is None:
        return None
    if isinstance(components, (bool, np.bool_)) or not isinstance(components, (int, float, np.integer, np.floating)):
        raise TypeError(f"{kind}: 'components' is {components!r}, expected None, an int or a float")
    if isinstance(components, (int, np.integer)):
        if components < 1:
            raise ValueError(f"{kind}: 'components' is {components}, expected 1 or more")
        return int(components)
    if not 0.0 < components < 1.0:
        raise ValueError(
            f"{kind}: 'components' is {components}, expected a share strictly between 0 and 1, or a whole number"
        )
    return float(components)
