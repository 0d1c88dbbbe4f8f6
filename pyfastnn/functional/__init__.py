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
from pyfastnn.functional.loss import multiclass_hinge, softmax_cross_entropy
from pyfastnn.functional.loss_elementwise import (
    binary_cross_entropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson,
)
from pyfastnn.functional.loss_terms import add_losses, l2_penalty, scale
from pyfastnn.functional.merge import concat, multiply, slice, slice_backward
from pyfastnn.functional.norm import batch_norm, batch_norm_backward, batch_norm_predict
from pyfastnn.functional.optimizer import (
    adam_step,
    adamw_step,
    momentum_step,
    nesterov_step,
    sgd_step,
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
    "add_losses",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_predict",
    "binary_cross_entropy",
    "clip_by_norm",
    "clip_by_value",
    "concat",
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
    "max_norm",
    "mean_absolute_error",
    "mean_squared_error",
    "momentum_step",
    "multiclass_hinge",
    "multiply",
    "nesterov_step",
    "poisson",
    "relu",
    "relu_backward",
    "rmsprop_momentum_step",
    "rmsprop_step",
    "scale",
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
