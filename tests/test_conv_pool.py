"""The convolution that pools as it goes, and the rewrite that puts it in."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core, nn, optim
from pyfastnn import functional as F
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.rewrites import fuse_conv_pool
from pyfastnn.nn.losses import SoftmaxCrossEntropy
from pyfastnn.reference import HYPER_FIELDS, interpret, specs
from pyfastnn.testing import DTYPES, assert_same_bits, rng_of
from pyfastnn.train.compiled import evaluation_graph, training_graph

OP = "conv2d_max_pool_forward"
LARGE = (
    {"n": 5, "h": 32, "w": 32, "g": 3, "o": 6, "kh": 5, "kw": 5, "top": 2, "left": 2},
    {"n": 3, "h": 91, "w": 75, "g": 2, "o": 3, "kh": 5, "kw": 5, "top": 2, "left": 2},
    {"n": 2, "h": 70, "w": 131, "g": 4, "o": 5, "kh": 3, "kw": 3, "top": 1, "left": 0},
    {"n": 4, "h": 29, "w": 28, "g": 1, "o": 1, "kh": 3, "kw": 3, "top": 1, "left": 1},
    {"n": 5, "h": 16, "w": 16, "g": 6, "o": 16, "kh": 3, "kw": 3, "top": 1, "left": 1},
    {"n": 2, "h": 61, "w": 40, "g": 5, "o": 37, "kh": 3, "kw": 3, "top": 0, "left": 0, "stride_h": 1, "stride_w": 2},
    {"n": 7, "h": 15, "w": 14, "g": 16, "o": 24, "kh": 1, "kw": 1},
    {"n": 5, "h": 31, "w": 27, "g": 1, "o": 1, "kh": 3, "kw": 3, "top": 1, "left": 1, "groups": 21},
)
"""Of several bands, and pieces of bands, on every way through the kernel."""


@pytest.fixture
def three_threads():
    """Three threads, which take every phase of more than one piece, however short it is."""
    cost, threads = _core.parallel_cost(), _core.num_threads()
    _core.set_parallel_cost(0.0)
    _core.set_num_threads(3)
    yield
    _core.set_parallel_cost(cost)
    _core.set_num_threads(threads)


def assert_equals_two_ops(x, w, b, attrs, what):
    y, index = F.conv2d_max_pool(x, w, b, **attrs)
    if y.shape[1] * y.shape[2] == 0:
        return False
    want, cells = F.max_pool(F.conv2d(x, w, b, **attrs))
    assert_same_bits(y, want, f"{what} y")
    assert_same_bits(index, cells, f"{what} index")
    return True


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_are_those_of_the_two_ops(dtype):
    """Random numbers of every shape of the table, with numbers that are not finite among the pixels and among the weights."""
    spec, compared = specs()[OP], 0
    for sizes in spec.shapes:
        rng = rng_of("conv pool", dtype, *sizes.values())
        sample = specs()["conv2d_forward"].case(rng, dtype, **sizes)
        x, w, b = (sample.inputs[k] for k in ("x", "w", "b"))
        attrs = {k: int(v) for k, v in sample.attrs.items()}
        compared += assert_equals_two_ops(x, w, b, attrs, sample.label)
        assert_equals_two_ops(x, w, None, attrs, f"{sample.label} without bias")
        for spoiled in (x, w):
            if spoiled.size:
                spoiled.flat[:: max(1, spoiled.size // 3)] = np.nan
                spoiled.flat[spoiled.size // 2] = np.inf
                assert_equals_two_ops(x, w, b, attrs, f"{sample.label} not finite")
    assert compared > 25


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", LARGE, ids=lambda s: f"{s['h']}x{s['w']}x{s['g']}to{s['o']}")
def test_bits_do_not_depend_on_threads_bands_or_batch(sizes, dtype, three_threads):
    rng = rng_of("conv pool large", dtype, *sizes.values())
    sample = specs()["conv2d_forward"].case(rng, dtype, **sizes)
    x, w, b = (sample.inputs[k] for k in ("x", "w", "b"))
    attrs = {k: int(v) for k, v in sample.attrs.items()}
    assert assert_equals_two_ops(x, w, b, attrs, "three threads")
    together = F.conv2d_max_pool(x, w, b, **attrs)
    _core.set_num_threads(1)
    assert assert_equals_two_ops(x, w, b, attrs, "one thread")
    for image in range(len(x)):
        alone = F.conv2d_max_pool(x[image : image + 1], w, b, **attrs)
        for one, all_of_them in zip(alone, together, strict=True):
            assert_same_bits(one, all_of_them[image : image + 1], f"image {image}")


def test_function_fills_out():
    rng = rng_of("conv pool out")
    x, w = rng.standard_normal((2, 6, 7, 3)), rng.standard_normal((3, 3, 3, 4))
    want, cells = F.conv2d_max_pool(x, w)
    assert want.shape == (2, 2, 2, 4)
    out = np.full_like(want, 7)
    y, index = F.conv2d_max_pool(x, w, out=out)
    assert y is out
    assert_same_bits(out, want)
    assert_same_bits(index, cells)
    with pytest.raises(ValueError, match="'w' has 4 output channels, expected a multiple of 'groups', 3"):
        F.conv2d_max_pool(x, w[:, :, :1].copy(), groups=3)


def network(kernel: int = 3, *, read_twice: bool = False, viewed: bool = False, **window: int) -> Graph:
    """Return a convolution, a max pool and a ReLU."""
    builder = Builder()
    x = builder.value("x", (BATCH, 9, 8, 3))
    w = builder.value("w", (kernel, kernel, 3, 4))
    (y,) = builder.emit("conv2d_forward", (x, w, None), {"stride_w": 2}, ("y",))
    (pooled, _) = builder.emit("max_pool_forward", (y,), window, ("pooled", "index"))
    builder.emit("relu_forward", (pooled,), outputs=("z",))
    if read_twice:
        builder.emit("tanh_forward", (y,), outputs=("other",))
    if viewed:
        builder.view(y, (BATCH, 7 * 3 * 4), "flat")
    return builder.graph


def test_convolution_and_pool_become_one_node():
    before = network()
    printed = str(before)
    after = fuse_conv_pool(before)
    assert str(before) == printed
    assert [n.op for n in after.nodes] == [OP, "relu_forward"]
    assert set(after.values) == set(before.values) - {"y"}
    rng = rng_of("fuse")
    values = {"x": rng.standard_normal((2, 9, 8, 3)), "w": rng.standard_normal((3, 3, 3, 4))}
    hyper = np.zeros((1, len(HYPER_FIELDS)))
    want, got = interpret(before, values, hyper), interpret(after, values, hyper)
    for name in ("pooled", "index", "z"):
        assert_same_bits(got[name], want[name])


@pytest.mark.parametrize(
    "settings",
    [{"read_twice": True}, {"viewed": True}, {"kernel": 1}, {"kernel_h": 3}, {"stride_w": 1}, {"bottom": 1}],
    ids=lambda s: next(iter(s)),
)
def test_what_it_leaves(settings):
    before = network(**settings)
    assert str(fuse_conv_pool(before)) == str(before)


def built():
    layers = (nn.Conv2d(6, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 3), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4))
    model.build((12, 12, 3), seed=3)
    return model


def test_training_and_evaluation_fuse_every_pair():
    loss, rule = SoftmaxCrossEntropy(), optim.SGD(0.1)
    fused = training_graph(built(), loss, rule)
    ops = [n.op for n in fused.nodes]
    assert ops.count(OP) == 2
    assert "conv2d_forward" not in ops and "max_pool_forward" not in ops
    apart = [n.op for n in training_graph(built(), loss, rule, fuse_pools=False).nodes]
    assert apart.count("conv2d_forward") == apart.count("max_pool_forward") == 2 and OP not in apart
    assert [n.op for n in evaluation_graph(built(), loss).nodes].count(OP) == 2
