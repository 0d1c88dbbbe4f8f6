"""Native core: the op table, one-op calls, and plans."""

from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]

__version__: str

def active_isa() -> str: ...
def detected_isa() -> str: ...
def multiplies_bf16() -> bool: ...
def compiled_isas() -> list[str]: ...
def compiler() -> str: ...
def openmp_runtime() -> str: ...
def num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def parallel_cost() -> float: ...
def set_parallel_cost(ns: float) -> None: ...
def permutation(out: NDArray[np.int64], seed: int, epoch: int) -> None: ...
def batch_fits(X: Any, y: Any, rows: int, items: int, limit: int) -> bool: ...
def probe_multiply_add(rounds: int) -> int: ...
def probe_read(x: NDArray[np.float32], repeats: int) -> None: ...
def probe_update(y: NDArray[np.float32], x: NDArray[np.float32], repeats: int) -> None: ...
def op_schemas() -> list[dict[str, Any]]: ...
def hyper_fields() -> list[str]: ...
def call(
    name: str,
    inputs: tuple[_Array | None, ...],
    outputs: tuple[_Array | None, ...] | None = None,
    attrs: tuple[float, ...] = (),
    hyper: tuple[float, ...] | None = None,
    dtype: str | None = None,
) -> tuple[_Array, ...]: ...

@final
class Plan:
    def __init__(
        self,
        values: list[tuple[str, str, tuple[int, ...], bool, str, int]],
        lists: dict[str, list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[float, ...], int]]],
        *,
        max_batch: int,
        dtype: str = "float32",
        reuse: bool = True,
        inplace: bool = True,
        poison: bool = False,
        functions: list[Callable[[tuple[_Array, ...], tuple[_Array, ...]], None]] = ...,
    ) -> None: ...
    @property
    def scratch_bytes(self) -> int: ...
    def bind(self, name: str, array: _Array | None) -> None: ...
    def run(
        self,
        name: str,
        rows: int,
        batch: int,
        arrays: Mapping[str, _Array | None] = ...,
        *,
        hyper: NDArray[np.float64] | None = None,
        watch: str | None = None,
        limit: float = ...,
        limit_factor: float = 0.0,
        snapshot: bool = False,
        progress: Callable[[int], object] | None = None,
        threads: int = 0,
        step_ns: NDArray[np.int64] | None = None,
        then: str = "",
        also: str | None = None,
        every: int = 1,
        offset: int = 0,
    ) -> tuple[int, str]: ...
    def restore(self, name: str) -> None: ...
    def trace(
        self,
        name: str,
        rows: int,
        arrays: Mapping[str, _Array | None] = ...,
        *,
        hyper: NDArray[np.float64] | None = None,
        threads: int = 0,
    ) -> list[tuple[str, dict[str, _Array], int]]: ...
    def layout(self, name: str) -> list[dict[str, Any]]: ...

@final
class Predictor:
    def __init__(
        self,
        values: list[tuple[str, str, tuple[int, ...], bool, str, int]],
        lists: dict[str, list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[float, ...], int]]],
        arrays: dict[str, _Array],
        *,
        max_batch: int,
        dtype: str,
        threads: int,
    ) -> None: ...
    def apply(self, x: Any, out: _Array | None = None) -> Any: ...
