"""Linear, and Flatten which turns images into rows for it."""

from __future__ import annotations

import math
from typing import Any

from pyfastnn.graph import BATCH, Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.initializers import Initializer
from pyfastnn.nn.layer import Layer, Parameter, Shape, one_size


class Linear(Layer):
    """Apply ``y = x @ w + b`` to every row.

    Parameters
    ----------
    out_features : int
        Columns of the output, 1 or more.
    in_features : int, optional
        Columns of the input; inferred from the data. When given it is checked.
    bias : bool, default True
        Whether ``b`` is added.
    init : str or Initializer, default "he_normal"
        First values of ``w``: He (variance ``2 / in_features``), made for ReLU layers; another name such as ``"xavier_uniform"``, or an
        object of `pyfastnn.nn.initializers` such as ``Normal(std)``. ``b`` starts at 0.

    Raises
    ------
    TypeError
        If a second positional size is given.
    ValueError
        If a size is under 1 or a name unknown.

    Notes
    -----
    Parameters: ``w`` of shape (in_features, out_features), ``b`` of shape (out_features,). Weight decay applies to ``w``.
    """

    kind = "linear"

    def __init__(
        self,
        *size: int,
        out_features: int | None = None,
        in_features: int | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
    ) -> None:
        sizes = size if out_features is None else (*size, out_features)
        self.out_features = one_size("Linear", "Linear(out_features)", sizes)
        self.in_features = None if in_features is None else one_size("Linear", "Linear(...)", (in_features,))
        self.bias = bool(bias)
        self.init = initializers.from_config(init)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(out_features,)``."""
        if len(input_shape) != 1:
            raise ValueError(
                f"Linear: one row of the input has shape {input_shape}, expected one dimension; put nn.Flatten() before it"
            )
        if self.in_features is not None and input_shape[0] != self.in_features:
            raise ValueError(f"Linear: the input has {input_shape[0]} features, in_features is {self.in_features}")
        return (self.out_features,)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``w`` and ``b``."""
        found = [Parameter("w", (input_shape[0], self.out_features), self.init, decay=True)]
        if self.bias:
            found.append(Parameter("b", (self.out_features,), "zeros"))
        return found

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one product."""
        bias = f"{name}.b" if self.bias else None
        return builder.emit("linear_forward", (x, f"{name}.w", bias), name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "out_features": self.out_features,
            "in_features": self.in_features,
            "bias": self.bias,
            "init": initializers.to_config(self.init),
        }


class Flatten(Layer):
    """Read every row, an image say, as one line of numbers; no work is done."""

    kind = "flatten"
    reads = ("float", "int64")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(product of the dimensions,)``."""
        return (math.prod(input_shape),)

    def _gives(self, *dtypes: str) -> str:
        return dtypes[0]

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Return ``x`` with another shape."""
        shape = builder.graph.values[x].shape
        return builder.view(x, (BATCH, math.prod(d for d in shape if isinstance(d, int))), f"{name}.y")
