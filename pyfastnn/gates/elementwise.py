"""Gates that work number by number, on scalars or on arrays that NumPy can broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyfastnn.gates.gate import Array, Gate, emit_op
from pyfastnn.nn.layer import number

if TYPE_CHECKING:
    from pyfastnn.graph import Builder

One = tuple[Array]
Two = tuple[Array, Array]


class Add(Gate):
    """``y = a + b``; hands the gradient to both: the lectures' gradient distributor."""

    symbol, arity, op = "+", 2, "add"

    def forward(self, a: Array, b: Array) -> Array:
        """Return ``a + b``."""
        return a + b

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> Two:
        """Return ``dy`` twice."""
        return dy, dy


class Subtract(Gate):
    """``y = a - b``."""

    symbol, arity = "-", 2

    def forward(self, a: Array, b: Array) -> Array:
        """Return ``a - b``."""
        return a - b

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> Two:
        """Return ``dy`` and ``-dy``."""
        return dy, -dy

    def emit(self, builder: Builder, name: str, *inputs: str) -> str:
        """Add ``-b`` to ``a``."""
        negative = emit_op(builder, "scale", inputs[1:], f"{name}.negative", {"factor": -1.0})
        return emit_op(builder, "add", (inputs[0], negative), name)


class Multiply(Gate):
    """``y = a * b``; each gets the gradient times the other: the lectures' gradient switcher."""

    symbol, arity, op = "*", 2, "multiply"

    def forward(self, a: Array, b: Array) -> Array:
        """Return ``a * b``."""
        return a * b

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> Two:
        """Return ``dy * b`` and ``dy * a``."""
        return dy * b, dy * a


class Divide(Gate):
    """``y = a / b``."""

    symbol, arity = "/", 2

    def forward(self, a: Array, b: Array) -> Array:
        """Return ``a / b``."""
        return a / b

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> Two:
        """Return ``dy / b`` and ``-dy * y / b``."""
        return dy / b, -dy * y / b


class Max(Gate):
    """``y = max(a, b)``; the larger one gets the gradient (the first if they are equal, NaN if one is): the gradient router."""

    symbol, arity = "max", 2

    def forward(self, a: Array, b: Array) -> Array:
        """Return the larger one; NaN if either is."""
        return np.maximum(a, b)

    def backward(self, dy: Array, y: Array, a: Array, b: Array) -> Two:
        """Return ``dy`` for the larger one and 0 for the other."""
        first = (a >= b) | np.isnan(a)
        return np.where(first, dy, 0.0), np.where(first, 0.0, dy)


class Exp(Gate):
    """``y = exp(x)``."""

    symbol, op = "exp", "exp_forward"

    def forward(self, x: Array) -> Array:
        """Return ``exp(x)``."""
        return np.exp(x)

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy * y``."""
        return (dy * y,)


class Log(Gate):
    """``y = log(x)``, the natural logarithm; NaN for negative numbers."""

    symbol = "log"

    def forward(self, x: Array) -> Array:
        """Return ``log(x)``."""
        return np.log(x)

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy / x``."""
        return (dy / x,)


class Inverse(Gate):
    """``y = 1 / x``."""

    symbol = "1/x"

    def forward(self, x: Array) -> Array:
        """Return ``1 / x``."""
        return 1.0 / x

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``-dy / x**2``, from the output."""
        return (-dy * y * y,)


class Negate(Gate):
    """``y = -x``."""

    symbol = "*-1"

    def forward(self, x: Array) -> Array:
        """Return ``-x``."""
        return -x

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``-dy``."""
        return (-dy,)

    def emit(self, builder: Builder, name: str, *inputs: str) -> str:
        """Scale by -1."""
        return emit_op(builder, "scale", inputs, name, {"factor": -1.0})


class AddConstant(Gate):
    """``y = x + c``.

    Parameters
    ----------
    c : float
        Any finite number.
    """

    def __init__(self, c: float) -> None:
        self.c = number("AddConstant", "c", c, float("-inf"), float("inf"), open_low=True)

    @property
    def label(self) -> str:
        """Return ``+c``."""
        return f"{self.c:+g}"

    def forward(self, x: Array) -> Array:
        """Return ``x + c``."""
        return x + self.c

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy``."""
        return (dy,)


class MultiplyConstant(Gate):
    """``y = c * x``.

    Parameters
    ----------
    c : float
        Any finite number.
    """

    def __init__(self, c: float) -> None:
        self.c = number("MultiplyConstant", "c", c, float("-inf"), float("inf"), open_low=True)

    @property
    def label(self) -> str:
        """Return ``*c``."""
        return f"*{self.c:g}"

    def forward(self, x: Array) -> Array:
        """Return ``c * x``."""
        return self.c * x

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``c * dy``."""
        return (self.c * dy,)

    def emit(self, builder: Builder, name: str, *inputs: str) -> str:
        """Scale by ``c``."""
        return emit_op(builder, "scale", inputs, name, {"factor": self.c})


class Square(Gate):
    """``y = x**2``."""

    symbol = "x^2"

    def forward(self, x: Array) -> Array:
        """Return ``x**2``."""
        return x * x

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``2 * x * dy``."""
        return (2.0 * x * dy,)

    def emit(self, builder: Builder, name: str, *inputs: str) -> str:
        """Multiply ``x`` by itself."""
        return emit_op(builder, "multiply", (*inputs, *inputs), name)


class Sigmoid(Gate):
    """``y = 1 / (1 + exp(-x))``; its gradient is ``y * (1 - y)``."""

    op = "sigmoid_forward"

    def forward(self, x: Array) -> Array:
        """Return the sigmoid, as ``exp(-log(1 + exp(-x)))`` which does not overflow."""
        rate: Array = np.exp(-np.logaddexp(0.0, -x))
        return rate

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy * y * (1 - y)``."""
        return (dy * y * (1.0 - y),)


class Tanh(Gate):
    """``y = tanh(x)``."""

    op = "tanh_forward"

    def forward(self, x: Array) -> Array:
        """Return ``tanh(x)``."""
        return np.tanh(x)

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy * (1 - y**2)``."""
        return (dy * (1.0 - y) * (1.0 + y),)


class ReLU(Gate):
    """``y = max(x, 0)``; the gradient at 0 is 0, NaN stays NaN."""

    op = "relu_forward"

    def forward(self, x: Array) -> Array:
        """Return ``max(x, 0)``."""
        return np.maximum(x, 0.0)

    def backward(self, dy: Array, y: Array, x: Array) -> One:
        """Return ``dy`` where ``x`` is positive, else 0."""
        return (np.where(y <= 0.0, 0.0, dy),)
