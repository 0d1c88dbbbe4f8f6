"""Fit the polynomials and tables of gelu and softplus in csrc/kernels: vec_gelu.hpp, vec_gelu_avx512.hpp, vec_math.hpp.

Run ``python tools/fit_gelu.py`` (needs mpmath and numpy); it prints each set of coefficients with the worst error of the fit, rounding
during evaluation not counted.

A table has 32 intervals around ``k * step``; in each a weighted least squares fit (Lawson's iteration), whose coefficients are rounded
one at a time from the lowest up and the rest fitted again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from fit_vec_math import interpolate, polynomial

Real = Any
TWO_Z, CUBIC = 2 * mpmath.sqrt(2 / mpmath.pi), mpmath.mpf("0.044715")
SHIFT, CENTRE = 4, mpmath.mpf("0.625")


def mills(t: Real) -> Real:
    """Return Phi(-t) * exp(t^2 / 2)."""
    return mpmath.erfc(t / mpmath.sqrt(2)) * mpmath.exp(t * t / 2) / 2


def gelu_tail(t: Real) -> Real:
    """Return Phi(-t)."""
    return mpmath.erfc(t / mpmath.sqrt(2)) / 2


def gelu_slope(t: Real) -> Real:
    """Return Phi(-t) - t * phi(t)."""
    return gelu_tail(t) - t * mpmath.exp(-t * t / 2) / mpmath.sqrt(2 * mpmath.pi)


def tanh_tail(t: Real) -> Real:
    """Return 1 / (1 + exp(2 z))."""
    return 1 / (1 + mpmath.exp(TWO_Z * (t + CUBIC * t**3)))


def tanh_slope(t: Real) -> Real:
    """Return the derivative of t * tail(t)."""
    tail = tanh_tail(t)
    return tail - t * TWO_Z * (1 + 3 * CUBIC * t * t) * tail * (1 - tail)


def log1p_quotient(e: Real) -> Real:
    """Return log(1 + e) / e."""
    return mpmath.log1p(e) / e if abs(e) > mpmath.mpf("1e-20") else 1 - e / 2


def fit_mills() -> None:
    """R(t) = s * Q(s - 0.625), s = 4 / (t + 4)."""

    def quotient(d: Real) -> Real:
        s = d + CENTRE
        return mills(SHIFT / s - SHIFT) / s

    for kind, bits, degree, reach in ((np.float32, 24, 9, "14.5"), (np.float64, 53, 23, "38.75")):
        low, high = SHIFT / (mpmath.mpf(reach) + SHIFT) - CENTRE, 1 - CENTRE
        if kind is np.float32:  # interpolation rounds all coefficients at once, which costs more than the fit
            d = float(low + high) / 2 + float(high - low) / 2 * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
            y = np.array([float(quotient(mpmath.mpf(v))) for v in d])
            c = [float(v) for v in fit_rounded(d, y, 1 / y, degree)]
        else:
            c = interpolate(quotient, low, high, degree, kind)
        points = [low + (high - low) * i / mpmath.mpf(2000) for i in range(2001)]
        worst = max(abs(polynomial(c, d) / quotient(d) - 1) for d in points) * 2**bits
        print(
            f"mills {kind.__name__}: worst {float(worst):.3g} * 2^-{bits}\n  "
            + ", ".join(f"{v:.17g}" for v in reversed(c))
        )


def fit_log1p() -> None:
    """log1p(e) = 2 s + s^3 * L(s^2), s = e / (2 + e), for e in [0, 1]."""

    def rest(z: Real) -> Real:
        if z < mpmath.mpf("1e-20"):
            return mpmath.mpf(2) / 3 + mpmath.mpf(2) / 5 * z
        s = mpmath.sqrt(z)
        return (mpmath.log((1 + s) / (1 - s)) / s - 2) / z

    top = mpmath.mpf(1) / 9
    for kind, bits, degree in ((np.float32, 24, 4), (np.float64, 53, 10)):
        c = interpolate(rest, mpmath.mpf(0), top, degree, kind)
        points = [top * i / mpmath.mpf(2000) for i in range(1, 2001)]
        worst = max(abs(z * (polynomial(c, z) - rest(z)) / (2 + z * rest(z))) for z in points) * 2**bits
        print(
            f"log1p {kind.__name__}: worst {float(worst):.3g} * 2^-{bits}\n  "
            + ", ".join(f"{v:.17g}" for v in reversed(c))
        )


def fit_rounded(d: Any, y: Any, weight: Any, degree: int) -> list[np.float32]:
    """Return float32 coefficients, lowest first, of the polynomial in ``d`` of the least largest weighted error."""
    size = np.abs(d).max()
    fixed: list[np.float32] = []
    while len(fixed) <= degree:
        left = y - sum(float(c) * d**j for j, c in enumerate(fixed))
        matrix = np.stack([(d / size) ** j for j in range(len(fixed), degree + 1)], 1)
        lawson = np.ones_like(y)
        for _ in range(20):
            root = np.sqrt(lawson) * weight
            solution = np.linalg.lstsq(matrix * root[:, None], left * root, rcond=None)[0]
            error = np.abs(matrix @ solution - left) * weight
            lawson *= error / error.max() + 1e-3
            lawson /= lawson.max()
        fixed.append(np.float32(solution[0] / size ** len(fixed)))
    return fixed


def fit_steps(f: Callable[[Real], Real], step: float, degree: int, relative: bool, in_steps: bool = False) -> Any:
    """Return coefficients (degree + 1, 32), lowest first, of polynomials in ``t - k * step`` (or in steps), and the worst error.

    The first interval begins at 0. The error is relative to ``f`` or to 1.
    """
    table, worst = np.zeros((degree + 1, 32), np.float32), 0.0
    angles = np.cos(np.pi * (np.arange(80) + 0.5) / 80)
    unit = step if in_steps else 1.0
    for k in range(32):
        low, high = (max(k - 0.5, 0.0) * step, (k + 0.5) * step)
        t = (low + high) / 2 + (high - low) / 2 * angles
        y = np.array([float(f(mpmath.mpf(v))) for v in t])
        d = (t - k * step) / unit
        weight = 1 / np.abs(y) if relative else np.ones_like(y)
        table[:, k] = fit_rounded(d, y, weight, degree)
        error = (sum(float(table[j, k]) * d**j for j in range(degree + 1)) - y) * weight
        worst = max(worst, float(np.abs(error).max()))
    return table, worst


def print_table(name: str, table: Any, worst: float) -> None:
    """Print a table of 32 intervals as the C++ text has it."""
    print(f"// worst error of the fit {worst:.3g} (relative for tails and the quotient)")
    print(f"alignas(64) static constexpr float {name}[{len(table)}][32] = {{")
    for row in table:
        print(
            "    {"
            + ", ".join(f"{v:.9g}f" if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.9g}.0f" for v in row)
            + "},"
        )
    print("};")


def main() -> None:
    """Print everything."""
    fit_mills()
    fit_log1p()
    for name, f, relative in (
        ("kGeluTail", gelu_tail, True),
        ("kGeluSlope", gelu_slope, False),
        ("kGeluTanhTail", tanh_tail, True),
        ("kGeluTanhSlope", tanh_slope, False),
    ):
        table, worst = fit_steps(f, 0.25, 5, relative)
        table[:, 31] = 0  # from 7.625 on the tail is under 2e-14
        print_table(name, table, worst)
    print_table("kLog1pQuotient", *fit_steps(log1p_quotient, 1 / 31, 3, True, in_steps=True))


if __name__ == "__main__":
    main()
