"""Fit the polynomials and tables of csrc/kernels/vec_math.hpp and vec_tables_avx512.hpp.

Run ``python tools/fit_vec_math.py`` (needs mpmath and numpy); it prints each set of coefficients with the worst error of the fit in
units of the last place, rounding during evaluation not counted.

Polynomials interpolate at Chebyshev points. The tables of tanh have 32 intervals, eight to an octave of ``u = scale * t + 0.5``; their
centres are floats whose tanh is nearly a float (Gal and Bachelis, ACM TOMS 17 (1991) 26) and their coefficients weighted least
squares fits (Lawson's iteration), rounded one at a time from the lowest up and the rest fitted again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

mpmath.mp.dps = 50
Real = Any


def interpolate(
    f: Callable[[Real], Real], low: Real, high: Real, degree: int, kind: type[np.floating[Any]]
) -> list[float]:
    """Return coefficients of the interpolating polynomial, lowest first, rounded to ``kind``."""
    count = degree + 1
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)
    ]
    matrix = mpmath.matrix(count, count)
    for i, x in enumerate(nodes):
        for j in range(count):
            matrix[i, j] = x**j
    found = mpmath.lu_solve(matrix, mpmath.matrix([f(x) for x in nodes]))
    return [float(kind(float(c))) for c in found]


def polynomial(coefficients: list[float], x: Real) -> Real:
    """Evaluate exactly."""
    total = mpmath.mpf(0)
    for c in reversed(coefficients):
        total = total * x + mpmath.mpf(c)
    return total


def report(
    name: str, coefficients: list[float], error: Callable[[Real], Real], low: Real, high: Real, bits: int
) -> None:
    """Print coefficients and the worst relative error on 2000 points."""
    points = [low + (high - low) * (i + mpmath.mpf(1) / 2) / 2000 for i in range(2000)]
    worst = max(abs(error(x)) for x in points) * 2**bits
    print(f"{name}: worst {float(worst):.3g} ULP\n  " + ", ".join(f"{c:.17g}" for c in coefficients))


def fit_polynomials() -> None:
    """Exp and expm1 by (exp(r) - 1 - r) / r^2; log by its odd series in s, z = s^2; tanh near 0 in z = t^2."""

    def exp_rest(r: Real) -> Real:
        return mpmath.mpf(1) / 2 + r / 6 if abs(r) < mpmath.mpf("1e-12") else (mpmath.exp(r) - 1 - r) / r**2

    def log_rest(z: Real) -> Real:
        if abs(z) < mpmath.mpf("1e-20"):
            return mpmath.mpf(2) / 3 + mpmath.mpf(2) / 5 * z
        s = mpmath.sqrt(z)
        return (mpmath.log((1 + s) / (1 - s)) / s - 2) / z

    def tanh_rest(z: Real) -> Real:
        if abs(z) < mpmath.mpf("1e-20"):
            return -mpmath.mpf(1) / 3 + 2 * z / 15
        return (mpmath.tanh(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1) / z

    half = mpmath.log(2) / 2 * mpmath.mpf("1.01")
    for kind, bits, degree in ((np.float32, 24, 4), (np.float64, 53, 10)):
        c = interpolate(exp_rest, -half, half, degree, kind)
        report(
            f"exp {kind.__name__}",
            c,
            lambda r, c=c: (1 + r + r * r * polynomial(c, r)) / mpmath.exp(r) - 1,
            -half,
            half,
            bits,
        )
    top = mpmath.mpf("0.0296")
    for kind, bits, degree in ((np.float32, 24, 3), (np.float64, 53, 6)):
        c = interpolate(log_rest, mpmath.mpf(0), top, degree, kind)

        def log_error(z: Real, c: list[float] = c) -> Real:
            s = mpmath.sqrt(z)
            return (2 + z * polynomial(c, z)) * s / mpmath.log((1 + s) / (1 - s)) - 1

        report(f"log {kind.__name__}", c, log_error, mpmath.mpf(0), top, bits)
    top = mpmath.mpf("0.4")
    c = interpolate(tanh_rest, mpmath.mpf(0), top, 4, np.float32)
    report(
        "tanh near 0",
        c,
        lambda z: (1 + z * polynomial(c, z)) * mpmath.sqrt(z) / mpmath.tanh(mpmath.sqrt(z)) - 1,
        0,
        top,
        24,
    )


def accurate_centre(f: Callable[[Real], Real], middle: float, span: float) -> np.float32:
    """Return the float above ``middle`` whose function value lies nearest to a float."""
    best, found = np.inf, np.float32(middle)
    x = np.float32(middle)
    for _ in range(3000):
        x = np.nextafter(x, np.float32(np.inf))
        if float(x) - middle > span:
            break
        value = f(mpmath.mpf(float(x)))
        error = abs(float((value - mpmath.mpf(float(np.float32(float(value))))) / value))
        if error < best:
            best, found = error, x
    return found


def fit_intervals(f: Callable[[Real], Real], scale: float, highest: float, degree: int) -> tuple[Any, Any, float]:
    """Return centres, coefficients (degree + 1, 32) and the worst error in ULP of an odd function with slope 1 at 0."""
    edges = [0.5 * 2**octave * (1 + k / 8) for octave in range(4) for k in range(8)] + [8.0]
    centres, table, worst = np.zeros(32, np.float32), np.zeros((degree + 1, 32), np.float32), 0.0
    angles = np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    for k in range(32):
        low, high = (edges[k] - 0.5) / scale, min((edges[k + 1] - 0.5) / scale, highest)
        centre = np.float32(0) if k == 0 else accurate_centre(f, (low + high) / 2, (high - low) / 16)
        t = (low + high) / 2 + (high - low) / 2 * angles * 1.0005
        t = np.abs(t) + 1e-9 if k == 0 else t
        y = np.array([float(f(mpmath.mpf(v))) for v in t])
        d, weight = t - float(centre), 1 / np.abs(y)
        first = {0: np.float32(float(f(mpmath.mpf(float(centre)))))}
        fixed = {0: np.float32(0), 1: np.float32(1)} if k == 0 else first
        for i in range(degree + 1):
            if i in fixed:
                continue
            free = [j for j in range(degree + 1) if j not in fixed]
            rest = y - sum(float(c) * d**j for j, c in fixed.items())
            sizes = np.array([(high - low) ** j for j in free])
            matrix = np.stack([d**j / s for j, s in zip(free, sizes, strict=True)], 1)
            lawson = weight.copy()
            for _ in range(30):
                root = np.sqrt(lawson * weight)
                solution = np.linalg.lstsq(matrix * root[:, None], rest * root, rcond=None)[0]
                error = np.abs(matrix @ solution - rest) * weight
                lawson *= error / error.max() + 1e-3
                lawson /= lawson.max()
            fixed[free[0]] = np.float32((solution / sizes)[0])
        table[:, k] = [fixed[j] for j in range(degree + 1)]
        centres[k] = centre
        error = (sum(float(table[j, k]) * d**j for j in range(degree + 1)) - y) * weight * 2**24
        worst = max(worst, float(np.abs(error).max()))
    return centres, table, worst


def print_table(name: str, values: Any) -> None:
    """Print 32 entries in the order of the low five bits of ``bits(u) >> 20``, where u = 0.5 is entry 16."""
    print(f"{name}: " + ", ".join(f"{v:.9g}" for v in np.roll(values, 16)))


def print_sigmoid_table() -> None:
    """Print the float c in [0.93, 0.975) whose products with 2^(k/16) are nearest to floats, and these products."""
    first, last = (int(np.float32(v).view(np.uint32)) for v in (0.93, 0.975))
    factors = np.arange(first, last, dtype=np.uint32).view(np.float32).astype(np.longdouble)
    powers = np.longdouble(2) ** (np.arange(16, dtype=np.longdouble) / 16)
    worst = np.zeros(len(factors), np.longdouble)
    for power in powers:
        exact = factors * power
        worst = np.maximum(worst, np.abs(exact.astype(np.float32) / exact - 1))
    best = int(worst.argmin())
    table = (factors[best] * powers).astype(np.float32)
    print(f"kSigmoidTable, within {float(worst[best]) * 2**24:.2g} * 2^-24: " + ", ".join(f"{v:.9g}" for v in table))


def main() -> None:
    """Print everything."""
    fit_polynomials()
    centres, table, worst = fit_intervals(mpmath.tanh, 0.8286, 9.04, 4)
    print(f"tanh by 32 intervals: worst {worst:.3g} ULP")
    print_table("kTanhCentre", centres)
    for j, row in enumerate(table):
        print_table(f"kTanh{j}", row)
    powers = [mpmath.mpf(2) ** (mpmath.mpf(k) / 16) for k in range(16)]
    high = [np.float32(float(p)) for p in powers]
    print("kExpTable: " + ", ".join(f"{v:.9g}" for v in high))
    low = [float(p - mpmath.mpf(float(v))) for p, v in zip(powers, high, strict=True)]
    print("kExpTableLow: " + ", ".join(f"{v:.9g}" for v in low))
    print_sigmoid_table()


if __name__ == "__main__":
    main()
