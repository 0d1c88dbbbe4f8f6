"""Embedding: a learned vector for each word of a vocabulary."""

from __future__ import annotations

from typing import Any

from pyfastnn.graph import Builder
from pyfastnn.nn import initializers
from pyfastnn.nn.initializers import Normal
from pyfastnn.nn.layer import Layer, Parameter, Shape, whole

_STANDARD = Normal(1.0)


class Embedding(Layer):
    """Replace each whole number of a row by a learned vector. Bengio et al. (2003), equation 1.

    Parameters
    ----------
    vocabulary : int
        Words: the input holds numbers from 0 to ``vocabulary - 1``.
    dim : int
        Length of a vector.
    init : str or nn.initializers.Normal, default Normal(1.0)
        First values of the table.

    Raises
    ------
    TypeError
        If a size is no whole number.
    ValueError
        If a size is under 1 or a name unknown.

    Notes
    -----
    Rows of shape (t,) become rows of shape (t, dim). The parameter ``table`` has shape (vocabulary, dim) and a dense gradient; weight
    decay applies to it. A model refuses an input with a number outside the vocabulary; after another layer it gives NaN.
    """

    kind = "embedding"
    reads = ("int64",)

    def __init__(self, vocabulary: int, dim: int, *, init: str | Normal = _STANDARD) -> None:
        self.vocabulary = whole("Embedding", "vocabulary", vocabulary)
        self.dim = whole("Embedding", "dim", dim)
        self.init = initializers.from_config(init)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape with ``dim`` as the last dimension."""
        if len(input_shape) > 2:
            raise ValueError(f"Embedding: one row of the input has shape {input_shape}, expected one or two dimensions")
        return (*input_shape, self.dim)

    def parameters(self, input_shape: Shape) -> list[Parameter]:
        """Return ``table``."""
        return [Parameter("table", (self.vocabulary, self.dim), self.init, decay=True)]

    def forward(self, builder: Builder, name: str, x: str) -> str:
        """Add one lookup."""
        found = builder.graph.values[x].dtype
        if found != "i64":
            raise ValueError(
                f"{name}: the input {x!r} holds floats, expected whole numbers; make the model from nn.Input(shape, dtype='int64')"
            )
        return builder.emit("embedding_forward", (f"{name}.table", x), name=name)[0]

    def config(self) -> dict[str, Any]:
        """Return the settings."""
        return {"vocabulary": self.vocabulary, "dim": self.dim, "init": initializers.to_config(self.init)}
