"""The ops, one by one, on plain NumPy arrays: the kernels that training runs, for learning, tests
and loops of one's own.

Arrays are float32 or float64 (one type per call), C-contiguous, of the machine's byte order;
nothing is converted or broadcast. ``out=`` gives the array to write; update rules work in place.
The functions keep no state and build no graph.
"""

from pyfastnn.functional.activation import (
    add,
    elu,
    elu_backward,
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
from pyfastnn.functional.adaptive import adagrad_step, rmsprop_momentum_step, rmsprop_step
from pyfastnn.functional.clip import clip_by_norm, clip_by_value, sum_of_squares
from pyfastnn.functional.conv_dw import conv2d_dw, conv2d_dw_pooled
from pyfastnn.functional.dropout import (
    dropout,
    dropout_backward,
    dropout_channels,
    dropout_channels_backward,
)
from pyfastnn.functional.embedding import embedding, embedding_dw
from pyfastnn.functional.gather import gather_labels, gather_rows
from pyfastnn.functional.linear import linear, linear_backward, linear_db, linear_dw, linear_dx
from pyfastnn.functional.linear_bf16 import linear_dw_bf16, linear_dx_bf16, linear_forward_bf16
from pyfastnn.functional.loss import l2_penalty, mean_squared_error, softmax_cross_entropy
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
from pyfastnn.functional.sample_norm import (
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from pyfastnn.functional.weights import ema_step, l1_gradient, l1_penalty, max_norm

__all__ = [
    "adagrad_step",
    "adam_step",
    "adamw_step",
    "add",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_predict",
    "clip_by_norm",
    "clip_by_value",
    "concat",
    "conv2d_dw",
    "conv2d_dw_pooled",
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
    "gather_labels",
    "gather_rows",
    "global_avg_pool",
    "global_avg_pool_backward",
    "group_norm",
    "group_norm_backward",
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
    "max_norm",
    "max_pool",
    "max_pool_backward",
    "mean_squared_error",
    "momentum_step",
    "multiply",
    "nesterov_step",
    "relu",
    "relu_backward",
    "rmsprop_momentum_step",
    "rmsprop_step",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "slice",
    "slice_backward",
    "softmax_cross_entropy",
    "sum_of_squares",
    "tanh",
    "tanh_backward",
]
