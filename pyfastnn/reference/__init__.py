"""The NumPy oracle: what every op means, written for readers, and a Graph interpreter made of it.

Imports NumPy and `pyfastnn.graph` only, so that it shares no mistake with the kernels, the planning
or the layers.
"""

from pyfastnn.reference import (
    activation,
    activation_smooth,
    augment,
    clip,
    conv,
    dropout,
    embedding,
    gather,
    gather_csr,
    linear,
    linear_bf16,
    loss,
    loss_elementwise,
    loss_terms,
    maxout,
    merge,
    norm,
    optimizer,
    prelu,
    sample_norm,
    softmax,
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
    "activation_smooth",
    "augment",
    "clip",
    "conv",
    "dropout",
    "embedding",
    "gather",
    "gather_csr",
    "interpret",
    "linear",
    "linear_bf16",
    "loss",
    "loss_elementwise",
    "loss_terms",
    "maxout",
    "merge",
    "norm",
    "optimizer",
    "prelu",
    "sample_norm",
    "softmax",
    "specs",
    "weights",
]
