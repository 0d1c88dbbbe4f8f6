"""Reference of the products of a linear layer on factors rounded to bfloat16."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference import linear
from pyfastnn.reference.spec import (
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    register,
)

LEAST = 2.0**-126
"""Magnitudes below the smallest normal number count as zero."""

SOURCE = (
    "Intel 64 and IA-32 Architectures Software Developer's Manual, VDPBF16PS and VCVTNE2PS2BF16; "
    "Kalamkar et al., A study of BFLOAT16 for deep learning training, arXiv:1905.12322"
)


def round_bf16(x: Array) -> Array:
    """Return the nearest numbers of 8 significant bits in the exponent range of float32, ties to even."""
    mantissa, exponent = np.frexp(x)
    with np.errstate(over="ignore"):  # 2**128 is infinite in float32
        rounded = np.ldexp(np.rint(mantissa * 256), exponent - 8)
        rounded = np.where(np.abs(rounded) >= np.ldexp(x.dtype.type(1), 128), np.copysign(np.inf, rounded), rounded)
    kept: Array = np.where(np.abs(x) < LEAST, np.copysign(0.0, x), rounded).astype(x.dtype)
    return kept


def linear_forward_bf16(x: Array, w: Array, b: Array | None = None) -> tuple[Array]:
    """Return ``round_bf16(x) @ round_bf16(w) + b``."""
    return linear.linear_forward(round_bf16(x), round_bf16(w), b)


def linear_dx_bf16(dy: Array, w: Array) -> tuple[Array]:
    """Return ``round_bf16(dy) @ round_bf16(w).T``."""
    return linear.linear_dx(round_bf16(dy), round_bf16(w))


def linear_dw_bf16(x: Array, dy: Array) -> tuple[Array]:
    """Return ``round_bf16(x).T @ round_bf16(dy)``."""
    return linear.linear_dw(round_bf16(x), round_bf16(dy))


def _flushed(r: Rounding, terms: int, bound: Array) -> tuple[Array]:
    """Add what sums lose that fall below the smallest normal number: float32 may run on an instruction that flushes."""
    return (bound + 2 * (terms + 1) * LEAST if r.dtype == np.float32 else bound,)


def _forward_bound(r: Rounding, x: Array, w: Array, b: Array | None = None) -> tuple[Array]:
    (bound,) = linear.forward_bound(r, round_bf16(x), round_bf16(w), b)
    return _flushed(r, x.shape[1], bound)


def _dx_bound(r: Rounding, dy: Array, w: Array) -> tuple[Array]:
    (bound,) = linear.dx_bound(r, round_bf16(dy), round_bf16(w))
    return _flushed(r, w.shape[1], bound)


def _dw_bound(r: Rounding, x: Array, dy: Array) -> tuple[Array]:
    (bound,) = linear.dw_bound(r, round_bf16(x), round_bf16(dy))
    return _flushed(r, len(x), bound)


def _plain(op: str) -> str:
    return op.removesuffix("_bf16")


def _case(op: str, rng: Rng, dtype: DTypeLike, n: int, i: int, o: int) -> Sample:
    return linear.case(_plain(op), rng, dtype, n, i, o)


def _special(op: str, rng: Rng, dtype: DTypeLike) -> list[Sample]:
    """Add to the samples of the plain op numbers that rounding treats by rule."""
    samples = linear.special(_plain(op), rng, dtype)
    ties = dict(_case(op, rng, dtype, n=9, i=11, o=19).inputs)
    for array in ties.values():
        assert array is not None
        array.flat[:4] = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8) * 2.0**-60, (2 - 2.0**-9) * 2.0**40]
    samples.append(Sample("ties", ties))
    limits = dict(_case(op, rng, dtype, n=9, i=11, o=19).inputs)
    first = next(iter(limits.values()))
    assert first is not None
    first.flat[:6] = [
        (2 - 2.0**-8) * 2.0**127,
        LEAST,
        -LEAST * (1 - 2.0**-20),
        LEAST / 2,
        (2 - 2.0**-8) * 2.0**99,
        -0.0,
    ]
    samples.append(Sample("limits", limits))
    return samples


def _errors(op: str, rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
    plain = _plain(op)
    return [
        ErrorCase(e.sample, e.exception, e.match.replace(f"{plain}:", f"{op}:"))
        for e in linear.errors(plain, rng, dtype)
    ]


def _cost(itemsize: int, n: int, i: int, o: int) -> Cost:
    return Cost(2.0 * n * i * o, itemsize * (n * i + i * o + n * o))


for _name, _reference, _bound in (
    ("linear_forward_bf16", linear_forward_bf16, _forward_bound),
    ("linear_dx_bf16", linear_dx_bf16, _dx_bound),
    ("linear_dw_bf16", linear_dw_bf16, _dw_bound),
):
    register(
        OpSpec(
            name=_name,
            reference=_reference,
            bound=_bound,
            case=partial(_case, _name),
            shapes=(*linear.SHAPES, {"n": 2, "i": 2111, "o": 3}, {"n": 13, "i": 35, "o": 331}),
            bench=({"n": 128, "i": 784, "o": 256}, {"n": 256, "i": 1024, "o": 1024}),
            special=partial(_special, _name),
            errors=partial(_errors, _name),
            cost=_cost,
            source=SOURCE,
        )
    )
