"""The ops as NumPy expressions: ``out=`` where one function does it, else what one writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.ops_common import PeerOp

Names = SimpleNamespace
_RNG = np.random.default_rng(1)


def _linear(s: Names) -> Any:
    np.matmul(s.x, s.w, out=s.out)
    s.out += s.b
    return (s.out,)


def _elu(s: Names) -> Any:
    return (np.where(s.x > 0, s.x, s.alpha * np.expm1(np.minimum(s.x, 0))),)


def _bn_forward(s: Names) -> Any:
    mean, var = s.x.mean(axis=0), s.x.var(axis=0)
    rstd = 1 / np.sqrt(var + s.eps)
    y = (s.x - mean) * rstd
    y *= s.gamma
    y += s.beta
    n = len(s.x)
    s.running_mean += s.momentum * (mean - s.running_mean)
    s.running_var += s.momentum * (var * (n / (n - 1)) - s.running_var)
    return y, mean, rstd, s.running_mean, s.running_var


def _bn_backward(s: Names) -> Any:
    normalized = (s.x - s.mean) * s.rstd
    dbeta, dgamma, n = s.dy.sum(axis=0), (s.dy * normalized).sum(axis=0), len(s.x)
    return (s.gamma * s.rstd) * (s.dy - dbeta / n - normalized * (dgamma / n)), dgamma, dbeta


def _bn_predict(s: Names) -> Any:
    scale = s.gamma / np.sqrt(s.running_var + s.eps)
    return (s.x * scale + (s.beta - s.running_mean * scale),)


def _dropout(s: Names) -> Any:
    mask = _RNG.random(s.x.shape, dtype=np.float32) >= s.p
    return s.x * mask * np.float32(1 / (1 - s.p)), mask


def _ln_forward(s: Names) -> Any:
    mean = s.x.mean(axis=-1, keepdims=True)
    y = s.x - mean
    rstd = 1 / np.sqrt(np.square(y).mean(axis=-1, keepdims=True) + s.eps)
    y *= rstd
    y *= s.gamma
    y += s.beta
    return y, mean, rstd


def _ln_backward(s: Names) -> Any:
    rstd = s.rstd[:, None]
    h, g = (s.x - s.mean[:, None]) * rstd, s.dy * s.gamma
    dx = rstd * (g - g.mean(axis=-1, keepdims=True) - h * (g * h).mean(axis=-1, keepdims=True))
    return dx, (s.dy * h).sum(axis=0), s.dy.sum(axis=0)


def _gn_forward(s: Names) -> Any:
    n, g = len(s.x), int(s.groups)
    x = s.x.reshape(n, -1, g, s.x.shape[-1] // g)
    mean = x.mean(axis=(1, 3), keepdims=True)
    y = x - mean
    rstd = 1 / np.sqrt(np.square(y).mean(axis=(1, 3), keepdims=True) + s.eps)
    y *= rstd
    return y.reshape(s.x.shape) * s.gamma + s.beta, mean, rstd


def _gn_backward(s: Names) -> Any:
    n, c, g = len(s.x), s.x.shape[-1], int(s.groups)
    split = (n, -1, g, c // g)
    mean, rstd = s.mean.reshape(n, 1, g, 1), s.rstd.reshape(n, 1, g, 1)
    h, d = (s.x.reshape(split) - mean) * rstd, (s.dy * s.gamma).reshape(split)
    dx = rstd * (d - d.mean(axis=(1, 3), keepdims=True) - h * (d * h).mean(axis=(1, 3), keepdims=True))
    return dx, (s.dy * h.reshape(s.x.shape)).sum(axis=(0, 1)), s.dy.sum(axis=(0, 1))


def _dropout_channels(s: Names) -> Any:
    mask = _RNG.random((len(s.x), s.x.shape[-1]), dtype=np.float32) >= s.p
    return s.x * (mask * np.float32(1 / (1 - s.p)))[:, None], mask


def _embedding_dw(s: Names) -> Any:
    table = np.zeros((int(s.rows), s.dy.shape[-1]), s.dy.dtype)
    np.add.at(table, s.index, s.dy)
    return (table,)


def _slice_backward(s: Names) -> Any:
    return (np.pad(s.dy, ((0, 0), (int(s.start), int(s.after)))),)


def _softmax(s: Names) -> Any:
    n, rows = len(s.labels), np.arange(len(s.labels))
    correct = (s.scores.argmax(axis=1) == s.labels).sum()
    relative = s.scores - s.scores.max(axis=1, keepdims=True)
    p = np.exp(relative)
    total = p.sum(axis=1, keepdims=True)
    loss = (np.log(total)[:, 0] - relative[rows, s.labels]).mean()
    p /= total
    p[rows, s.labels] -= 1
    p /= n
    return loss, correct, p


def _hinge(s: Names) -> Any:
    n, rows = len(s.labels), np.arange(len(s.labels))
    correct = (s.scores.argmax(axis=1) == s.labels).sum()
    margins = np.maximum(s.scores - s.scores[rows, s.labels][:, None] + np.float32(s.margin), 0)
    margins[rows, s.labels] = 0
    loss = margins.sum() / n
    slope = (margins > 0).astype(s.scores.dtype)
    slope[rows, s.labels] = -slope.sum(axis=1)
    slope /= n
    return loss, correct, slope


def _bce(s: Names) -> Any:
    e = np.exp(-np.abs(s.scores))
    loss = (np.maximum(s.scores, 0) - s.scores * s.targets + np.log1p(e)).mean()
    return loss, (np.where(s.scores < 0, e, 1) / (1 + e) - s.targets) / s.size


def _mae(s: Names) -> Any:
    d = s.y_pred - s.y_true
    return np.abs(d).mean(), np.sign(d) / s.size


def _huber(s: Names) -> Any:
    d = s.y_pred - s.y_true
    h = np.clip(d, -s.delta, s.delta)
    return (h * (d - h / 2)).mean(), h / s.size


def _poisson(s: Names) -> Any:
    rate = np.exp(s.y_pred)
    return (rate - s.y_true * s.y_pred).mean(), (rate - s.y_true) / s.size


def _mse(s: Names) -> Any:
    d = s.y_pred - s.y_true
    return np.dot(d.ravel(), d.ravel()) / d.size, d * (2 / d.size)


def _sgd(s: Names) -> Any:
    s.p -= s.learning_rate * (s.dp + s.weight_decay * s.p)
    return (s.p,)


def _momentum(s: Names) -> Any:
    s.velocity *= s.momentum
    s.velocity += s.dp + s.weight_decay * s.p
    s.p -= s.learning_rate * s.velocity
    return s.p, s.velocity


def _nesterov(s: Names) -> Any:
    g = s.dp + s.weight_decay * s.p
    s.velocity *= s.momentum
    s.velocity += g
    s.p -= s.learning_rate * (g + s.momentum * s.velocity)
    return s.p, s.velocity


def _adam(s: Names, decoupled: bool = False) -> Any:
    if decoupled:
        s.p *= 1 - s.learning_rate * s.weight_decay
        g = s.dp
    else:
        g = s.dp + s.weight_decay * s.p
    s.m *= s.beta1
    s.m += (1 - s.beta1) * g
    s.v *= s.beta2
    s.v += (1 - s.beta2) * g * g
    s.p -= (s.learning_rate / s.correction1) * s.m / (np.sqrt(s.v / s.correction2) + s.eps)
    return s.p, s.m, s.v


def _scaled(s: Names, keep: float, share: float, momentum: bool = False) -> Any:
    """AdaGrad (all squares are kept and added whole) and RMSProp."""
    g = s.dp + s.weight_decay * s.p
    s.v *= keep
    s.v += share * g * g
    d = g / (np.sqrt(s.v) + s.eps)
    if momentum:
        s.velocity *= s.momentum
        s.velocity += d
        s.p -= s.learning_rate * s.velocity
        return s.p, s.v, s.velocity
    s.p -= s.learning_rate * d
    return s.p, s.v


def _max_norm(s: Names) -> Any:
    norms = np.sqrt(np.einsum("ij,ij->j", s.w, s.w))
    s.w *= np.where(norms > s.max_norm, s.max_norm / norms, np.float32(1))
    return (s.w,)


def _ema(s: Names) -> Any:
    s.ema += (1 - s.ema_decay) * (s.p - s.ema)
    return (s.ema,)


LIBRARY = {
    "linear_forward": _linear,
    "linear_dx": lambda s: (np.matmul(s.dy, s.w.T, out=s.out),),
    "linear_dw": lambda s: (np.matmul(s.x.T, s.dy, out=s.out),),
    "linear_db": lambda s: (np.sum(s.dy, axis=0, out=s.out),),
    "add": lambda s: (np.add(s.a, s.b, out=s.out),),
    "relu_forward": lambda s: (np.maximum(s.x, 0, out=s.out),),
    "relu_backward": lambda s: (np.multiply(s.dy, s.y > 0, out=s.out),),
    "leaky_relu_forward": lambda s: (np.maximum(s.x, s.negative_slope * s.x, out=s.out),),
    "leaky_relu_backward": lambda s: (np.where(s.x > 0, s.dy, s.negative_slope * s.dy),),
    "elu_forward": _elu,
    "elu_backward": lambda s: (s.dy * np.where(s.y > 0, 1, s.y + s.alpha),),
    "sigmoid_forward": lambda s: (1 / (1 + np.exp(-s.x)),),
    "sigmoid_backward": lambda s: (s.dy * s.y * (1 - s.y),),
    "tanh_forward": lambda s: (np.tanh(s.x, out=s.out),),
    "tanh_backward": lambda s: (s.dy * (1 - s.y * s.y),),
    "exp_forward": lambda s: (np.exp(s.x, out=s.out),),
    "exp_backward": lambda s: (np.multiply(s.dy, s.y, out=s.out),),
    "batch_norm_forward": _bn_forward,
    "batch_norm_predict": _bn_predict,
    "batch_norm_backward": _bn_backward,
    "dropout_forward": _dropout,
    "dropout_backward": lambda s: (s.dy * s.mask * np.float32(1 / (1 - s.p)),),
    "layer_norm_forward": _ln_forward,
    "layer_norm_backward": _ln_backward,
    "group_norm_forward": _gn_forward,
    "group_norm_backward": _gn_backward,
    "dropout_channels_forward": _dropout_channels,
    "dropout_channels_backward": lambda s: (s.dy * (s.mask * np.float32(1 / (1 - s.p)))[:, None],),
    "embedding_forward": lambda s: (np.take(s.table, s.index, axis=0, out=s.out, mode="clip"),),
    "embedding_dw": _embedding_dw,
    "multiply": lambda s: (np.multiply(s.a, s.b, out=s.out),),
    "concat": lambda s: (np.concatenate([s.a, s.b], axis=-1, out=s.out),),
    "slice": lambda s: (s.x[:, int(s.start) : s.x.shape[-1] - int(s.after)].copy(),),
    "slice_backward": _slice_backward,
    "softmax_cross_entropy": _softmax,
    "multiclass_hinge": _hinge,
    "binary_cross_entropy": _bce,
    "mean_squared_error": _mse,
    "mean_absolute_error": _mae,
    "huber": _huber,
    "poisson": _poisson,
    "add_losses": lambda s: (s.a_weight * s.a + s.b_weight * s.b,),
    "scale": lambda s: (np.multiply(s.x, s.factor, out=s.out),),
    "l2_penalty": lambda s: (0.5 * s.weight_decay * np.dot(s.w.ravel(), s.w.ravel()),),
    "sgd_step": _sgd,
    "momentum_step": _momentum,
    "nesterov_step": _nesterov,
    "adam_step": _adam,
    "adamw_step": lambda s: _adam(s, decoupled=True),
    "adagrad_step": lambda s: _scaled(s, 1, 1),
    "rmsprop_step": lambda s: _scaled(s, s.rho, 1 - s.rho),
    "rmsprop_momentum_step": lambda s: _scaled(s, s.rho, 1 - s.rho, momentum=True),
    "sum_of_squares": lambda s: (s.before + np.dot(s.x, s.x),),
    "clip_by_norm": lambda s: (np.multiply(s.dp, min(1.0, s.clip_norm / (s.total.item() ** 0.5 + 1e-6)), out=s.out),),
    "clip_by_value": lambda s: (np.clip(s.dp, -s.clip_value, s.clip_value, out=s.out),),
    "l1_penalty": lambda s: (s.l1 * np.abs(s.w).sum(),),
    "l1_gradient": lambda s: (s.dp + s.l1 * np.sign(s.p),),
    "max_norm": _max_norm,
    "ema_step": _ema,
    "gather_rows": lambda s: ((s.data[s.index] - s.shift) * s.scale,),
    "gather_labels": lambda s: (s.data[s.index],),
}


class Op(PeerOp):
    """An op in NumPy."""

    library = LIBRARY

    def prepare(self) -> None:
        """Add ``out``, for what takes one."""
        want = self.spec.evaluate(self.sample, self.case["dtype"])[0]
        self.names.out = np.full(want.shape, np.nan, self.case["dtype"])
