"""The ops as NumPy expressions: ``out=`` where one function does it, else what one writes."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.ops_common import PeerOp
from pyfastnn.reference.augment import draw

Names = SimpleNamespace
_SELU_SCALE, _SELU_LOWEST, _ROOT = 1.0507009873554805, 1.7580993408473769, 0.7978845608028654
_RNG = np.random.default_rng(1)


def _linear(s: Names) -> Any:
    np.matmul(s.x, s.w, out=s.out)
    s.out += s.b
    return (s.out,)


def _elu(s: Names) -> Any:
    return (np.where(s.x > 0, s.x, s.alpha * np.expm1(np.minimum(s.x, 0))),)


def _activation_summary(s: Names) -> Any:
    least, largest = s.x.min(), s.x.max()
    beyond = np.mean((s.x <= s.low) | (s.x >= s.high)) if s.low < s.high else 0.0
    counts = np.histogram(s.x, 24, (least, largest))[0]
    dead = np.mean(~s.x.any(axis=0))
    return (np.array([s.x.mean(), s.x.std(), least, largest, dead, beyond, *counts]),)


def _selu(s: Names) -> Any:
    return (np.where(s.x > 0, _SELU_SCALE * s.x, _SELU_LOWEST * np.expm1(np.minimum(s.x, 0))),)


def _gelu_tanh(s: Names) -> Any:
    return (0.5 * s.x * (1 + np.tanh(_ROOT * (s.x + 0.044715 * s.x * s.x * s.x))),)


def _gelu_tanh_backward(s: Names) -> Any:
    t = np.tanh(_ROOT * (s.x + 0.044715 * s.x * s.x * s.x))
    return (s.dy * (0.5 * (1 + t) + 0.5 * s.x * (1 - t * t) * _ROOT * (1 + 0.134145 * s.x * s.x)),)


def _silu_backward(s: Names) -> Any:
    y = 1 / (1 + np.exp(-s.x))
    return (s.dy * (y * (1 + s.x * (1 - y))),)


def _prelu_backward(s: Names) -> Any:
    positive = s.x > 0
    return np.where(positive, s.dy, s.slope * s.dy), np.where(positive, 0, s.dy * s.x).sum(axis=0)


def _softmax(s: Names) -> Any:
    np.exp(s.x - s.x.max(axis=-1, keepdims=True), out=s.out)
    return (np.divide(s.out, s.out.sum(axis=-1, keepdims=True), out=s.out),)


def _log_softmax(s: Names) -> Any:
    relative = s.x - s.x.max(axis=-1, keepdims=True)
    return (np.subtract(relative, np.log(np.exp(relative).sum(axis=-1, keepdims=True)), out=s.out),)


def _maxout_backward(s: Names) -> Any:
    dx = np.zeros_like(s.x)
    np.put_along_axis(dx, s.x.argmax(axis=-1)[..., None], s.dy[..., None], axis=-1)
    return (dx,)


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


@lru_cache(maxsize=8)
def _changes(n: int, h: int, w: int, flip: int, pad: int, cutout: int, node: int, seed: int, step: int) -> Any:
    """Return for each image which rows and columns of the padded one it takes, and its square; drawn once, so not timed."""
    drawn = draw(n, h, w, flip=flip, pad=pad, node=node, seed=seed, step=step)
    places = []
    for size, flipped, shift in ((h, "vertical", "down"), (w, "horizontal", "right")):
        at = np.where(drawn[flipped][:, None], np.arange(size)[::-1], np.arange(size))
        places.append(at + drawn[shift][:, None] + pad)
    rows = np.arange(h) - (drawn["row"][:, None] - cutout // 2)
    columns = np.arange(w) - (drawn["column"][:, None] - cutout // 2)
    square = ((rows >= 0) & (rows < cutout))[:, :, None] & ((columns >= 0) & (columns < cutout))[:, None, :]
    return np.arange(n)[:, None, None], places[0][:, :, None], places[1][:, None, :], square


def _changes_of(s: Names, x: Any) -> Any:
    numbers = (s.flip, s.pad, s.cutout, s.node, s.seed, s.step)
    return _changes(*x.shape[:3], *map(int, numbers))


def _augment(s: Names) -> Any:
    image, row, column, square = _changes_of(s, s.x)
    p = int(s.pad)
    y = np.pad(s.x, ((0, 0), (p, p), (p, p), (0, 0)))[image, row, column]
    y[square] = 0
    return (y,)


def _augment_backward(s: Names) -> Any:
    image, row, column, square = _changes_of(s, s.dy)
    p, (n, h, w, c) = int(s.pad), s.dy.shape
    padded = np.zeros((n, h + 2 * p, w + 2 * p, c), s.dy.dtype)
    padded[image, row, column] = np.where(square[..., None], 0, s.dy)
    return (padded[:, p : p + h, p : p + w],)


def _gather_csr(s: Names) -> Any:
    x = np.zeros((len(s.index), int(s.features)), s.data.dtype)
    for i, row in enumerate(s.index):
        first, last = s.starts[row], s.starts[row + 1]
        x[i, s.columns[first:last]] = s.data[first:last]
    return (x,)


def _embedding_dw(s: Names) -> Any:
    table = np.zeros((int(s.rows), s.dy.shape[-1]), s.dy.dtype)
    np.add.at(table, s.index, s.dy)
    return (table,)


def _slice_backward(s: Names) -> Any:
    return (np.pad(s.dy, ((0, 0), (int(s.start), int(s.after)))),)


def _cross_entropy(s: Names) -> Any:
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
    "selu_forward": _selu,
    "selu_backward": lambda s: (s.dy * np.where(s.y > 0, _SELU_SCALE, s.y + _SELU_LOWEST),),
    "gelu_tanh_forward": _gelu_tanh,
    "gelu_tanh_backward": _gelu_tanh_backward,
    "silu_forward": lambda s: (s.x / (1 + np.exp(-s.x)),),
    "silu_backward": _silu_backward,
    "softplus_forward": lambda s: (np.logaddexp(0, s.x, out=s.out),),
    "softplus_backward": lambda s: (s.dy / (1 + np.exp(-s.x)),),
    "prelu_forward": lambda s: (np.where(s.x > 0, s.x, s.slope * s.x),),
    "prelu_backward": _prelu_backward,
    "softmax_forward": _softmax,
    "softmax_backward": lambda s: (s.y * (s.dy - (s.dy * s.y).sum(axis=-1, keepdims=True)),),
    "log_softmax_forward": _log_softmax,
    "log_softmax_backward": lambda s: (s.dy - np.exp(s.y) * s.dy.sum(axis=-1, keepdims=True),),
    "maxout_forward": lambda s: (np.max(s.x, axis=-1, out=s.out),),
    "maxout_backward": _maxout_backward,
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
    "softmax_cross_entropy": _cross_entropy,
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
    "sum_of_squared_differences": lambda s: (np.square(s.a - s.b).sum(),),
    "activation_summary": _activation_summary,
    "clip_by_norm": lambda s: (np.multiply(s.dp, min(1.0, s.clip_norm / (s.total.item() ** 0.5 + 1e-6)), out=s.out),),
    "clip_by_value": lambda s: (np.clip(s.dp, -s.clip_value, s.clip_value, out=s.out),),
    "l1_penalty": lambda s: (s.l1 * np.abs(s.w).sum(),),
    "l1_gradient": lambda s: (s.dp + s.l1 * np.sign(s.p),),
    "max_norm": _max_norm,
    "ema_step": _ema,
    "gather_rows": lambda s: ((s.data[s.index] - s.shift) * s.scale,),
    "gather_labels": lambda s: (s.data[s.index],),
    "gather_csr": _gather_csr,
    "augment": _augment,
    "augment_backward": _augment_backward,
}


class Op(PeerOp):
    """An op in NumPy."""

    library = LIBRARY

    def prepare(self) -> None:
        """Add ``out``, for what takes one."""
        want = self.spec.evaluate(self.sample, self.case["dtype"])[0]
        self.names.out = np.full(want.shape, np.nan, self.case["dtype"])
