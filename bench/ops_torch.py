"""The ops as PyTorch's own functions without autograd, writing into a given tensor where they can."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional as F

from bench.ops_common import PeerOp

Names = SimpleNamespace
aten = torch.ops.aten
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _bn_forward(s: Names) -> Any:
    y, mean, rstd = torch.native_batch_norm(
        s.x, s.gamma, s.beta, s.running_mean, s.running_var, True, s.momentum, s.eps
    )
    return y, mean, rstd, s.running_mean, s.running_var


def _bn_backward(s: Names) -> Any:
    flags = [True, True, True]
    return aten.native_batch_norm_backward(s.dy, s.x, s.gamma, None, None, s.mean, s.rstd, True, 1e-5, flags)


def _channels_last(x: Any) -> Any:
    """Return x[n, s, c] as an image of s rows in PyTorch's shape and our memory layout."""
    return x.unsqueeze(2).permute(0, 3, 1, 2)


def _ours(x: Any) -> Any:
    return x.permute(0, 2, 3, 1).squeeze(2)


def _gn_forward(s: Names) -> Any:
    n, positions, c = s.x.shape
    y, mean, rstd = torch.native_group_norm(_channels_last(s.x), s.gamma, s.beta, n, c, positions, int(s.groups), s.eps)
    return _ours(y), mean, rstd


def _gn_backward(s: Names) -> Any:
    n, positions, c = s.x.shape
    dy, x = _channels_last(s.dy), _channels_last(s.x)
    dx, dgamma, dbeta = aten.native_group_norm_backward(
        dy, x, s.mean, s.rstd, s.gamma, n, c, positions, int(s.groups), [True, True, True]
    )
    return _ours(dx), dgamma, dbeta


def _ln_backward(s: Names) -> Any:
    mean, rstd = s.mean.unsqueeze(-1), s.rstd.unsqueeze(-1)
    size, flags = [s.x.shape[-1]], [True, True, True]
    return aten.native_layer_norm_backward(s.dy, s.x, size, mean, rstd, s.gamma, s.gamma, flags)


def _dropout_channels(s: Names) -> Any:
    noise = torch.empty((s.x.shape[0], 1, s.x.shape[-1]), dtype=s.x.dtype).bernoulli_(1 - s.p)
    return torch.mul(s.x, noise / (1 - s.p), out=s.out), noise[:, 0] != 0


def _cross_entropy(s: Names) -> Any:
    correct = (s.scores.argmax(dim=1) == s.labels).sum()
    logs = torch.log_softmax(s.scores, 1)
    loss, weight = aten.nll_loss_forward(logs, s.labels, None, 1, -100)
    slope = aten.nll_loss_backward(s.one, logs, s.labels, None, 1, -100, weight)
    return loss, correct, aten._log_softmax_backward_data(slope, logs, 1, s.scores.dtype)


def _prelu_backward(s: Names) -> Any:
    # The slopes' gradient comes as large as the input and is summed by autograd, here by hand.
    dx, terms = aten._prelu_kernel_backward(s.dy, s.x, s.slope)
    return dx, terms.sum(0)


def _maxout_backward(s: Names) -> Any:
    first = s.x.argmax(-1, keepdim=True)
    return (torch.zeros_like(s.x).scatter_(-1, first, s.dy.unsqueeze(-1)),)


def _hinge(s: Names) -> Any:
    correct = (s.scores.argmax(dim=1) == s.labels).sum()
    classes = s.scores.shape[1]  # PyTorch's loss is divided by them
    loss = aten.multi_margin_loss(s.scores, s.labels, 1, s.margin) * classes
    return loss, correct, aten.multi_margin_loss_backward(s.one * classes, s.scores, s.labels, 1, s.margin, None, 1)


def _sgd(s: Names, momentum: float, nesterov: bool = False) -> Any:
    velocity = [s.velocity] if momentum else []
    torch._fused_sgd_(
        [s.p],
        [s.dp],
        velocity,
        weight_decay=s.weight_decay,
        momentum=momentum,
        lr=s.learning_rate,
        dampening=0.0,
        nesterov=nesterov,
        maximize=False,
        is_first_step=False,
    )
    return (s.p, *velocity)


def _adam(s: Names, update: Any) -> Any:
    update(
        [s.p],
        [s.dp],
        [s.m],
        [s.v],
        [],
        [s.steps],
        lr=s.learning_rate,
        beta1=s.beta1,
        beta2=s.beta2,
        weight_decay=s.weight_decay,
        eps=s.eps,
        amsgrad=False,
        maximize=False,
    )
    return s.p, s.m, s.v


def _adagrad(s: Names) -> Any:
    torch._fused_adagrad_(
        [s.p],
        [s.dp],
        [s.v],
        [s.steps],
        lr=s.learning_rate,
        lr_decay=0.0,
        weight_decay=s.weight_decay,
        eps=s.eps,
        maximize=False,
    )
    return s.p, s.v


def _rmsprop(s: Names, velocity: bool) -> Any:
    """As torch.optim.RMSprop does it: no fused form exists for processors."""
    g = s.dp.add(s.p, alpha=s.weight_decay)
    s.v.mul_(s.rho).addcmul_(g, g, value=1 - s.rho)
    root = s.v.sqrt().add_(s.eps)
    if not velocity:
        s.p.addcdiv_(g, root, value=-s.learning_rate)
        return s.p, s.v
    s.velocity.mul_(s.momentum).addcdiv_(g, root)
    s.p.add_(s.velocity, alpha=-s.learning_rate)
    return s.p, s.v, s.velocity


def _clip_by_norm(s: Names) -> Any:
    scale = (s.clip_norm / (s.total.sqrt() + 1e-6)).clamp(max=1.0).to(s.dp.dtype)
    return (torch.mul(s.dp, scale, out=s.out),)


def _max_norm(s: Names) -> Any:
    norms = torch.linalg.vector_norm(s.w, dim=0)
    return (s.w.mul_((s.max_norm / norms).clamp(max=1.0)),)


def _gather(s: Names) -> Any:
    torch.index_select(s.data, 0, s.index, out=s.out)
    return (s.out.sub_(s.shift).mul_(s.scale),)


def _images(tensor: Any) -> Any:
    """Return NHWC memory as the channels_last tensor it is."""
    return tensor.permute(0, 3, 1, 2)


def _conv_dw(s: Names) -> Any:
    dy, x = _images(s.dy), _images(s.x)
    w = s.one.expand(dy.shape[1], x.shape[1] // int(s.groups), int(s.kernel_h), int(s.kernel_w))
    w = w.contiguous(memory_format=torch.channels_last)
    stride, dilation = [int(s.stride_h), int(s.stride_w)], [int(s.dilation_h), int(s.dilation_w)]
    if (s.top, s.left) != (s.bottom, s.right):
        raise NotImplementedError("padding that differs from side to side")
    pads = [int(s.top), int(s.left)]
    wanted = [False, True, False]
    dw = aten.convolution_backward(dy, x, w, None, stride, pads, dilation, False, [0, 0], int(s.groups), wanted)[1]
    return (dw.permute(2, 3, 1, 0),)


def _pool_settings(s: Names) -> tuple[list[int], list[int], list[int]]:
    if (s.top, s.left) != (s.bottom, s.right):
        raise NotImplementedError("padding that differs from side to side")
    return [int(s.kernel_h), int(s.kernel_w)], [int(s.stride_h), int(s.stride_w)], [int(s.top), int(s.left)]


def _max_pool(s: Names) -> Any:
    y, _ = torch.ops.aten.max_pool2d_with_indices(_images(s.x), *_pool_settings(s))
    return (y.permute(0, 2, 3, 1),)


def _avg_pool(s: Names) -> Any:
    y = F.avg_pool2d(_images(s.x), *_pool_settings(s), count_include_pad=bool(s.count_include_pad))
    return (y.permute(0, 2, 3, 1),)


def _conv_settings(s: Names) -> tuple[list[int], list[int], list[int], int]:
    if (s.top, s.left) != (s.bottom, s.right):
        raise NotImplementedError("padding that differs from side to side")
    pairs = (s.stride_h, s.stride_w), (s.top, s.left), (s.dilation_h, s.dilation_w)
    stride, padding, dilation = ([int(v) for v in pair] for pair in pairs)
    return stride, padding, dilation, int(s.groups)


def _conv_forward(s: Names) -> Any:
    return (torch.conv2d(s.x.permute(0, 3, 1, 2), s.filters, s.b, *_conv_settings(s)).permute(0, 2, 3, 1),)


def _conv_dx(s: Names) -> Any:
    stride, padding, dilation, groups = _conv_settings(s)
    x = s.one.expand(len(s.dy), s.w.shape[2] * groups, int(s.height), int(s.width))
    dy, flags = s.dy.permute(0, 3, 1, 2), [True, False, False]
    dx = aten.convolution_backward(dy, x, s.filters, None, stride, padding, dilation, False, [0, 0], groups, flags)[0]
    return (dx.permute(0, 2, 3, 1),)


def _conv_max_pool(s: Names) -> Any:
    y, _ = torch.ops.aten.max_pool2d_with_indices(
        torch.conv2d(_images(s.x), s.filters, s.b, *_conv_settings(s)), [2, 2], [2, 2]
    )
    return (y.permute(0, 2, 3, 1),)


LIBRARY = {
    "linear_forward": lambda s: (torch.addmm(s.b, s.x, s.w, out=s.out),),
    "linear_dx": lambda s: (torch.mm(s.dy, s.w.t(), out=s.out),),
    "linear_dw": lambda s: (torch.mm(s.x.t(), s.dy, out=s.out),),
    "linear_db": lambda s: (torch.sum(s.dy, 0, out=s.out),),
    "conv2d_forward": _conv_forward,
    "conv2d_dx": _conv_dx,
    "conv2d_max_pool_forward": _conv_max_pool,
    "add": lambda s: (torch.add(s.a, s.b, out=s.out),),
    "relu_forward": lambda s: (torch.clamp_min(s.x, 0, out=s.out),),
    "relu_backward": lambda s: (aten.threshold_backward.grad_input(s.dy, s.y, 0, grad_input=s.out),),
    "leaky_relu_forward": lambda s: (aten.leaky_relu.out(s.x, s.negative_slope, out=s.out),),
    "leaky_relu_backward": lambda s: (
        aten.leaky_relu_backward.grad_input(s.dy, s.x, s.negative_slope, False, grad_input=s.out),
    ),
    "elu_forward": lambda s: (aten.elu.out(s.x, s.alpha, out=s.out),),
    "elu_backward": lambda s: (aten.elu_backward.grad_input(s.dy, s.alpha, 1, 1, True, s.y, grad_input=s.out),),
    "sigmoid_forward": lambda s: (torch.sigmoid(s.x, out=s.out),),
    "sigmoid_backward": lambda s: (aten.sigmoid_backward.grad_input(s.dy, s.y, grad_input=s.out),),
    "tanh_forward": lambda s: (torch.tanh(s.x, out=s.out),),
    "tanh_backward": lambda s: (aten.tanh_backward.grad_input(s.dy, s.y, grad_input=s.out),),
    "exp_forward": lambda s: (torch.exp(s.x, out=s.out),),
    "exp_backward": lambda s: (torch.mul(s.dy, s.y, out=s.out),),
    "selu_forward": lambda s: (aten.elu.out(s.x, _SELU_ALPHA, _SELU_SCALE, 1, out=s.out),),
    "selu_backward": lambda s: (
        aten.elu_backward.grad_input(s.dy, _SELU_ALPHA, _SELU_SCALE, 1, True, s.y, grad_input=s.out),
    ),
    "gelu_forward": lambda s: (aten.gelu.out(s.x, out=s.out),),
    "gelu_backward": lambda s: (aten.gelu_backward.grad_input(s.dy, s.x, grad_input=s.out),),
    "gelu_tanh_forward": lambda s: (aten.gelu.out(s.x, approximate="tanh", out=s.out),),
    "gelu_tanh_backward": lambda s: (aten.gelu_backward.grad_input(s.dy, s.x, approximate="tanh", grad_input=s.out),),
    "silu_forward": lambda s: (aten.silu.out(s.x, out=s.out),),
    "silu_backward": lambda s: (aten.silu_backward.grad_input(s.dy, s.x, grad_input=s.out),),
    "softplus_forward": lambda s: (aten.softplus.out(s.x, 1, 20, out=s.out),),
    "softplus_backward": lambda s: (aten.softplus_backward.grad_input(s.dy, s.x, 1, 20, grad_input=s.out),),
    "prelu_forward": lambda s: (torch.prelu(s.x, s.slope),),
    "prelu_backward": _prelu_backward,
    "softmax_forward": lambda s: (aten._softmax.out(s.x, -1, False, out=s.out),),
    "softmax_backward": lambda s: (aten._softmax_backward_data.out(s.dy, s.y, -1, s.dy.dtype, grad_input=s.out),),
    "log_softmax_forward": lambda s: (aten._log_softmax.out(s.x, -1, False, out=s.out),),
    "log_softmax_backward": lambda s: (aten._log_softmax_backward_data.out(s.dy, s.y, -1, s.dy.dtype, out=s.out),),
    "maxout_forward": lambda s: (torch.amax(s.x, -1, out=s.out),),
    "maxout_backward": _maxout_backward,
    "batch_norm_forward": _bn_forward,
    "batch_norm_predict": lambda s: (
        F.batch_norm(s.x, s.running_mean, s.running_var, s.gamma, s.beta, False, 0.0, s.eps),
    ),
    "batch_norm_backward": _bn_backward,
    "dropout_forward": lambda s: aten.native_dropout(s.x, s.p, True),
    "dropout_backward": lambda s: (aten.native_dropout_backward(s.dy, s.kept, 1 / (1 - s.p)),),
    "layer_norm_forward": lambda s: torch.native_layer_norm(s.x, [s.x.shape[-1]], s.gamma, s.beta, s.eps),
    "layer_norm_backward": _ln_backward,
    "group_norm_forward": _gn_forward,
    "group_norm_backward": _gn_backward,
    "dropout_channels_forward": _dropout_channels,
    "dropout_channels_backward": lambda s: (torch.mul(s.dy, s.kept[:, None] * (1 / (1 - s.p)), out=s.out),),
    "embedding_forward": lambda s: (torch.index_select(s.table, 0, s.index, out=s.out),),
    "embedding_dw": lambda s: (aten.embedding_dense_backward(s.dy, s.index, int(s.rows), -1, False),),
    "multiply": lambda s: (torch.mul(s.a, s.b, out=s.out),),
    "concat": lambda s: (torch.cat([s.a, s.b], dim=-1, out=s.out),),
    "slice": lambda s: (s.x[:, int(s.start) : s.x.shape[-1] - int(s.after)].contiguous(),),
    "slice_backward": lambda s: (F.pad(s.dy, (int(s.start), int(s.after))),),
    "softmax_cross_entropy": _cross_entropy,
    "mean_squared_error": lambda s: (
        F.mse_loss(s.y_pred, s.y_true),
        aten.mse_loss_backward(s.one, s.y_pred, s.y_true, 1),
    ),
    "multiclass_hinge": _hinge,
    "binary_cross_entropy": lambda s: (
        F.binary_cross_entropy_with_logits(s.scores, s.targets),
        torch.sigmoid(s.scores).sub_(s.targets).div_(s.size),
    ),
    "mean_absolute_error": lambda s: (
        F.l1_loss(s.y_pred, s.y_true),
        torch.sign(s.y_pred - s.y_true).div_(s.size),
    ),
    "huber": lambda s: (
        F.huber_loss(s.y_pred, s.y_true, delta=s.delta),
        aten.huber_loss_backward(s.one, s.y_pred, s.y_true, 1, s.delta),
    ),
    "poisson": lambda s: (
        F.poisson_nll_loss(s.y_pred, s.y_true),
        torch.exp(s.y_pred).sub_(s.y_true).div_(s.size),
    ),
    "add_losses": lambda s: (s.a_weight * s.a + s.b_weight * s.b,),
    "scale": lambda s: (torch.mul(s.x, s.factor, out=s.out),),
    "l2_penalty": lambda s: (torch.dot(s.w.view(-1), s.w.view(-1)) * (0.5 * s.weight_decay),),
    "sgd_step": lambda s: _sgd(s, 0.0),
    "momentum_step": lambda s: _sgd(s, s.momentum),
    "nesterov_step": lambda s: _sgd(s, s.momentum, nesterov=True),
    "adam_step": lambda s: _adam(s, torch._fused_adam_),
    "adamw_step": lambda s: _adam(s, torch._fused_adamw_),
    "adagrad_step": _adagrad,
    "rmsprop_step": lambda s: _rmsprop(s, velocity=False),
    "rmsprop_momentum_step": lambda s: _rmsprop(s, velocity=True),
    "sum_of_squares": lambda s: (s.before + torch.linalg.vector_norm(s.x).square(),),
    "sum_of_squared_differences": lambda s: (torch.dist(s.a, s.b).square(),),
    "clip_by_norm": _clip_by_norm,
    "clip_by_value": lambda s: (torch.clamp(s.dp, -s.clip_value, s.clip_value, out=s.out),),
    "l1_penalty": lambda s: (torch.linalg.vector_norm(s.w, ord=1) * s.l1,),
    "l1_gradient": lambda s: (torch.add(s.dp, torch.sign(s.p), alpha=s.l1, out=s.out),),
    "max_norm": _max_norm,
    "ema_step": lambda s: (s.ema.lerp_(s.p, 1 - s.ema_decay),),
    "conv2d_dw": _conv_dw,
    "max_pool_forward": _max_pool,
    "avg_pool_forward": _avg_pool,
    "global_avg_pool_forward": lambda s: (torch.mean(s.x, (1, 2), out=s.out),),
    "gather_rows": _gather,
    "gather_labels": lambda s: (torch.index_select(s.data, 0, s.index),),
}


class Op(PeerOp):
    """An op in PyTorch."""

    library = LIBRARY

    def take(self, array: Any) -> Any:
        """Return a tensor over the array's memory."""
        return torch.from_numpy(array)

    def give(self, array: Any) -> Any:
        """Return a NumPy array."""
        return array.numpy()

    def prepare(self) -> None:
        """Add outputs and what PyTorch wants in its own form."""
        want = self.spec.evaluate(self.sample, self.case["dtype"])[0]
        dtype = getattr(torch, self.case["dtype"])
        self.names.out = torch.full(want.shape, torch.nan, dtype=dtype)
        self.names.one = torch.ones((), dtype=dtype)
        if self.case["op"].startswith("conv2d_") and hasattr(self.names, "w"):
            self.names.filters = self.names.w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        if hasattr(self.names, "mask"):
            self.names.kept = self.names.mask.bool()
        if "correction1" in self.sample.hyper:
            import math

            step = math.log(1 - self.sample.hyper["correction1"]) / math.log(self.sample.hyper["beta1"])
            self.names.steps = torch.tensor(float(round(step)))
        elif self.case["op"] == "adagrad_step":
            self.names.steps = torch.tensor(1.0)  # counts for a decay of the rate alone, which is 0

    def run(self, calls: int) -> None:
        """Call without autograd."""
        with torch.inference_mode():
            super().run(calls)
