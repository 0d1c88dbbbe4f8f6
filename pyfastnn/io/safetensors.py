"""Read and write plain safetensors files, refusing everything that is not exactly one.

Layout: 8 bytes with the length N of the header (little endian), N bytes of JSON padded with
spaces to a multiple of 8, then the tensors back to back in the order of their offsets. The header
maps each name to ``{"dtype", "shape", "data_offsets"}`` and ``__metadata__`` to strings.

The format has no checksum, so two SHA-256 strings go into ``__metadata__``: ``sha256_payload`` of
all bytes after the header, and ``sha256_header`` of the header in canonical form (sorted keys, no
spaces, ASCII) without these two strings. The second covers names, shapes and the other metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyfastnn.io.atomic import atomic_write

__all__ = ["ModelFileError", "read", "write"]

Array = npt.NDArray[Any]

# In the order of the format's own writer: tensors of wider types first, so all are aligned.
DTYPES = {
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
    "F32": "<f4",
    "I32": "<i4",
    "U32": "<u4",
    "F16": "<f2",
    "I16": "<i2",
    "U16": "<u2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
CODES = {np.dtype(text): code for code, text in DTYPES.items()}
ORDER = {code: i for i, code in enumerate(DTYPES)}

MAX_HEADER = 1 << 20  # bytes; parsed JSON takes up to about 25 times as much memory
MAX_TENSORS = 16384
MAX_RANK = 32
MAX_NAME = 1024  # characters
PAYLOAD_KEY = "sha256_payload"
HEADER_KEY = "sha256_header"
CHUNK = 1 << 20


class ModelFileError(ValueError):
    """Raised when a file is not a whole, unchanged safetensors file, or cannot become one."""


def write(path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays and strings as one safetensors file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to create or replace.
    tensors : mapping of str to ndarray
        Of float16/32/64, signed and unsigned integers of 8 to 64 bits, or bool; any shape and
        memory layout. At most 16384 arrays, names of at most 1024 characters.
    metadata : mapping of str to str
        Strings, such as an architecture as JSON. With the tensors' names and shapes they may fill
        1 MiB; larger things belong into tensors.

    Raises
    ------
    TypeError
        If a name, array or string is of another type.
    ModelFileError
        If there is too much of something, or a name is reserved.
    OSError
        If writing fails; an older file at ``path`` is then unchanged.

    Notes
    -----
    The same arrays and strings give the same bytes. Arrays must not be changed meanwhile.
    """
    arrays = {name: _checked(name, array) for name, array in tensors.items()}
    if len(arrays) > MAX_TENSORS:
        raise ModelFileError(f"{len(arrays)} tensors, expected at most {MAX_TENSORS}")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata {key!r}: {value!r}: expected two strings")
        if key in (PAYLOAD_KEY, HEADER_KEY):
            raise ModelFileError(f"metadata key {key!r} is reserved")
    names = sorted(arrays, key=lambda n: (ORDER[CODES[arrays[n].dtype]], n))
    entries: dict[str, Any] = {}
    payload = hashlib.sha256()
    offset = 0
    for name in names:
        array = arrays[name]
        entries[name] = {
            "dtype": CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
        payload.update(_bytes(array))
    hashes = {PAYLOAD_KEY: payload.hexdigest(), HEADER_KEY: _header_hash(entries, dict(metadata))}
    header = {"__metadata__": {**metadata, **hashes}, **entries}
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        raise ModelFileError(f"a name or metadata string is not valid Unicode: {e}") from e
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ModelFileError(
            f"names, shapes and metadata take {len(text)} bytes, expected at most {MAX_HEADER}; "
            "store large things as tensors"
        )
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            file.write(_bytes(arrays[name]))


def read(path: str | os.PathLike[str], *, verify: bool = True) -> tuple[dict[str, Array], dict[str, str]]:
    """Read a safetensors file.

    Parameters
    ----------
    path : str or path-like
        File to read.
    verify : bool, default True
        Require the two SHA-256 strings, which only files of this package have. If False they are
        ignored: use this for files of other programs.

    Returns
    -------
    tensors : dict of str to ndarray
        New writable C-contiguous arrays in native byte order, in the order of the file.
    metadata : dict of str to str
        The strings, without the two hashes.

    Raises
    ------
    ModelFileError
        If the file is cut off, changed, too large in some respect, or not safetensors. Nothing is
        returned then.
    FileNotFoundError, PermissionError
        If the file cannot be opened.

    Notes
    -----
    Sizes are checked against the size of the file before anything is allocated; the memory needed
    is at most the size of the file plus 32 MiB.
    """
    source = os.fspath(path)
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise ModelFileError(f"'{source}' is not a plain file")
    with open(source, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(file, size, verify)
        except ModelFileError as e:
            raise ModelFileError(f"'{source}': {e}") from None


def _checked(name: object, array: object) -> Array:
    """Return a C-contiguous little-endian version of an array after checking name and dtype."""
    if not isinstance(name, str):
        raise TypeError(f"tensor name {name!r} is {type(name).__name__}, expected str")
    _check_name(name)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"tensor {name!r} is {type(array).__name__}, expected a NumPy array")
    little = array.dtype.newbyteorder("<")
    if little not in CODES:
        allowed = ", ".join(np.dtype(t).name for t in DTYPES.values())
        raise TypeError(f"tensor {name!r} has dtype {array.dtype}, expected one of {allowed}")
    if array.ndim > MAX_RANK:
        raise ModelFileError(f"tensor {name!r} has {array.ndim} axes, expected at most {MAX_RANK}")
    return np.asarray(array, little, order="C")


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or name == "__metadata__":
        raise ModelFileError(
            f"tensor name {name[:40]!r} is not allowed: expected 1 to {MAX_NAME} characters, not '__metadata__'"
        )
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ModelFileError(f"tensor name {name[:40]!r} is not valid Unicode") from None


def _bytes(array: Array) -> memoryview:
    """View a C-contiguous array as bytes; also of size or rank 0."""
    return array.reshape(-1).view(np.uint8).data


def _header_hash(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """Hash the header without the two hash strings, independent of spaces and order of keys."""
    kept = {k: v for k, v in metadata.items() if k not in (PAYLOAD_KEY, HEADER_KEY)}
    text = json.dumps(
        {"__metadata__": kept, **entries},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: IO[bytes], size: int, verify: bool) -> tuple[dict[str, Array], dict[str, str]]:
    if size < 8:
        raise ModelFileError(f"{size} bytes, too short for a safetensors file")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ModelFileError(
            f"header of {length} bytes, expected at most {MAX_HEADER}; this is no safetensors model file"
        )
    if length > size - 8:
        raise ModelFileError(f"header of {length} bytes in a file of {size}: the file is cut off")
    header = _parse_header(file.read(length))
    metadata = _check_metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"{len(header)} tensors, expected at most {MAX_TENSORS}")
    for name, entry in header.items():
        _check_entry(name, entry)
    order = sorted(header, key=lambda n: tuple(header[n]["data_offsets"]))
    end = 0
    for name in order:
        begin, stop = header[name]["data_offsets"]
        if begin != end:
            raise ModelFileError(
                f"tensor {name!r} begins at byte {begin}, expected {end}: tensors must follow each "
                "other without holes or overlap"
            )
        end = stop
    if 8 + length + end != size:
        raise ModelFileError(
            f"the file has {size} bytes, expected {8 + length + end}: it is cut off or has something appended"
        )
    if verify:
        for key in (HEADER_KEY, PAYLOAD_KEY):
            if key not in metadata:
                raise ModelFileError(f"no {key} in the metadata: the file is changed or from another program")
        if metadata[HEADER_KEY] != _header_hash(header, metadata):
            raise ModelFileError("the header is damaged or changed: its SHA-256 differs")
    payload = hashlib.sha256()
    tensors = {name: _read_tensor(file, name, header[name], payload) for name in order}
    if verify and metadata[PAYLOAD_KEY] != payload.hexdigest():
        raise ModelFileError("the tensors are damaged or changed: their SHA-256 differs")
    metadata.pop(HEADER_KEY, None)
    metadata.pop(PAYLOAD_KEY, None)
    return tensors, metadata


def _parse_header(raw: bytes) -> dict[str, Any]:
    if raw[:1] != b"{":
        raise ModelFileError("the header does not begin with '{'; this is no safetensors file")
    objects = 0

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > MAX_TENSORS + 2:
            raise ModelFileError(f"the header has more than {MAX_TENSORS} tensors")
        made = dict(items)
        if len(made) != len(items):
            raise ModelFileError("the header has a key twice")
        return made

    def integer(text: str) -> int:
        # Offsets fit into 19 digits; int() of very many digits would be slow.
        if len(text) > 19:
            raise ModelFileError(f"the header has a number of {len(text)} digits")
        return int(text)

    def no_float(text: str) -> NoReturn:
        raise ModelFileError(f"the header has the number {text[:20]}, expected whole numbers")

    try:
        header = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=no_float,
            parse_constant=no_float,
        )
    except UnicodeDecodeError:
        raise ModelFileError("the header is not UTF-8 text") from None
    except RecursionError:
        raise ModelFileError("the header is nested too deeply") from None
    except json.JSONDecodeError as e:
        raise ModelFileError(f"the header is not JSON: {e.msg} at character {e.pos}") from None
    assert isinstance(header, dict)  # the first character is '{'
    return header


def _check_metadata(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict):
        raise ModelFileError("'__metadata__' is not an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise ModelFileError(f"metadata {key[:40]!r} is not a string")
        try:
            key.encode()
            value.encode()
        except UnicodeEncodeError:
            raise ModelFileError(f"metadata {key[:40]!r} is not valid Unicode") from None
    return metadata


def _check_entry(name: str, entry: object) -> None:
    """Check one tensor's entry: exactly three keys, whole numbers, sizes that agree."""
    _check_name(name)
    what = f"tensor {name[:80]!r}"
    if not isinstance(entry, dict) or sorted(entry) != ["data_offsets", "dtype", "shape"]:
        raise ModelFileError(f"{what}: expected the keys dtype, shape, data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ModelFileError(f"{what}: dtype {str(dtype)[:20]!r}, expected one of {[*DTYPES]}")
    for key, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(k) is int and 0 <= k < 1 << 62 for k in numbers):
            raise ModelFileError(f"{what}: {key!r} is not a list of whole numbers from 0")
    if len(shape) > MAX_RANK:
        raise ModelFileError(f"{what}: {len(shape)} axes, expected at most {MAX_RANK}")
    if len(offsets) != 2 or offsets[1] < offsets[0]:
        raise ModelFileError(f"{what}: 'data_offsets' is not a begin and an end")
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    # Axes of size 0 hide the others from the product, but NumPy's own limit counts them.
    if math.prod(max(k, 1) for k in shape) * itemsize >= 1 << 62:
        raise ModelFileError(f"{what}: shape {shape[:8]} is too large")
    if math.prod(shape) * itemsize != offsets[1] - offsets[0]:
        raise ModelFileError(
            f"{what}: {dtype} of shape {shape[:8]} needs {math.prod(shape) * itemsize} bytes, but "
            f"its offsets span {offsets[1] - offsets[0]}"
        )


def _read_tensor(file: IO[bytes], name: str, entry: dict[str, Any], payload: Any) -> Array:
    dtype = np.dtype(DTYPES[entry["dtype"]])
    flat = np.empty(math.prod(entry["shape"]), dtype)
    view = flat.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise ModelFileError(f"tensor {name!r} is cut off")
        payload.update(view[done : done + count])
        done += count
    if dtype.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
        raise ModelFileError(f"tensor {name!r} has a truth value that is neither 0 nor 1")
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(entry["shape"])
