"""Rows of a data set in an HDF5 file."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from pyfastnn.data.errors import DataError
from pyfastnn.data.sources import Array, FileRows, OpenFile, Runs, Source, check_runs

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
    A data set that is stored in one piece, or in chunks of whole rows, is read past the HDF5 library, without the GIL and by several
    threads. Compressed ones and others are read by h5py, one run of rows at a time. A `Stream` takes whole chunks of up to 4 MiB.
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
        self.unit = found.chunks[0] if found.chunks else 1
        self._plain = self._as_they_lie()
        self.parallel = self._plain is not None
        self.place = 0 if self._plain is None else self._plain.place

    def _as_they_lie(self) -> FileRows | _ChunkRows | None:
        """Return how to read the numbers where they lie in the file, if they do so unchanged and row by row."""
        rows = self._rows
        if not rows.size or rows.external or rows.is_virtual or self._file.userblock_size or not rows.dtype.isnative:
            return None
        if rows.chunks is None:
            offset = rows.id.get_offset()
            return None if offset is None else FileRows(self.path, self.shape, self.dtype, int(offset))
        whole_rows = rows.chunks[1:] == rows.shape[1:]
        if not whole_rows or rows.id.get_create_plist().get_nfilters() or rows.id.get_num_chunks() != self._chunks:
            return None
        return _ChunkRows(self.path, rows)

    @property
    def _chunks(self) -> int:
        """Number of chunks that hold all rows; one that was never written does not exist."""
        return -(-len(self) // self.unit)

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


class _ChunkRows:
    """Rows of a data set whose chunks lie somewhere in the file, as they are and whole rows each.

    Parameters
    ----------
    path : str
        The file.
    rows : h5py.Dataset
        The data set; asked once for the place of each chunk.
    """

    def __init__(self, path: str, rows: Any) -> None:
        self._rows = rows
        self._unit: int = rows.chunks[0]
        self._row_bytes = math.prod(rows.shape[1:]) * rows.dtype.itemsize
        self._places = np.full(-(-rows.shape[0] // self._unit), -1, np.int64)
        self._file = OpenFile(path)
        self.place = self._find(0)

    def _find(self, chunk: int) -> int:
        """Return where a chunk lies in the file."""
        corner = (chunk * self._unit, *[0] * (self._rows.ndim - 1))
        return int(self._rows.id.get_chunk_info_by_coord(corner).byte_offset)

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows without the GIL."""
        check_runs(f"'{self._file.path}'", self._rows.shape[0], first, count)
        first, count = first[count > 0], count[count > 0]
        if not len(first):
            return
        # A run is cut where a chunk ends.
        begins = first // self._unit
        pieces = (first + count - 1) // self._unit - begins + 1
        number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        chunk = np.repeat(begins, pieces) + number
        begin = np.maximum(np.repeat(first, pieces), chunk * self._unit)
        end = np.minimum(np.repeat(first + count, pieces), (chunk + 1) * self._unit)
        for k in np.unique(chunk[self._places[chunk] < 0]).tolist():
            self._places[k] = self._find(k)
        at = self._places[chunk] + (begin - chunk * self._unit) * self._row_bytes
        self._file.read(0, 1, at, (end - begin) * self._row_bytes, out)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
