"""What is known of one op beside its kernel: the reference and everything the tests over the table
need.

The reference of an op is written for readers and takes wide floats: float64 to judge float32
kernels, `numpy.longdouble` to judge float64 ones. It never modifies its inputs and returns a tuple
of outputs in the order of the op table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Rng = np.random.Generator

# The order of csrc/ops/hyper.def; a test compares it with the compiled one.
HYPER_FIELDS = (
    "learning_rate",
    "momentum",
    "weight_decay",
    "beta1",
    "beta2",
    "eps",
    "correction1",
    "correction2",
    "step",
    "seed",
    "rho",
    "l1",
    "clip_value",
    "clip_norm",
    "max_norm",
    "ema_decay",
)

# Sizes 0, 1, primes, and one below and above the tile sizes 4, 6, 8, 14, 16, 24, 32, 64. The last
# one passes one grain of a threaded loop and ends in a tail.
SIZES = (0, 1, 2, 3, 5, 7, 9, 13, 15, 17, 23, 25, 31, 33, 63, 65, 127, 4099)


@dataclass(frozen=True)
class Sample:
    """Arguments of one call.

    Attributes
    ----------
    label : str
        Names the sample in test ids, like ``n3_i5_o7``.
    inputs : mapping of str to ndarray or None
        By argument name; None where an optional input is left out.
    attrs, hyper : mapping of str to float
        Attributes that differ from the defaults; every hyper field the op reads.
    """

    label: str
    inputs: Mapping[str, Array | None]
    attrs: Mapping[str, float] = field(default_factory=dict)
    hyper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorCase:
    """A call that must fail: its arguments, the exception and a pattern of its message."""

    sample: Sample
    exception: type[Exception]
    match: str


@dataclass(frozen=True)
class Cost:
    """Least work of a call: floating point operations (FLOP) and memory traffic (bytes)."""

    flop: float
    byte: float


class Rounding:
    """The rounding of a float type, for writing error bounds.

    Attributes
    ----------
    u : float
        Unit roundoff: a correctly rounded operation has relative error at most ``u`` (2**-24 for
        float32).
    tiny : longdouble
        Smallest subnormal number: the absolute error an operation may add where its result
        underflows.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        info = np.finfo(self.dtype)
        self.u = float(info.eps) / 2
        self.tiny = np.longdouble(info.smallest_subnormal)

    def ulp(self, y: Array) -> Array:
        """Return the distance from abs(y), rounded to the float type, to the next larger number."""
        spacing: Array = np.spacing(np.abs(y).astype(self.dtype)).astype(y.dtype)
        return spacing

    def relative(self, roundings: float, y: Array) -> Array:
        """Return the bound of ``roundings`` rounding errors made on the way to ``y``."""
        bound: Array = np.asarray(1.001 * roundings * self.u * np.abs(y) + self.tiny)
        return bound


@dataclass(frozen=True)
class OpSpec:
    """One op of the table, seen from its reference.

    Attributes
    ----------
    name : str
        Name in the op table.
    reference : callable
        ``reference(*inputs, **attributes, **hyper fields) -> tuple of outputs``; positional
        parameters are the inputs of the table in order, keyword-only ones its attributes and hyper
        fields.
    bound : callable
        Same arguments after a `Rounding`; returns one absolute error bound (scalar or array) for
        each output.
    case : callable
        ``case(rng, dtype, **sizes) -> Sample``: random arguments of the given sizes.
    shapes, bench : tuple of dict
        Sizes for the tests and for the microbenchmarks.
    special : callable
        ``special(rng, dtype) -> list of Sample``: NaN, infinities, signed zeros, subnormals,
        limits.
    errors : callable
        ``errors(rng, dtype) -> list of ErrorCase``.
    cost : callable
        ``cost(itemsize, **sizes) -> Cost``.
    backward : mapping of str to str
        Differentiable input -> ``op.output`` that is its gradient, or ``dy`` where the upstream
        gradient passes unchanged; empty if the op is not differentiated. The node that a rule of
        `pyfastnn.graph.gradients` adds must be this one.
    source : str
        Where the formula comes from.
    """

    name: str
    reference: Callable[..., tuple[Array, ...]]
    bound: Callable[..., tuple[Any, ...]]
    case: Callable[..., Sample]
    shapes: tuple[dict[str, int], ...]
    bench: tuple[dict[str, int], ...]
    special: Callable[[Rng, DTypeLike], list[Sample]]
    errors: Callable[[Rng, DTypeLike], list[ErrorCase]]
    cost: Callable[..., Cost]
    source: str
    backward: Mapping[str, str] = field(default_factory=dict)

    def samples(self, rng: Rng, dtype: DTypeLike) -> list[Sample]:
        """Return the samples of all test shapes, then the special ones."""
        return [self.case(rng, dtype, **sizes) for sizes in self.shapes] + self.special(rng, dtype)

    def evaluate(self, sample: Sample, dtype: DTypeLike) -> tuple[Array, ...]:
        """Return the reference outputs of a sample of float type ``dtype``, in a wider one."""
        with np.errstate(all="ignore"):
            return self.reference(**widen(sample.inputs, dtype), **sample.attrs, **sample.hyper)

    def error_bound(
        self,
        inputs: Mapping[str, Array | None],
        attrs: Mapping[str, float],
        hyper: Mapping[str, float],
        dtype: DTypeLike,
    ) -> tuple[Any, ...]:
        """Return for each output the absolute error a kernel of type ``dtype`` may make."""
        with np.errstate(all="ignore"):
            return self.bound(Rounding(dtype), **widen(inputs, dtype), **attrs, **hyper)


_SPECS: dict[str, OpSpec] = {}


def register(spec: OpSpec) -> OpSpec:
    """Add an op to the specs; a name can be taken once."""
    if spec.name in _SPECS:
        raise ValueError(f"register: op {spec.name!r} has a spec already")
    _SPECS[spec.name] = spec
    return spec


def specs() -> dict[str, OpSpec]:
    """Return the spec of every op by name."""
    return dict(_SPECS)


def wide_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the float type in which the reference judges kernels of float type ``dtype``."""
    return np.dtype(np.float64 if np.dtype(dtype) == np.float32 else np.longdouble)


def widen(inputs: Mapping[str, Array | None], dtype: DTypeLike) -> dict[str, Array | None]:
    """Convert the float arrays among ``inputs`` to the reference's float type; integers stay."""
    wide = wide_dtype(dtype)
    return {name: a.astype(wide) if a is not None and a.dtype.kind == "f" else a for name, a in inputs.items()}


def label_of(**sizes: int) -> str:
    """Return the label of a sample from its sizes, like ``n3_i5_o7``."""
    return "_".join(f"{name}{value}" for name, value in sizes.items())


def normal(rng: Rng, dtype: DTypeLike, *shape: int) -> Array:
    """Return a C-contiguous array of standard normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


def awkward(dtype: DTypeLike) -> Array:
    """Return values ops treat by rule: NaN, infinities, zeros, subnormals, limits."""
    info = np.finfo(np.dtype(dtype))
    positive = [
        0.0,
        float(info.smallest_subnormal),
        float(info.tiny) / 3,
        float(info.tiny),
        1e-20,
        1e-8,
        1e-4,
        0.5,
        1.0,
        9.5,
    ]
    positive += [20.0, 87.3, 89.0, 104.5, 708.0, 750.0, float(info.max), np.inf]
    return np.array([np.nan, *positive, *(-v for v in positive)]).astype(dtype)


def different_dtype(inputs: Mapping[str, Array | None], name: str) -> dict[str, Array | None]:
    """Return ``inputs`` with argument ``name`` as int32, which no op takes."""
    array = inputs[name]
    assert array is not None
    return {**inputs, name: array.astype(np.int32)}
