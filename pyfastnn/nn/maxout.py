"""Maxout: linear maps of which each unit gives the largest."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.initializers import Initializer
from pyfastnn.nn.layer import Layer, Parameter, Shape, one_size


class Maxout(Layer):
    """Apply ``y_j = max over p of (x @ w + b)[j * pieces + p]``, a learned convex activation. Goodfellow et al. (2013).

    Parameters
    ----------
    out_features : int
        Units: columns of the output, 1 or more.
    pieces : int, default 2
        Linear maps of each unit, 1 or more.
    in_features : int, optional
        Columns of the input; inferred from the data. When given it is checked.
    bias : bool, default True
        Whether ``b`` is added.
    init : str or Initializer, default "he_normal"
        First values of ``w``, as for `Linear`. ``b`` starts at 0.

    Raises
    ------
    TypeError
        If a second positional size is given.
    ValueError
        If a size is under 1 or a name unknown.

    Notes
    -----
    Parameters: ``w`` of shape (in_features, out_features * pieces), the columns of a unit side by side, and ``b`` of shape
    (out_features * pieces,). Weight decay applies to ``w``. One product makes all pieces. The gradient of a unit goes to its first largest
    piece.
    """

    kind = "maxout"

    def __init__(
        self,
        *size: int,
        out_features: int | None = None,
        pieces: int = 2,
        in_features: int | None = None,
        bias: bool = True,
        init: str | Initializer = "he_normal",
    ) -> None:
        sizes = size if out_features is None else (*size, out_features)
        self.out_features = one_size("Maxout", "Maxout(out_features)", sizes)
        if isinstance(pieces, bool) or not hasattr(pieces, "__index__"):
            raise TypeError(f"Maxout: 'pieces' is {pieces!r}, expected a whole number")
        if pieces.__index__() < 1:
            raise ValueError(f"Maxout: 'pieces' is {pieces}, expected 1 or more")
        self.pieces = int(pieces.__index__())
        self.in_features = None if in_features is None else one_size("Maxout", "Maxout(...)", (in_features,))
        self.bias = bool(bias)
        self.init = initializers.from_config(init)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(out_features,)``."""
        if len(input_shape) != 1:
            raise ValueError(
                f"Maxout: one row of the input has shape {input_shape}, expected one dimension; put nn.Flatten() before it"
            )
        if self.in_features is not None and input_shape[0] != self.in_features:
            raise ValueError(f"Maxout: the input has {input_shape[0]} features, in_features is {self.in_features}")
        return (self.out_features,)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``w`` and ``b``."""
        columns = self.out_features * self.pieces
        found = [Parameter("w", (input_shape[0], columns), self.init, decay=True)]
        if self.bias:
            found.append(Parameter("b", (columns,), "zeros"))
        return found

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one product and one maximum."""
        bias = f"{name}.b" if self.bias else None
        z = builder.emit("linear_forward", (x, f"{name}.w", bias), name=name)[0]
        rows = builder.graph.values[z].shape[0]
        z = builder.view(z, (rows, self.out_features, self.pieces))
        return builder.emit("maxout_forward", (z,), name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {
            "out_features": self.out_features,
            "pieces": self.pieces,
            "in_features": self.in_features,
            "bias": self.bias,
            "init": initializers.to_config(self.init),
        }
