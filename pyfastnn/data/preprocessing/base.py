"""What every preprocessing is: a shift and a scale of the raw rows and, for some, a matrix after them.

``out = (x - shift_) * scale_``, then ``out @ matrix_ + bias_`` where there is a matrix. So any of them, and any chain of them, runs
inside a network's plan as the gather of the rows and at most one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from pyfastnn._inputs import ONLY_SCALES, Csr, as_csr, is_sparse
from pyfastnn.data.errors import CHUNK_ELEMENTS, count_nonfinite
from pyfastnn.data.preprocessing.sparse import canonical, nonfinite_of
from pyfastnn.data.sources import Source

if TYPE_CHECKING:
    from pyfastnn.graph import Builder

__all__ = ["Array", "Config", "Floats", "Preprocessor", "Rows"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Rows = Array | Source | Csr
Config = dict[str, Any]
P = TypeVar("P", bound="Preprocessor")


class Preprocessor:
    """Base of all preprocessing.

    Attributes
    ----------
    shift_, scale_ : ndarray of float64, shape (features,)
        Learned by `fit`; ``features`` counts the values of one row. Finite, ``scale_`` never 0.
    matrix_ : ndarray of float64, shape (features, outputs), or None
        Learned by `fit` where the features are mixed.
    bias_ : ndarray of float64, shape (outputs,), or None
        Added after the matrix.
    """

    name: ClassVar[str] = ""

    shift_: Floats
    scale_: Floats
    matrix_: Floats | None = None
    bias_: Floats | None = None

    def fit(self: P, X: Rows) -> P:
        """Learn from training rows.

        Parameters
        ----------
        X : ndarray of float32, float64 or uint8, shape (n, ...), a source of such rows, or a sparse matrix of SciPy
            At least one row. Not changed, and read a few MiB at a time. Sparse rows, where `keeps_zeros`, are never made dense.

        Returns
        -------
        Preprocessor
            The object itself.

        Raises
        ------
        TypeError
            If ``X`` is not an ndarray or source of one of these dtypes, or is sparse and its zeros would become other numbers.
        ValueError
            If ``X`` has no rows or no features, or holds NaN or infinity.
        """
        if isinstance(X, Csr) or is_sparse(X):
            self._check_sparse(X, "X", "biuf")
            X = canonical(as_csr(X, "X", None, np.dtype(np.float64)))
        else:
            self._check_input(X)
        if X.shape[0] == 0 or X.size == 0:
            raise ValueError(f"{type(self).__name__}: 'X' has shape {X.shape}, which is empty")
        total, columns, first, in_first = nonfinite_of(X) if isinstance(X, Csr) else count_nonfinite(X)
        if total:
            more = f" ({total} in {columns} columns)" if columns > 1 else ""
            raise ValueError(
                f"{type(self).__name__}: 'X' has {in_first} NaN or infinite values in column "
                f"{first}{more}; fill or remove them first"
            )
        self._learn(X)
        return self

    def transform(self, X: Any, dtype: npt.DTypeLike = np.float32) -> Any:
        """Apply what was learned.

        Parameters
        ----------
        X : ndarray of float32, float64 or uint8, shape (n, ...), or a sparse matrix of SciPy
            Rows with as many values as those given to `fit`. NaN stays NaN.
        dtype : dtype, default float32
            Either float32 or float64. Computed in float64 and rounded once.

        Returns
        -------
        ndarray of dtype, shape (n, *output_shape(row shape))
            A new C-contiguous array; of a sparse matrix a new one in compressed rows (CSR).

        Raises
        ------
        TypeError
            If ``X`` or ``dtype`` is of another type, or ``X`` is sparse and its zeros would become other numbers.
        ValueError
            If a row has another number of values.
        RuntimeError
            If `fit` was not called.
        """
        sparse = is_sparse(X)
        if sparse:
            self._check_sparse(X, "X", "biuf")
        else:
            self._check_array(X)
        wanted = np.dtype(dtype)
        if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"{type(self).__name__}: 'dtype' is {wanted}, expected float32 or float64")
        self._check_fitted()
        self._check_width(X, self.shift_.size)
        if sparse:
            return _with_columns_times(X, self.scale_, wanted)
        out = np.empty((X.shape[0], *self.output_shape(X.shape[1:])), wanted)
        for rows in _chunks(X):
            x = X[rows].reshape(-1, self.shift_.size).astype(np.float64)
            out[rows] = self._apply(x).reshape(-1, *out.shape[1:])
        return out

    def inverse_transform(self, Z: Any) -> Any:
        """Undo `transform`, as far as it can be undone.

        Parameters
        ----------
        Z : ndarray of float32 or float64, shape (n, ...), or a sparse matrix of SciPy
            Rows with as many values as `transform` gives.

        Returns
        -------
        ndarray, dtype of Z
            A new C-contiguous array of the shape of ``Z``; of shape (n, features) where `transform` changes the number of values. Of a
            sparse matrix a new one in compressed rows (CSR).

        Raises
        ------
        TypeError
            If ``Z`` is not an ndarray of float32 or float64, or is sparse and its zeros would become other numbers.
        ValueError
            If a row has another number of values.
        RuntimeError
            If `fit` was not called.
        """
        sparse = is_sparse(Z)
        if sparse:
            self._check_sparse(Z, "Z", "f")
        else:
            self._check_array(Z, name="Z", allowed=("float32", "float64"))
        self._check_fitted()
        outputs = self._outputs()
        self._check_width(Z, outputs, name="Z")
        if sparse:
            return _with_columns_times(Z, 1.0 / self.scale_, Z.dtype)
        features = self.shift_.size
        shape = Z.shape if outputs == features else (Z.shape[0], features)
        out = np.empty(shape, Z.dtype)
        for rows in _chunks(Z):
            z = Z[rows].reshape(-1, outputs).astype(np.float64)
            out[rows] = self._undo(z).reshape(-1, *shape[1:])
        return out

    def forget(self) -> None:
        """Forget what `fit` has learned."""
        for name in ("shift_", "scale_", "matrix_", "bias_"):
            self.__dict__.pop(name, None)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row after the preprocessing, given that of a raw one.

        Raises
        ------
        ValueError
            If such a row does not fit.
        RuntimeError
            If it follows from the data and `fit` was not called.
        """
        return input_shape

    @property
    def fitted(self) -> bool:
        """Whether `fit` was called."""
        return hasattr(self, "shift_")

    @property
    def needs_fit_for_shape(self) -> bool:
        """Whether `output_shape` is known only once `fit` was called."""
        return False

    @property
    def keeps_zeros(self) -> bool:
        """Whether its settings make it a scale alone, whatever the data: then rows may be sparse."""
        return False

    # Inside a network

    def emit(self, builder: Builder, data: str, index: str, prefix: str) -> str:
        """Add the gather of the rows, preprocessed on the way, to a graph.

        Parameters
        ----------
        builder : Builder
            The graph under construction.
        data, index : str
            Values: the raw rows, flat, and the numbers of those to take.
        prefix : str
            Put before the names of all values that are added.

        Returns
        -------
        str
            The rows of the batch, of shape (n, values).

        Raises
        ------
        RuntimeError
            If there is a matrix and `fit` was not called.
        """
        features = builder.graph.values[data].shape[1]
        fold = [builder.value(prefix + name, (features,)) for name in ("shift", "scale")]
        x = f"{prefix}x"
        if not self._mixes:
            return builder.emit("gather_rows", (data, index, *fold), outputs=(x,), name="gather")[0]
        self._check_fitted_in_model()
        assert self.matrix_ is not None
        matrix = builder.value(f"{prefix}matrix", self.matrix_.shape, kind="state")
        bias = None if self.bias_ is None else builder.value(f"{prefix}bias", self.bias_.shape, kind="state")
        (gathered,) = builder.emit("gather_rows", (data, index, *fold), outputs=(f"{prefix}gathered",), name="gather")
        return builder.emit("linear_forward", (gathered, matrix, bias), outputs=(x,), name="preprocess")[0]

    def arrays(self, prefix: str, dtype: npt.DTypeLike) -> dict[str, Array]:
        """Return the arrays that the nodes of `emit` read, by value name.

        Parameters
        ----------
        prefix : str
            As for `emit`.
        dtype : dtype
            The model's float type.

        Raises
        ------
        RuntimeError
            If `fit` was not called.
        """
        self._check_fitted_in_model()
        found = {"shift": self.shift_, "scale": self.scale_, "matrix": self.matrix_, "bias": self.bias_}
        return {prefix + k: np.ascontiguousarray(v, dtype) for k, v in found.items() if v is not None}

    # Files and printing

    def to_config(self) -> Config:
        """Return the settings, for `from_config`.

        Returns
        -------
        dict
            JSON values, ``name`` among them.
        """
        return {"name": self.name, **self._settings()}

    def state(self) -> dict[str, Floats]:
        """Return what was learned, for `from_config`.

        Returns
        -------
        dict of str to ndarray of float64
            Copies.

        Raises
        ------
        RuntimeError
            If `fit` was not called.
        """
        self._check_fitted()
        return {k: v.copy() for k, v in self._state().items()}

    def __repr__(self) -> str:
        """Show the class with its settings."""
        settings = ", ".join(f"{k}={v!r}" for k, v in self._settings().items())
        return f"{type(self).__name__}({settings})"

    # What the classes say

    _mixes: bool = False
    """Whether there is a matrix."""

    _added: ClassVar[Config] = {}
    """Settings that files of earlier versions lack, and what they mean there."""

    def _settings(self) -> Config:
        raise NotImplementedError

    def _learn(self, X: Rows) -> None:
        """Set what is learned, from checked rows."""
        raise NotImplementedError

    def _state(self) -> dict[str, Floats]:
        return {"shift": self.shift_, "scale": self.scale_}

    def _restore(self, state: Mapping[str, Array]) -> None:
        """Set what was learned from the arrays of a file, which may be anything."""
        raise NotImplementedError

    def _apply(self, x: Floats) -> Floats:
        y: Floats = (x - self.shift_) * self.scale_
        if self.matrix_ is not None:
            y = y @ self.matrix_
        return y if self.bias_ is None else y + self.bias_

    def _scaled(self, rows: Csr) -> Csr:
        """Return sparse rows transformed, in float64, where zeros stay zeros."""
        return Csr(rows.data * self.scale_[rows.columns], rows.columns, rows.starts, rows.shape)

    def _undo(self, z: Floats) -> Floats:
        raise NotImplementedError

    def _outputs(self) -> int:
        """Return the values of a row after the preprocessing."""
        return int(self.shift_.size if self.matrix_ is None else self.matrix_.shape[1])

    # Checks

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__}: call fit(X) first")

    def _check_fitted_in_model(self) -> None:
        if not self.fitted:
            raise RuntimeError(f"the model's preprocessing {self!r} is not fitted yet: train the model first")

    def _check_input(
        self,
        x: Array | Source,
        name: str = "X",
        allowed: tuple[str, ...] = ("float32", "float64", "uint8"),
        kinds: tuple[type, ...] = (np.ndarray, Source),
    ) -> None:
        kind = type(self).__name__
        if not isinstance(x, kinds):
            raise TypeError(f"{kind}: {name!r} is {type(x).__name__}, expected a NumPy array")
        if x.dtype not in [np.dtype(a) for a in allowed]:
            raise TypeError(f"{kind}: {name!r} has dtype {x.dtype}, expected {', '.join(allowed)}")
        if x.ndim == 0:
            raise ValueError(f"{kind}: {name!r} is a single value, expected shape (n, ...)")

    def _check_array(
        self, x: Array, name: str = "X", allowed: tuple[str, ...] = ("float32", "float64", "uint8")
    ) -> None:
        self._check_input(x, name, allowed, (np.ndarray,))

    def _check_sparse(self, x: Any, name: str, kinds: str) -> None:
        if not self.keeps_zeros:
            raise TypeError(
                f"{self!r}: {name!r} is a sparse matrix, of whose zeros it would make other numbers, {ONLY_SCALES}; or pass "
                f"{name}.toarray()"
            )
        if x.dtype.kind not in kinds:
            wanted = "floats" if kinds == "f" else "numbers"
            raise TypeError(f"{type(self).__name__}: {name!r} is a sparse matrix of {x.dtype}, expected {wanted}")

    def _check_width(self, x: Any, wanted: int, name: str = "X") -> None:
        found = math.prod(x.shape[1:])
        if found != wanted:
            raise ValueError(
                f"{type(self).__name__}: {name!r} has shape {x.shape}, which is {found} values a row; expected {wanted}"
            )


def _with_columns_times(X: Any, factor: Floats, dtype: np.dtype[Any]) -> Any:
    """Return a sparse matrix in compressed rows, each column times its factor, rounded once from float64."""
    found = X.tocsr().astype(np.float64)
    found.data *= factor[found.indices]
    return found.astype(dtype)


def chunk_rows(X: Array | Source) -> int:
    """Return how many rows are about 8 MiB as float64."""
    return max(1, CHUNK_ELEMENTS // max(1, math.prod(X.shape[1:])))


def _chunks(X: Array) -> Iterator[slice]:
    """Yield slices of rows of about 8 MiB as float64."""
    step = chunk_rows(X)
    for begin in range(0, X.shape[0], step):
        yield slice(begin, min(begin + step, X.shape[0]))


def check_arrays(name: str, state: Mapping[str, Array], wanted: tuple[str, ...]) -> None:
    """Raise unless these and no other arrays are there, finite and float64.

    Raises
    ------
    TypeError
        If one is no float64 array.
    ValueError
        If one is missing or too many, empty, or holds NaN or infinity.
    """
    if sorted(state) != sorted(wanted):
        raise ValueError(f"preprocessing {name!r}: 'state' has {sorted(state)}, expected {', '.join(sorted(wanted))}")
    for key, array in state.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            raise TypeError(f"preprocessing {name!r}: {key!r} is not a float64 array")
        if array.size == 0 or not np.isfinite(array).all():
            raise ValueError(f"preprocessing {name!r}: {key!r} must be finite and not empty")
