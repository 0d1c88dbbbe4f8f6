"""Gradients held against central differences in float64.

The analytic gradients of a model come from its training step, run natively in float64; the differences come from the NumPy reference, which
shares nothing with the kernels and runs the forward nodes alone. So a term that is missing in a gradient shows.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfastnn._names import helpful_keywords
from pyfastnn.diagnose.differences import ParameterCheck, check_array
from pyfastnn.diagnose.problems import of_function, of_model
from pyfastnn.nn.layer import number
from pyfastnn.nn.model import Model

if TYPE_CHECKING:
    from pyfastnn.nn.losses import Loss


@dataclass(frozen=True)
class GradientCheck:
    """The report of `gradient_check`; it prints as a table with a verdict, and is true when the check passed.

    Attributes
    ----------
    parameters : tuple of ParameterCheck
        One per array.
    tolerance : float
        Largest relative error allowed.
    loss : float
        Value that was differentiated.
    """

    parameters: tuple[ParameterCheck, ...]
    tolerance: float
    loss: float

    @property
    def passed(self) -> bool:
        """Whether no element of any array disagrees."""
        return all(p.passed for p in self.parameters)

    @property
    def worst(self) -> ParameterCheck:
        """The array with the largest error, a failed one if there is one."""
        return max(self.parameters, key=lambda p: (not p.passed, p.error))

    @property
    def verdict(self) -> str:
        """The result in one line."""
        worst = self.worst
        if not self.passed:
            at = ", ".join(map(str, worst.index))
            total = sum(p.failed for p in self.parameters)
            return (
                f"FAILED: {total} elements disagree, the worst is {worst.name}[{at}]: analytic {worst.analytic:.6g}, "
                f"numeric {worst.numeric:.6g}, relative error {worst.error:.1e} (allowed {self.tolerance:.0e})"
            )
        kinks = sum(p.kinks for p in self.parameters)
        small = sum(p.unresolved for p in self.parameters)
        more = f"; {kinks} at kinks" * bool(kinks) + f"; {small} too small to judge" * bool(small)
        checked = sum(p.checked for p in self.parameters)
        return (
            f"passed: {checked} elements, largest relative error {worst.error:.1e} (allowed {self.tolerance:.0e}){more}"
        )

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        """Return the table and the verdict."""
        rows = [("parameter", "shape", "checked", "error", "kinks", "too small", "")]
        for p in self.parameters:
            counts = (f"{p.error:.1e}", str(p.kinks), str(p.unresolved))
            rows.append((p.name, str(p.shape), str(p.checked), *counts, "ok" if p.passed else f"{p.failed} FAILED"))
        widths = [max(len(row[k]) for row in rows) for k in range(7)]
        lines = [
            "  ".join(
                c.ljust(w) if k in (0, 1, 6) else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), self.verdict])


@helpful_keywords
def gradient_check(
    model_or_function: Model | Callable[[Any], tuple[Any, Any]],
    X: Any,
    y: Any = None,
    *,
    loss: str | Loss | Mapping[str, str | Loss] = "softmax_cross_entropy",
    samples: int | None = 20,
    eps: float = 1e-5,
    tolerance: float = 1e-5,
    seed: int = 0,
) -> GradientCheck:
    """Hold gradients against central differences of the loss, in float64.

    Parameters
    ----------
    model_or_function : Model or callable
        A model, which is not changed: what is not built or fitted yet is, in a copy. Or ``f(x) -> (value, gradient)`` with a scalar value
        and a gradient of the shape of ``x``, or for a mapping of arrays a mapping of gradients.
    X : array_like, shape (n, ...), or dict of str to array_like
        A few raw rows for a model, a dict by input if there are several. For a function the point ``x`` (float64): an array, a number or a
        mapping of arrays.
    y : array_like or dict of str to array_like, optional
        Labels or targets of the rows, a dict by output if there are several; None for a function.
    loss : str, Loss or dict, default "softmax_cross_entropy"
        Loss of the model, without weight decay; a dict by output if there are several. Frozen layers are not checked.
    samples : int or None, default 20
        Elements checked of each array, drawn at random; None for all. Each takes two passes over the rows, or up to eight where a first
        difference disagrees.
    eps : float, default 1e-5
        Step relative to ``max(1, abs(x))``, above 0.
    tolerance : float, default 1e-5
        Largest relative error allowed, above 0. Right gradients mostly have less than 1e-7, wrong ones more than 1e-2.
    seed : int, default 0
        Fixes the elements, the masks of dropout, and the weights of a model that is not built.

    Returns
    -------
    GradientCheck
        Prints as a table with a verdict.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or the value is not finite.
    RuntimeError
        If the model has no parameter that is not frozen.

    Notes
    -----
    ``numeric = (f(x + h) - f(x - h)) / (2 h)`` and ``error = abs(a - n) / max(abs(a), abs(n))``, as in the CS231n notes on gradient
    checks. The kernels are checked in float64; `Trainer.compare` judges those of float32.

    Examples
    --------
    >>> import numpy as np
    >>> import pyfastnn as fnn
    >>> print(fnn.diagnose.gradient_check(lambda x: (np.sum(x**3), 3 * x**2), np.array([1.0, -2.0])))  # doctest: +ELLIPSIS
    parameter  shape  checked    error  kinks  too small
    x          (2,)         2  ...      0          0  ok
    passed: 2 elements, largest relative error ... (allowed 1e-05)
    >>> print(fnn.diagnose.gradient_check(lambda x: (np.sum(x**3), 2 * x**2), np.array([1.0])).verdict)
    FAILED: 1 elements disagree, the worst is x[0]: analytic 2, numeric 3, relative error 3.3e-01 (allowed 1e-05)
    """
    for name, value in (("eps", eps), ("tolerance", tolerance)):
        if number("gradient_check", name, value, 0.0, 1.0) == 0.0:
            raise ValueError(f"gradient_check: {name!r} is 0, expected more")
    if samples is not None and operator.index(samples) < 1:
        raise ValueError(f"gradient_check: 'samples' is {samples}, expected 1 or more, or None for all")
    if isinstance(model_or_function, Model):
        if y is None:
            raise ValueError("gradient_check: 'X' was given without 'y'")
        problem = of_model(model_or_function, X, y, loss, operator.index(seed))
    elif callable(model_or_function):
        if y is not None:
            raise TypeError("gradient_check: 'y' was given with a function of one argument")
        problem = of_function(model_or_function, X)
    else:
        raise TypeError(f"gradient_check: {model_or_function!r} is neither a model nor a function")
    if not math.isfinite(problem.value):
        raise ValueError(f"gradient_check: the value is {problem.value}, expected a finite one")
    checks = []
    for place, (name, array) in enumerate(problem.arrays.items()):
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([operator.index(seed), place])))
        count = array.size if samples is None else min(array.size, operator.index(samples))
        chosen = np.sort(rng.choice(array.size, count, replace=False)) if count else np.zeros(0, np.int64)
        checks.append(check_array(problem, name, chosen, eps, tolerance))
    return GradientCheck(tuple(checks), float(tolerance), problem.value)
