"""The NumPy oracle: what every op means, written for readers, and a Graph interpreter made of it.

Imports NumPy and `pyfastnn.graph` only, so that it shares no mistake with the kernels, the planning
or the layers.
"""

from pyfastnn.reference import (
    activation,
    clip,
    conv_dw,
    conv_dw_pooled,
    dropout,
    embedding,
    gather,
    linear,
    linear_bf16,
    loss,
    merge,
    norm,
    optimizer,
    pool,
    sample_norm,
    weights,
)
from pyfastnn.reference.interpreter import interpret
from pyfastnn.reference.spec import HYPER_FIELDS, Cost, ErrorCase, OpSpec, Rounding, Sample, specs

__all__ = [
    "HYPER_FIELDS",
    "Cost",
    "ErrorCase",
    "OpSpec",
    "Rounding",
    "Sample",
    "activation",
    "clip",
    "conv_dw",
    "conv_dw_pooled",
    "dropout",
    "embedding",
    "gather",
    "interpret",
    "linear",
    "linear_bf16",
    "loss",
    "merge",
    "norm",
    "optimizer",
    "pool",
    "sample_norm",
    "specs",
    "weights",
]
