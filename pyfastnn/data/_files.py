"""Whole files as bytes, gzip or not."""

from __future__ import annotations

import zlib
from typing import IO, cast

from pyfastnn.data.errors import DataError

__all__ = ["open_file", "read_all", "read_exactly", "read_head"]

STEP = 1 << 20


def open_file(path: str) -> IO[bytes]:
    """Open a file for reading; gzip is recognised by its first two bytes."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        magic = file.read(2)
        file.seek(0)
    except OSError as e:
        raise DataError(f"'{path}' cannot be read: {e.strerror or e}") from e
    if magic == b"\x1f\x8b":
        import gzip

        file.close()
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return file


def read_all(path: str) -> bytes:
    """Read a whole file, unpacked."""
    with open_file(path) as file:
        return bytes(_collect(path, file, None))


def read_exactly(path: str, file: IO[bytes], count: int, what: str) -> bytearray:
    """Read ``count`` bytes and nothing else up to the end of the file.

    Memory grows with what the file really holds, never with what its header claims.
    """
    data = _collect(path, file, count + 1)
    if len(data) != count:
        found = "more" if len(data) > count else f"only {len(data)}"
        raise DataError(f"'{path}': expected {count} bytes of {what}, found {found}")
    return data


def read_head(path: str, file: IO[bytes], count: int) -> bytes:
    """Read up to ``count`` bytes."""
    return bytes(_collect(path, file, count))


def _collect(path: str, file: IO[bytes], limit: int | None) -> bytearray:
    data = bytearray()
    try:
        while limit is None or len(data) < limit:
            step = STEP if limit is None else min(STEP, limit - len(data))
            piece = file.read(step)
            if not piece:
                break
            data += piece
    except (EOFError, zlib.error) as e:
        raise DataError(f"'{path}': the gzip data is cut off or damaged after {len(data)} bytes ({e})") from e
    except OSError as e:
        raise DataError(f"'{path}' cannot be read: {e.strerror or e}") from e
    return data
