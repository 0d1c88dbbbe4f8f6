"""Sequential: layers one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfastnn._names import helpful_keywords
from pyfastnn.nn.layer import Layer
from pyfastnn.nn.model import Model
from pyfastnn.nn.symbolic import chain

if TYPE_CHECKING:
    from pyfastnn.data.preprocessing import Preprocessor


class Sequential(Model):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Layer
        At least one. Sizes of the inputs are inferred from the data or `build`.
    preprocess : Preprocessor, optional
        Such as ``fnn.data.Standardize()``: fitted on the first training rows, applied everywhere, saved with the model.
    dtype : str, default "float32"
        ``"float32"`` or ``"float64"``.

    Raises
    ------
    TypeError
        If something else than a layer object is given.
    """

    @helpful_keywords
    def __init__(self, *layers: Layer, preprocess: Preprocessor | None = None, dtype: str = "float32") -> None:
        if not layers:
            raise TypeError("Sequential: no layers given")
        for number, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"Sequential: {layer!r} is no layer object, expected something like nn.ReLU()")
            if any(layer is other for other in layers[:number]):
                raise ValueError(f"Sequential: the same {layer!r} object stands twice; make a second one")
        self._start(chain(layers), preprocess, dtype)

    def __repr__(self) -> str:
        """Show the call that makes the model."""
        return f"Sequential({', '.join(map(repr, self.layers.values()))})"
