"""Several preprocessings one after the other, folded into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pyfastnn._inputs import Csr
from pyfastnn.data.preprocessing.base import Array, Config, Floats, Preprocessor, Rows
from pyfastnn.data.sources import Runs, Source

__all__ = ["Compose"]


class Compose(Preprocessor):
    """Apply several preprocessings, the first one first.

    Each part is fitted on what the parts before it make of the rows. However many there are, a network runs them as the gather of the rows
    and at most one product: shifts, scales and matrices are multiplied out in float64.

    Parameters
    ----------
    parts : sequence of Preprocessor
        At least one; the parts of a `Compose` among them are taken singly.

    Raises
    ------
    TypeError
        If a part is no preprocessing.
    ValueError
        If there is none, or one stands twice.

    Examples
    --------
    >>> import numpy as np
    >>> from pyfastnn.data import PCA, Compose, Rescale
    >>> X = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    >>> Compose([Rescale(), PCA(components=1)]).fit(X).transform(X).round(3).tolist()
    [[-0.7070000171661377], [0.7070000171661377]]
    """

    name = "compose"
    parts: tuple[Preprocessor, ...]

    def __init__(self, parts: Sequence[Preprocessor]) -> None:
        flat: list[Preprocessor] = []
        for part in parts:
            if not isinstance(part, Preprocessor):
                raise TypeError(f"Compose: {part!r} is no preprocessing, expected something like data.Center()")
            flat.extend(part.parts if isinstance(part, Compose) else [part])
        if not flat:
            raise ValueError("Compose: 'parts' is empty, expected at least one preprocessing")
        if len({id(part) for part in flat}) < len(flat):
            raise ValueError("Compose: the same object stands twice; make a second one")
        self.parts = tuple(flat)
        if all(part.fitted for part in self.parts):
            self._fold()

    @property
    def _mixes(self) -> bool:  # type: ignore[override]
        return any(part._mixes for part in self.parts)

    def forget(self) -> None:
        """Forget what `fit` has learned."""
        super().forget()
        for part in self.parts:
            part.forget()

    @property
    def needs_fit_for_shape(self) -> bool:
        """Whether `output_shape` is known only once `fit` was called."""
        return any(part.needs_fit_for_shape for part in self.parts)

    @property
    def keeps_zeros(self) -> bool:
        """Whether all parts are scales alone."""
        return all(part.keeps_zeros for part in self.parts)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a row after the preprocessing, given that of a raw one."""
        shape = input_shape
        for part in self.parts:
            shape = part.output_shape(shape)
        return shape

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return f"Compose([{', '.join(map(repr, self.parts))}])"

    def _settings(self) -> Config:
        return {"parts": [part.to_config() for part in self.parts]}

    def _learn(self, X: Rows) -> None:
        seen = X
        for part in self.parts:
            part.fit(seen)
            seen = part._scaled(seen) if isinstance(seen, Csr) else _Transformed(seen, part)
        self._fold()

    def _fold(self) -> None:
        """Multiply the parts out: ``((x - shift) * scale) @ matrix + bias``."""
        first = self.parts[0]
        shift, scale, matrix, bias = first.shift_, first.scale_, first.matrix_, first.bias_
        with np.errstate(all="ignore"):
            for part in self.parts[1:]:
                if part.shift_.size != (shift.size if matrix is None else matrix.shape[1]):
                    raise ValueError(
                        f"Compose: {part!r} was fitted on rows of {part.shift_.size} values, the parts before it give "
                        f"{shift.size if matrix is None else matrix.shape[1]}"
                    )
                if matrix is None:
                    shift, scale = shift + part.shift_ / scale, scale * part.scale_
                    matrix, bias = part.matrix_, part.bias_
                    continue
                matrix = matrix * part.scale_
                bias = ((0.0 if bias is None else bias) - part.shift_) * part.scale_
                if part.matrix_ is not None:
                    matrix, bias = matrix @ part.matrix_, bias @ part.matrix_
                    bias = bias if part.bias_ is None else bias + part.bias_
        folded = [a for a in (shift, scale, matrix, bias) if a is not None]
        if not (all(np.isfinite(a).all() for a in folded) and scale.all()):
            raise ValueError(f"{self!r}: the scales together are too large or too small for float64")
        self.shift_, self.scale_ = shift, scale
        self.matrix_ = None if matrix is None else np.ascontiguousarray(matrix)
        self.bias_ = bias

    def _undo(self, z: Floats) -> Floats:
        for part in reversed(self.parts):
            z = part._undo(z)
        return z

    def _state(self) -> dict[str, Floats]:
        return {f"{i}.{key}": array for i, part in enumerate(self.parts) for key, array in part._state().items()}

    def _restore(self, state: Mapping[str, Array]) -> None:
        known = [f"{i}." for i in range(len(self.parts))]
        for key in state:
            if not any(key.startswith(k) for k in known):
                raise ValueError(
                    f"preprocessing 'compose': 'state' has {key!r}, expected the number of a part and a dot before it"
                )
        for prefix, part in zip(known, self.parts, strict=True):
            part._restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._fold()


class _Transformed(Source):
    """Rows as a fitted part makes them, computed when they are wanted, in float64."""

    def __init__(self, rows: Array | Source, part: Preprocessor) -> None:
        self._rows, self._part = rows, part
        self.shape = (rows.shape[0], *part.output_shape(rows.shape[1:]))
        self.dtype = np.dtype(np.float64)

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows and transform them."""
        at = 0
        for begin, rows in zip(first.tolist(), count.tolist(), strict=True):
            raw: Any = self._rows[begin : begin + rows]
            out[at : at + rows] = self._part.transform(raw, np.float64)
            at += rows
