"""The ops, one by one, on plain NumPy arrays: the kernels that training runs, for learning, tests
and loops of one's own.

Arrays are float32 or float64 (one type per call), C-contiguous, of the machine's byte order;
nothing is converted or broadcast. ``out=`` gives the array to write; update rules work in place.
The functions keep no state and build no graph.
"""

from typing import TYPE_CHECKING

from pyfastnn._names import unknown
from pyfastnn.functional.activation import (
    add,
    exp,
    exp_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from pyfastnn.functional.activation_smooth import (
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
)
from pyfastnn.functional.adaptive import adagrad_step, rmsprop_momentum_step, rmsprop_step
from pyfastnn.functional.augment import augment, augment_backward
from pyfastnn.functional.clip import clip_by_norm, clip_by_value, sum_of_squares
from pyfastnn.functional.conv import conv2d, conv2d_backward, conv2d_dx, conv2d_dx_pooled, conv2d_max_pool
from pyfastnn.functional.conv_dw import conv2d_dw, conv2d_dw_pooled
from pyfastnn.functional.dropout import (
    dropout,
    dropout_backward,
    dropout_channels,
    dropout_channels_backward,
)
from pyfastnn.functional.elu import elu, elu_backward, selu, selu_backward
from pyfastnn.functional.embedding import embedding, embedding_dw
from pyfastnn.functional.gather import gather_labels, gather_rows
from pyfastnn.functional.gather_csr import gather_csr
from pyfastnn.functional.linear import linear, linear_backward, linear_db, linear_dw, linear_dx
from pyfastnn.functional.linear_bf16 import linear_dw_bf16, linear_dx_bf16, linear_forward_bf16
from pyfastnn.functional.loss import multiclass_hinge, softmax_cross_entropy
from pyfastnn.functional.loss_elementwise import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson,
)
from pyfastnn.functional.loss_terms import add_losses, l2_penalty, scale
from pyfastnn.functional.maxout import maxout, maxout_backward
from pyfastnn.functional.merge import concat, multiply, slice, slice_backward
from pyfastnn.functional.norm import batch_norm, batch_norm_backward, batch_norm_predict
from pyfastnn.functional.optimizer import (
    adam_step,
    adamw_step,
    momentum_step,
    nesterov_step,
    sgd_step,
)
from pyfastnn.functional.pool import (
    avg_pool,
    avg_pool_backward,
    global_avg_pool,
    global_avg_pool_backward,
    max_pool,
    max_pool_backward,
)
from pyfastnn.functional.prelu import prelu, prelu_backward
from pyfastnn.functional.sample_norm import (
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from pyfastnn.functional.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from pyfastnn.functional.statistics import activation_summary, sum_of_squared_differences
from pyfastnn.functional.weights import ema_step, l1_gradient, l1_penalty, max_norm

__all__ = [
    "activation_summary",
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "add",
    "add_losses",
    "augment",
    "augment_backward",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_predict",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "concat",
    "conv2d",
    "conv2d_backward",
    "conv2d_dw",
    "conv2d_dw_pooled",
    "conv2d_dx",
    "conv2d_dx_pooled",
    "conv2d_max_pool",
    "dropout",
    "dropout_backward",
    "dropout_channels",
    "dropout_channels_backward",
    "elu",
    "elu_backward",
    "ema_step",
    "embedding",
    "embedding_dw",
    "exp",
    "exp_backward",
    "gather_csr",
    "gather_labels",
    "gather_rows",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "global_avg_pool",
    "global_avg_pool_backward",
    "group_norm",
    "group_norm_backward",
    "huber",
    "l1_gradient",
    "l1_penalty",
    "l2_penalty",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "linear_db",
    "linear_dw",
    "linear_dw_bf16",
    "linear_dx",
    "linear_dx_bf16",
    "linear_forward_bf16",
    "log_softmax",
    "log_softmax_backward",
    "max_norm",
    "max_pool",
    "max_pool_backward",
    "maxout",
    "maxout_backward",
    "mean_absolute_error",
    "mean_squared_error",
    "momentum_step",
    "multiclass_hinge",
    "multiply",
    "nesterov_step",
    "poisson",
    "prelu",
    "prelu_backward",
    "relu",
    "relu_backward",
    "rmsprop_momentum_step",
    "rmsprop_step",
    "scale",
    "selu",
    "selu_backward",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "slice",
    "slice_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "sum_of_squared_differences",
    "sum_of_squares",
    "tanh",
    "tanh_backward",
]

if not TYPE_CHECKING:  # a type checker is to find wrong names itself

    def __getattr__(name: str) -> object:
        """Answer an unknown name with the nearest known one."""
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise AttributeError(unknown(f"name in {__name__}", name, __all__))
