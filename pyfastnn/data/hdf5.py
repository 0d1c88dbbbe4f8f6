"""Rows of a data set in an HDF5 file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from pyfastnn.data.errors import DataError
from pyfastnn.data.sources import Array, FileRows, Runs, Source

__all__ = ["HDF5"]


class HDF5(Source):
    """Rows of a data set in an HDF5 file. Needs h5py: ``pip install pyfastnn[hdf5]``.

    Parameters
    ----------
    path : str or path
        The file.
    name : str
        The data set in it, such as ``"train/images"``.

    Raises
    ------
    DataError
        If the file or the data set cannot be opened, or holds no rows of numbers.
    ImportError
        If h5py is not installed.

    Notes
    -----
    A data set that is stored in one piece is read past the HDF5 library, without the GIL. Chunked and compressed ones are read by h5py.
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        try:
            import h5py
        except ImportError as e:
            raise ImportError("HDF5 files need h5py: pip install pyfastnn[hdf5]") from e
        self.path, self.name = os.fspath(path), name
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as e:
            raise DataError(f"'{self.path}' cannot be opened as HDF5: {' '.join(str(e).split())}") from e
        found = self._file.get(name)
        if (
            not isinstance(found, h5py.Dataset)
            or found.shape is None
            or found.ndim == 0
            or found.dtype.kind not in "biuf"
        ):
            from pyfastnn._names import unknown

            names: list[str] = []
            self._file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
            self._file.close()
            if name not in names:
                raise DataError(f"'{self.path}': {unknown('data set', name, names)}")
            raise DataError(f"'{self.path}': the data set '{name}' holds no rows of numbers")
        self._rows = found
        self.shape = tuple(found.shape)
        self.dtype = found.dtype.newbyteorder("=")
        self._plain = self._stored_in_one_piece()

    def _stored_in_one_piece(self) -> FileRows | None:
        """Return where the numbers lie in the file, if they do so one behind the other."""
        rows = self._rows
        offset = rows.id.get_offset() if rows.chunks is None else None
        if offset is None or rows.external or rows.is_virtual or self._file.userblock_size or not rows.dtype.isnative:
            return None
        return FileRows(self.path, self.shape, self.dtype, int(offset))

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows."""
        if self._plain is not None:
            self._plain.read(first, count, out)
            return
        at = 0
        try:
            for begin, rows in zip(first.tolist(), count.tolist(), strict=True):
                if rows:
                    self._rows.read_direct(out, np.s_[begin : begin + rows], np.s_[at : at + rows])
                at += rows
        except (OSError, ValueError, RuntimeError) as e:
            raise DataError(f"'{self.path}', data set '{self.name}' cannot be read: {' '.join(str(e).split())}") from e

    def close(self) -> None:
        """Close the file."""
        if self._plain is not None:
            self._plain.close()
        self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file anew when copied or pickled."""
        return HDF5, (self.path, self.name)
