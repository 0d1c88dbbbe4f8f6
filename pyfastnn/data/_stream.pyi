from typing import Any

import numpy as np
import numpy.typing as npt

OK: int
BAD_NUMBER: int
TOO_FEW: int
TOO_MANY: int
BAD_QUOTES: int

def decode_cifar(
    raw: bytes | bytearray | npt.NDArray[np.uint8],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
) -> None: ...
def count_csv_rows(raw: bytes | bytearray | npt.NDArray[np.uint8], skip_lines: int) -> int: ...
def parse_csv_floats(
    raw: bytes | bytearray | npt.NDArray[np.uint8],
    delimiter: int,
    skip_lines: int,
    target: int,
    text_target: bool,
    features: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
    spans: npt.NDArray[Any],
) -> tuple[int, int, int, int, int]: ...
def read_runs(
    fd: int,
    offset: int,
    row_bytes: int,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    out: npt.NDArray[np.uint8],
) -> int: ...
def copy_runs(
    rows: npt.NDArray[np.uint8],
    row_bytes: int,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    out: npt.NDArray[np.uint8],
) -> None: ...
def touch(rows: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> None: ...
def waits() -> int: ...
