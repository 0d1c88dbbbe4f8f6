"""Rows that need not lie in memory: read run by run from a file, or looked at through a slice.

A source has the shape, dtype and slices of an array of rows. `pyfastnn.data.Stream` reads sources in the background, and every
preprocessing can be fitted on one.
"""

from __future__ import annotations

import math
import mmap
import operator
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyfastnn.data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ArrayRows", "FileRows", "NpyFile", "RawFile", "Source", "as_source"]

Array = npt.NDArray[Any]
Runs = npt.NDArray[np.int64]


class Source:
    """Base of all sources: rows of one shape and dtype that are read when they are wanted.

    Attributes
    ----------
    shape : tuple of int
        Rows first, as of an array.
    dtype : numpy dtype
        Of the machine's byte order.
    parallel : bool
        Whether `read` may be called by several threads at a time, and is quicker so.
    unit : int
        Rows that cost as much to read as one of them, since the file holds them as a piece.
    place : int
        Of the first byte, in the file or in memory, as far as it is known: copies to memory that lies alike are the fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parallel: bool = False
    unit: int = 1
    place: int = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions, the rows among them."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of items of all rows."""
        return math.prod(self.shape)

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows one after the other.

        Parameters
        ----------
        first, count : ndarray of int64, shape (runs,)
            First row and number of rows of each run.
        out : ndarray of the source's dtype, shape (rows or more, ...)
            C-contiguous; its first ``count.sum()`` rows are overwritten.

        Raises
        ------
        DataError
            If the file ends before a row does, or cannot be read.
        """
        raise NotImplementedError

    def __getitem__(self, rows: int | slice) -> Array:
        """Return a copy of one row, or of the rows of a slice of step 1."""
        if not isinstance(rows, slice):
            at = operator.index(rows)
            at += len(self) if at < 0 else 0
            if not 0 <= at < len(self):
                raise IndexError(f"row {rows} of {len(self)}")
            one: Array = self[at : at + 1][0]
            return one
        begin, end, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows of a file are read in slices of step 1, not {step}")
        count = max(0, end - begin)
        out = np.empty((count, *self.shape[1:]), self.dtype)
        self.read(np.array([begin], np.int64), np.array([count], np.int64), out)
        return out

    def close(self) -> None:
        """Close what the source has opened."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class ArrayRows(Source):
    """Rows of an array, a `numpy.memmap` among them, whose pages are then read as they are wanted.

    Parameters
    ----------
    array : ndarray, shape (n, ...)
        Not copied.
    """

    parallel = True

    def __init__(self, array: Array) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")
        self.row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.place = int(array.__array_interface__["data"][0])

    @property
    def in_place(self) -> bool:
        """Whether the rows lie one after the other, in the machine's byte order: then they can be used where they are."""
        return bool(self.array.flags.c_contiguous and self.array.dtype.isnative)

    @property
    def mapped(self) -> bool:
        """Whether the rows are those of a file mapped into memory."""
        at: Any = self.array
        while isinstance(at, np.ndarray) and not isinstance(at, np.memmap):
            at = at.base
        return isinstance(at, (np.memmap, mmap.mmap))

    @property
    def raw(self) -> npt.NDArray[np.uint8]:
        """The bytes of rows that are `in_place`."""
        return _bytes(self.array)

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Copy runs of rows without the GIL, where they lie in memory as they are wanted."""
        check_runs("the array", len(self), first, count)
        if self.in_place and out.size and self.size:
            from pyfastnn.data._stream import copy_runs

            copy_runs(self.raw, self.row_bytes, first, count, _bytes(out))
            return
        at = 0
        for begin, rows in zip(first.tolist(), count.tolist(), strict=True):
            out[at : at + rows] = self.array[begin : begin + rows]
            at += rows


class OpenFile:
    """A file that is read in places, by any number of threads.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    DataError
        If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as e:
            raise DataError(f"'{path}' cannot be opened: {e.strerror or e}") from e

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, row_bytes: int, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows one after the other, without the GIL.

        Raises
        ------
        DataError
            If the file ends before, cannot be read or was closed.
        """
        from pyfastnn.data._stream import read_runs

        if self._fd < 0:
            raise DataError(f"'{self.path}' was closed")
        try:
            got = read_runs(self._fd, offset, row_bytes, first, count, _bytes(out))
        except OSError as e:
            raise DataError(f"'{self.path}' cannot be read: {e.strerror or e}") from e
        wanted = int(count.sum()) * row_bytes
        if got < wanted:
            raise DataError(f"'{self.path}' ended {wanted - got} bytes too early: it was cut while it was read")

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """Close the file."""
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class FileRows(Source):
    """Rows that lie one after the other in a file, read in place without the GIL.

    Parameters
    ----------
    path : str or path
        The file.
    shape : tuple of int
        Rows first.
    dtype : dtype
        Of the machine's byte order.
    offset : int
        Bytes before the first row.

    Raises
    ------
    DataError
        If the file is shorter than that.
    """

    parallel = True

    def __init__(self, path: str | os.PathLike[str], shape: Sequence[int], dtype: npt.DTypeLike, offset: int) -> None:
        self.path = os.fspath(path)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.offset = self.place = offset
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._file = OpenFile(self.path)
        wanted, found = offset + self.shape[0] * self._row_bytes, self._file.size
        if found < wanted:
            self.close()
            raise DataError(
                f"'{self.path}' has {found} bytes, expected {wanted} for {self.dtype} of shape {self.shape}"
            )

    def read(self, first: Runs, count: Runs, out: Array) -> None:
        """Read runs of rows without the GIL."""
        check_runs(f"'{self.path}'", len(self), first, count)
        self._file.read(self.offset, self._row_bytes, first, count, out)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the file anew when copied or pickled."""
        return FileRows, (self.path, self.shape, self.dtype, self.offset)


class RawFile(FileRows):
    """Rows of a binary file without a header.

    Parameters
    ----------
    path : str or path
        The file.
    shape : tuple of int
        Rows first; a first size of -1 takes as many rows as the file holds.
    dtype : dtype, default uint8
        Numbers of the machine's byte order.
    offset : int, default 0
        Bytes to pass over at the start.

    Raises
    ------
    DataError
        If the file cannot be opened, is too short, or (with -1) does not hold whole rows.
    TypeError, ValueError
        If shape, dtype or offset make no sense.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> from pyfastnn.data import RawFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "images.bin")
    ...     np.arange(12, dtype=np.uint8).tofile(path)
    ...     with RawFile(path, (-1, 2, 2)) as images:
    ...         print(images.shape, images[2].tolist())
    (3, 2, 2) [[8, 9], [10, 11]]
    """

    def __init__(
        self, path: str | os.PathLike[str], shape: Sequence[int], dtype: npt.DTypeLike = np.uint8, offset: int = 0
    ) -> None:
        sizes = tuple(operator.index(s) for s in shape)
        kind = _plain_dtype("RawFile", dtype)
        start = operator.index(offset)
        if not sizes or min(sizes[1:], default=1) < 1 or sizes[0] < -1:
            raise ValueError(f"RawFile: 'shape' is {sizes}, expected rows (or -1) and sizes of 1 or more")
        if start < 0:
            raise ValueError(f"RawFile: 'offset' is {start}, expected 0 or more bytes")
        if sizes[0] == -1:
            row = math.prod(sizes[1:]) * kind.itemsize
            try:
                held = os.stat(path).st_size - start
            except OSError as e:
                raise DataError(f"'{os.fspath(path)}' cannot be opened: {e.strerror or e}") from e
            if held < 0 or held % row:
                raise DataError(f"'{os.fspath(path)}' has {held} bytes after the offset, expected whole rows of {row}")
            sizes = (held // row, *sizes[1:])
        super().__init__(path, sizes, kind, start)


class NpyFile(FileRows):
    """Rows of a ``.npy`` file.

    Parameters
    ----------
    path : str or path
        A file written by `numpy.save`, in C order and the machine's byte order.

    Raises
    ------
    DataError
        If the file is none, holds Python objects, or is in another order.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        name = os.fspath(path)
        try:
            with open(name, "rb") as file:
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0)):
                    raise DataError(f"'{name}' has .npy format {version[0]}.{version[1]}, expected 1.0 or 2.0")
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                offset = file.tell()
        except OSError as e:
            raise DataError(f"'{name}' cannot be opened: {e.strerror or e}") from e
        except (ValueError, EOFError, SyntaxError) as e:
            if isinstance(e, DataError):
                raise
            raise DataError(f"'{name}' is not a .npy file: {' '.join(str(e).split())}") from e
        if not shape:
            raise DataError(f"'{name}' holds a single value, expected rows")
        if fortran and len(shape) > 1:
            raise DataError(
                f"'{name}' is in Fortran order, where rows do not lie together; save numpy.ascontiguousarray of it"
            )
        if dtype.kind not in "biuf" or not dtype.isnative:
            raise DataError(f"'{name}' has dtype {dtype}, expected plain numbers of this machine's byte order")
        super().__init__(name, shape, dtype, offset)


def as_source(rows: Any, name: str) -> Source:
    """Return what a user gives as rows as a source.

    Raises
    ------
    TypeError
        If it is no source, array or path.
    ValueError
        If it is a single value, or a path that is not a ``.npy`` file.
    """
    if isinstance(rows, Source):
        return rows
    if isinstance(rows, (str, os.PathLike)):
        path = os.fspath(rows)
        if str(path).endswith(".npy"):
            return NpyFile(path)
        hint = (
            f"pyfastnn.data.HDF5({path!r}, 'name')" if str(path).endswith((".h5", ".hdf5")) else "pyfastnn.data.RawFile"
        )
        raise ValueError(f"{name!r} is the path {path!r}, expected a .npy file; for others write {hint}")
    if not isinstance(rows, np.ndarray):
        raise TypeError(
            f"{name!r} is {type(rows).__name__}, expected an array, the path of a .npy file, RawFile or HDF5"
        )
    if rows.ndim == 0:
        raise ValueError(f"{name!r} is a single value, expected rows")
    return ArrayRows(rows)


def _bytes(rows: Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of a C-contiguous array, not copied."""
    return np.asarray(rows).reshape(-1).view(np.uint8)


def check_runs(who: str, rows: int, first: Runs, count: Runs) -> None:
    """Raise ValueError unless all runs lie within the rows."""
    if first.size and (int(first.min()) < 0 or int(count.min()) < 0 or int((first + count).max()) > rows):
        raise ValueError(f"{who} has {rows} rows; the runs go beyond them")


def _plain_dtype(who: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in "biuf" or not kind.isnative:
        raise TypeError(f"{who}: 'dtype' is {kind}, expected plain numbers of this machine's byte order")
    return kind
