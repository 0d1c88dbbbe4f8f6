"""The number of threads changes no bit, and forked children are not left waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import pyfastnn
from pyfastnn import _core
from pyfastnn.reference import Sample, specs
from pyfastnn.testing import DTYPES, assert_same_bits, make_call, op_table, rng_of, run, samples_of

OPS = list(op_table())
THREADS = (2, 7)

# Below this estimate, in nanoseconds, a phase stays on one thread; csrc/core/run.cpp has the same.
# Shapes of several pieces, beside which the samples of the specs mostly have one.
CONV = {"n": 23, "h": 13, "w": 11, "kh": 3, "kw": 3, "sh": 1, "sw": 1, "p": 1, "d": 1, "g": 1}
POOL = {"n": 9, "h": 23, "w": 26, "c": 37, "kh": 2, "kw": 2, "sh": 2, "sw": 2, "p": 0}
POOLS = [POOL, {**POOL, "kh": 3, "kw": 3, "p": 1}]
REGRESSION = [{"size": 300007}, {"n": 100003, "outputs": 1}, {"n": 5003, "outputs": 33}]
IMAGES = {"n": 19, "h": 13, "w": 14, "kh": 3, "kw": 3, "top": 1, "left": 1}
CONVOLUTIONS = [
    {**IMAGES, "g": 5, "o": 50}, {**IMAGES, "g": 3, "o": 6}, {**IMAGES, "g": 5, "o": 3}, {**IMAGES, "g": 9, "o": 17, "groups": 3},
    {**IMAGES, "g": 20, "o": 30, "stride_h": 2, "stride_w": 2}, {**IMAGES, "n": 1, "h": 90, "w": 70, "g": 17, "o": 40},
    {**IMAGES, "n": 1, "h": 80, "w": 90, "g": 4, "o": 4}, {**IMAGES, "kh": 1, "kw": 1, "top": 0, "left": 0, "g": 40, "o": 30},
]  # fmt: skip
EXTRA = {
    "conv2d_forward": CONVOLUTIONS,
    "conv2d_dx": CONVOLUTIONS,
    "linear_forward": [{"n": 517, "i": 300, "o": 130}, {"n": 70, "i": 1500, "o": 700}],
    "linear_dx": [{"n": 517, "i": 300, "o": 130}, {"n": 70, "i": 700, "o": 1500}],
    "linear_dw": [{"n": 517, "i": 300, "o": 130}, {"n": 1500, "i": 200, "o": 70}],
    "linear_forward_bf16": [{"n": 517, "i": 301, "o": 130}, {"n": 70, "i": 2500, "o": 700}],
    "linear_dx_bf16": [{"n": 517, "i": 300, "o": 131}, {"n": 70, "i": 700, "o": 2500}],
    "linear_dw_bf16": [{"n": 517, "i": 300, "o": 130}, {"n": 2501, "i": 200, "o": 70}],
    "linear_db": [{"n": 3000, "i": 1, "o": 517}, {"n": 9001, "i": 1, "o": 6}, {"n": 5003, "i": 1, "o": 40}],
    "max_norm": [{"rows": 5003, "o": 33}, {"rows": 700, "o": 257}],
    "maxout_forward": [{"n": 517, "m": 33, "k": 2}, {"n": 301, "m": 17, "k": 5}],
    "maxout_backward": [{"n": 517, "m": 33, "k": 2}, {"n": 301, "m": 17, "k": 5}],
    "softmax_cross_entropy": [{"n": 5003, "c": 10}, {"n": 1001, "c": 77}, {"n": 3001, "c": 10, "weighted": 1}],
    "multiclass_hinge": [{"n": 5003, "c": 10}, {"n": 1001, "c": 77}, {"n": 3001, "c": 10, "weighted": 1}],
    "binary_cross_entropy": [{"n": 5003, "c": 33}, {"n": 3001, "c": 10, "weighted": 1}],
    "mean_squared_error": REGRESSION,
    "mean_absolute_error": REGRESSION,
    "huber": REGRESSION,
    "poisson": REGRESSION,
    "add_losses": [{"pair": 0}],
    "gather_rows": [{"m": 300, "n": 517, "f": 1031}],
    "gather_labels": [{"m": 1000, "n": 100003}],
    "group_norm_forward": [{"n": 9, "s": 131, "g": 10, "k": 23}],
    "group_norm_backward": [{"n": 9, "s": 131, "g": 10, "k": 23}],
    "dropout_channels_forward": [{"n": 80, "s": 31, "c": 130}, {"n": 3, "s": 5003, "c": 7}],
    "dropout_channels_backward": [{"n": 80, "s": 31, "c": 130}, {"n": 3, "s": 5003, "c": 7}],
    "embedding_forward": [{"v": 50, "n": 5003, "d": 33}],
    "embedding_dw": [{"v": 517, "n": 3001, "d": 33}],
    "concat": [{"n": 1003, "p": 30, "q": 77}],
    "slice": [{"n": 1003, "start": 30, "kept": 77, "end": 5}],
    "slice_backward": [{"n": 1003, "start": 30, "kept": 77, "end": 5}],
    "conv2d_dw": [
        {**CONV, "c": 3, "o": 6, "kh": 5, "kw": 5, "p": 2},
        {**CONV, "c": 1, "o": 16},
        {**CONV, "c": 5, "o": 50},
        {**CONV, "c": 12, "o": 12, "g": 12},
        {**CONV, "n": 1, "h": 90, "w": 80, "c": 9, "o": 20},
    ],
    "conv2d_dw_pooled": [
        {"n": 23, "h": 14, "w": 12, "c": 3, "o": 6, "kh": 5, "kw": 5, "p": 2},
        {"n": 1, "h": 90, "w": 80, "c": 9, "o": 20, "kh": 3, "kw": 3, "p": 1},
    ],
    "conv2d_dx_pooled": [
        {"n": 23, "h": 14, "w": 12, "c": 6, "o": 16, "kh": 3, "kw": 3, "p": 1},
        {"n": 3, "h": 50, "w": 40, "c": 9, "o": 20, "kh": 5, "kw": 3, "p": 1},
    ],
    "conv2d_max_pool_forward": [
        {"n": 23, "h": 33, "w": 32, "g": 3, "o": 6, "kh": 5, "kw": 5, "top": 2, "left": 2},
        {"n": 9, "h": 33, "w": 40, "g": 6, "o": 20, "kh": 3, "kw": 3, "top": 1, "left": 1},
        {"n": 9, "h": 33, "w": 40, "g": 6, "o": 20, "kh": 1, "kw": 1},
    ],
    "global_avg_pool_forward": [{"n": 37, "h": 20, "w": 21, "c": 33}],
    "global_avg_pool_backward": [{"n": 37, "h": 20, "w": 21, "c": 33}],
    "gather_csr": [{"m": 300, "n": 517, "f": 1031}],
    "augment": [{"n": 67, "h": 19, "w": 17, "c": 3}, {"n": 130, "h": 8, "w": 9, "c": 1}],
    "augment_backward": [{"n": 67, "h": 19, "w": 17, "c": 3}, {"n": 130, "h": 8, "w": 9, "c": 1}],
}
ELEMENTWISE = [{"size": 300007}]
EXTRA |= {f"{kind}_pool_{way}": POOLS for kind in ("max", "avg") for way in ("forward", "backward")}
NORM = [{"n": 1031, "c": 130}, {"n": 5003, "c": 33}]


@pytest.fixture(autouse=True)
def restore_threads():
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture
def eager_threads():
    """Hand every phase of more than one piece to the threads, however short it is."""
    before = _core.parallel_cost()
    _core.set_parallel_cost(0.0)
    yield
    _core.set_parallel_cost(before)


def big_samples(op: str, dtype: str) -> list[Sample]:
    spec = specs()[op]
    shapes = EXTRA.get(op) or (NORM if "c" in spec.bench[0] else ELEMENTWISE)
    return [spec.case(rng_of(op, dtype, "threads"), dtype, **sizes) for sizes in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_same_bits_for_any_number_of_threads(op, dtype, eager_threads):
    for sample in [*big_samples(op, dtype), *samples_of(op, dtype).values()]:
        _core.set_num_threads(1)
        want = run(make_call(op, sample, dtype))
        for threads in THREADS:
            _core.set_num_threads(threads)
            got = run(make_call(op, sample, dtype))
            for k, (a, b) in enumerate(zip(got, want, strict=True)):
                assert_same_bits(a, b, f"{op} {sample.label} output {k} with {threads} threads")


WOKEN = r"""
import os, sys
sys.path.insert(0, sys.argv[1])
import test_threads as t
from pyfastnn import _core

_core.set_parallel_cost(0.0)
for threads, op in enumerate(t.OPS, 2):  # one thread more for each op, so that each must start one
    _core.set_num_threads(threads)
    for sample in t.big_samples(op, "float32"):
        t.run(t.make_call(op, sample, "float32"))
    print(op, len(os.listdir("/proc/self/task")) - threads)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_shapes_of_these_tests_use_threads():
    """Every op wakes threads on its large shapes; otherwise equal bits prove nothing."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WOKEN, os.path.dirname(os.path.abspath(__file__))],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    counts = dict(line.split() for line in ran.stdout.splitlines())
    assert set(counts) == set(OPS)
    assert [op for op in OPS if counts[op] != "0"] == ["add_losses"], "which has one item"


def test_threads_are_set_and_read():
    for n in (1, 2, 5):
        _core.set_num_threads(n)
        assert _core.num_threads() == n
        pyfastnn.set_num_threads(np.int64(n + 1))
        assert pyfastnn.num_threads() == n + 1
    with pytest.raises(ValueError, match="-1"):
        _core.set_num_threads(-1)
    pyfastnn.set_num_threads(0)
    assert pyfastnn.num_threads() >= 1


FORK = r"""
import os, signal, sys
import numpy as np
from pyfastnn import _core

rng = np.random.default_rng(0)
x, w = rng.standard_normal((300, 400)), rng.standard_normal((400, 500))
_core.set_num_threads(4)
want = _core.call("linear_forward", (x, w, None))[0]
for attempt in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        got = _core.call("linear_forward", (x, w, None))[0]
        grand = os.fork()
        if grand == 0:
            signal.alarm(10)
            again = _core.call("linear_forward", (x, w, None))[0]
            os._exit(0 if again.tobytes() == want.tobytes() else 4)
        same = os.waitstatus_to_exitcode(os.waitpid(grand, 0)[1]) == 0
        os._exit(0 if same and got.tobytes() == want.tobytes() else 3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        sys.exit(f"child {attempt} ended with {status}")
    if _core.call("linear_forward", (x, w, None))[0].tobytes() != want.tobytes():
        sys.exit("the parent computes something else after the fork")
print("forked")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_a_parallel_region():
    """Child and grandchild compute the same bits within seconds, and the parent goes on."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "forked"), ran.stderr[-2000:]


def test_python_threads_share_nothing(eager_threads):
    """Eight Python threads that call at once get what one gets alone."""
    op = "linear_forward"
    sample = specs()[op].case(rng_of("shared"), "float32", n=120, i=300, o=130)
    labels = np.arange(120) % 130
    want = run(make_call(op, sample, "float32"))[0]
    want_loss = _core.call("softmax_cross_entropy", (want, labels, None, None))
    wrong: list[str] = []

    def work() -> None:
        for _ in range(8):
            got = run(make_call(op, sample, "float32"))[0]
            loss = _core.call("softmax_cross_entropy", (got, labels, None, None))
            if got.tobytes() != want.tobytes() or loss[2].tobytes() != want_loss[2].tobytes():
                wrong.append("bits differ")

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []
