"""The plan against the interpreter: lowering, memory, order and kernels, checked by something that shares none of them."""

from __future__ import annotations

import copy
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfastnn import data, nn, optim
from pyfastnn.backends.compare import compare
from pyfastnn.backends.cpu import HYPER, CpuPlan
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.schema import schema
from pyfastnn.nn import losses
from pyfastnn.reference import interpret
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train.compiled import training_graph
from pyfastnn.train.hyper import hyper_rows
from pyfastnn.train.updates import start_slots

DTYPES = ("float32", "float64")
FEATURES, OUTPUTS = 13, 5

# No bias before a batch norm: its gradient is nothing but rounding errors, which Adam would blow up.
NETS = {
    "linear": list,
    "relu": lambda: [nn.Linear(17), nn.ReLU()],
    "leaky_relu": lambda: [nn.Linear(17), nn.LeakyReLU(0.3)],
    "elu": lambda: [nn.Linear(17), nn.ELU(0.8)],
    "sigmoid": lambda: [nn.Linear(17), nn.Sigmoid()],
    "tanh": lambda: [nn.Linear(17, bias=False), nn.Tanh()],
    "selu": lambda: [nn.Linear(17), nn.SELU()],
    "gelu": lambda: [nn.Linear(17), nn.GELU(), nn.Linear(9), nn.GELU("tanh")],
    "silu": lambda: [nn.Linear(17), nn.SiLU()],
    "softplus": lambda: [nn.Linear(17), nn.Softplus()],
    "prelu": lambda: [nn.Linear(17), nn.PReLU(), nn.Linear(9), nn.PReLU(shared=True)],
    "softmax": lambda: [nn.Linear(17), nn.Softmax(), nn.Linear(9), nn.LogSoftmax()],
    "maxout": lambda: [nn.Maxout(17), nn.Maxout(9, pieces=3)],
    "batch_norm": lambda: [nn.Linear(17, bias=False), nn.BatchNorm(), nn.ReLU()],
    "dropout": lambda: [nn.Linear(17), nn.ReLU(), nn.Dropout(0.3)],
    "deep": lambda: [
        nn.BatchNorm(momentum=0.3),
        nn.Linear(31),
        nn.ELU(),
        nn.Dropout(0.2),
        nn.Linear(9, bias=False),
        nn.BatchNorm(),
        nn.Tanh(),
        nn.Dropout(0.1),
    ],
}
OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.1, weight_decay=0.01),
    "momentum": lambda: optim.SGD(0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda: optim.SGD(0.05, momentum=0.8, nesterov=True),
    "adam": lambda: optim.Adam(0.02, weight_decay=0.01),
    "adamw": lambda: optim.AdamW(0.02, beta1=0.8, eps=1e-6, weight_decay=0.1),
    "adagrad": lambda: optim.AdaGrad(0.05, eps=1e-6, weight_decay=0.01),
    "rmsprop": lambda: optim.RMSProp(0.01, rho=0.9, eps=1e-4, weight_decay=0.01),
    "rmsprop_momentum": lambda: optim.RMSProp(0.01, rho=0.9, eps=1e-4, momentum=0.8),
    "everything": lambda: optim.SGD(
        0.05, momentum=0.9, weight_decay=0.01, l1=1e-3, clip_norm=0.2, clip_value=0.1, max_norm=1.5, ema=0.9
    ),
}
LOSSES = {"cross_entropy": losses.SoftmaxCrossEntropy, "squared_error": losses.MeanSquaredError}


class Case:
    """A network with loss, optimizer and data: what plan and interpreter both start from."""

    def __init__(
        self, net="relu", loss="cross_entropy", optimizer="momentum", dtype="float32", hoist=True, pixels=False
    ):
        rng = rng_of("plan", net, loss, optimizer)
        self.dtype = dtype
        preprocess = data.Standardize() if pixels else None
        self.model = nn.Sequential(*NETS[net](), nn.Linear(OUTPUTS), preprocess=preprocess, dtype=dtype)
        X = rng.integers(0, 256, (50, FEATURES)).astype(np.uint8) if pixels else rng.standard_normal((50, FEATURES))
        self.X = X if pixels else X.astype(dtype)
        if pixels:
            preprocess.fit(self.X)
        self.model.build((FEATURES,), seed=3)
        self.loss, self.optimizer = LOSSES[loss](), OPTIMIZERS[optimizer]()
        classes = loss == "cross_entropy"
        self.y = rng.integers(0, OUTPUTS, 50) if classes else rng.standard_normal((50, OUTPUTS)).astype(dtype)
        self.index = rng.permutation(50)
        self.graph = training_graph(self.model, self.loss, self.optimizer, hoist=hoist)
        self.state = {**self.model.state_dict(), **start_slots(self.model, self.optimizer)}

    def plan(self, max_batch=16, **switches) -> CpuPlan:
        outputs = {o: "step" for n in self.graph.nodes for o in n.outputs if o in ("loss", "correct")}
        return CpuPlan({"train": self.graph}, outputs, max_batch=max_batch, dtype=self.dtype, **switches)

    def arrays(self, steps: int) -> dict[str, np.ndarray]:
        """Return fresh copies of everything a run of some steps needs."""
        state = {k: a.copy() for k, a in self.state.items()}
        results = {"loss": np.full(steps, np.nan), "correct": np.full(steps, np.nan)}
        if self.loss.task == "regression":
            del results["correct"]
        return {**state, **self.model.folded(), "X": self.X, "y": self.y, "index": self.index, **results}

    def run(self, plan: CpuPlan, rows: int, batch: int) -> dict[str, np.ndarray]:
        """Train natively and return losses and state."""
        steps = -(-rows // batch)
        arrays = self.arrays(steps)
        done = plan.run("train", rows, batch, arrays, hyper=hyper_rows(self.optimizer, 1, steps, 7))
        assert done == (steps, "finished")
        return {k: arrays[k] for k in (*self.state, "loss")}

    def interpret(self, rows: int, batch: int) -> dict[str, np.ndarray]:
        """Train with the NumPy reference in float64."""
        steps = -(-rows // batch)
        hyper = hyper_rows(self.optimizer, 1, steps, 7)
        state, found = dict(self.state), []
        for k in range(steps):
            inputs = {"X": self.X, "y": self.y, "index": self.index[k * batch : min(rows, (k + 1) * batch)]}
            values = interpret(self.graph, {**state, **self.model.folded(), **inputs}, hyper[k])
            state = {name: values[name] for name in state}
            found.append(values["loss"][0])
        return {**state, "loss": np.array(found)}


def assert_near(got: dict[str, np.ndarray], want: dict[str, np.ndarray], case: Case) -> None:
    """Compare in the norm of each array: a few hundred roundings a step and a few steps stay under 1e-4 (2**-24 each) and 1e-12.

    Where Adam divides by the root of a tiny second moment the rounding error of a gradient is blown up: ten times as much there.
    """
    bound = (1e-4 if case.dtype == "float32" else 1e-12) * (10 if "adam" in case.optimizer.op else 1)
    scale = max(1.0, *(float(np.linalg.norm(a)) for a in want.values()))
    for name, array in want.items():
        size = float(np.linalg.norm(array))
        error = float(np.linalg.norm(got[name] - array))
        assert error <= bound * size + 1e-2 * bound * scale, f"{name}: {error:.3g} of {size:.3g}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", NETS)
def test_networks_train_as_in_the_interpreter(net, dtype):
    """Four steps, the last one smaller."""
    case = Case(net, dtype=dtype)
    want = case.interpret(45, 13)
    assert_near(case.run(case.plan(), 45, 13), want, case)
    moved = [np.linalg.norm(want[k] - a) / (1 + np.linalg.norm(a)) for k, a in case.state.items()]
    assert min(moved) > 1e-3, "a state that hardly moves proves nothing"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_and_losses_as_in_the_interpreter(optimizer, loss, dtype):
    case = Case("batch_norm", loss, optimizer, dtype)
    assert_near(case.run(case.plan(), 45, 13), case.interpret(45, 13), case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uint8_rows_with_preprocessing_as_in_the_interpreter(dtype):
    case = Case("relu", dtype=dtype, pixels=True)
    assert_near(case.run(case.plan(), 45, 13), case.interpret(45, 13), case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("net", "optimizer"), [*product(NETS, ["adam"]), *product(["deep"], OPTIMIZERS)])
def test_every_node_is_within_the_bound_of_its_op(net, optimizer, dtype):
    """Two native steps, each node judged on the inputs it had, with the computed bound of its op."""
    case = Case(net, optimizer=optimizer, dtype=dtype)
    plan, arrays = case.plan(), case.arrays(1)
    for step in (1, 2):
        hyper = hyper_rows(case.optimizer, step, 1, 7)
        assert compare(plan, "train", 15, arrays, hyper=hyper) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("net", ["batch_norm", "deep"])
def test_memory_switches_change_no_bit(net, dtype):
    case = Case(net, optimizer="adam", dtype=dtype)
    want = case.run(case.plan(), 45, 13)
    for reuse, inplace, poison in product((False, True), repeat=3):
        got = case.run(case.plan(reuse=reuse, inplace=inplace, poison=poison), 45, 13)
        for name, array in want.items():
            assert_same_bits(got[name], array, f"{name} with {reuse=} {inplace=} {poison=}")


@pytest.mark.parametrize("net", NETS)
def test_reuse_and_inplace_save_memory(net):
    case = Case(net)
    sizes = [
        case.plan(reuse=r, inplace=i).native.scratch_bytes for r, i in [(False, False), (True, False), (True, True)]
    ]
    assert sizes[0] > sizes[1] >= sizes[2]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", ["relu", "deep"])
def test_hoisted_updates_change_no_bit(net, optimizer):
    hoisted, straight = Case(net, optimizer=optimizer), Case(net, optimizer=optimizer, hoist=False)
    assert [n.outputs for n in hoisted.graph.nodes] != [n.outputs for n in straight.graph.nodes]
    want = straight.run(straight.plan(), 45, 13)
    for name, array in hoisted.run(hoisted.plan(), 45, 13).items():
        assert_same_bits(array, want[name], name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 15, 16])
@pytest.mark.parametrize("net", ["relu", "batch_norm", "deep"])
def test_rows_of_a_step_below_the_largest(net, rows, dtype):
    """A step of n rows does not depend on what the plan was compiled for, and means divide by n."""
    case = Case(net, dtype=dtype)
    got = case.run(case.plan(max_batch=16), rows, 16)
    for name, array in case.run(case.plan(max_batch=rows), rows, rows).items():
        assert_same_bits(got[name], array, name)
    assert_near(got, case.interpret(rows, 16), case)


@pytest.mark.parametrize("net", ["relu", "deep"])
def test_one_run_equals_many(net):
    """Forty-five rows in one call, and one call a step with arrays bound anew, in a plan that ran other sizes before."""
    case = Case(net, optimizer="adam")
    want = case.run(case.plan(), 45, 13)
    plan = case.plan()
    case.run(plan, 7, 3)
    arrays = case.arrays(1)
    found = []
    for k in range(4):
        index = case.index[13 * k : min(45, 13 * k + 13)].copy()
        hyper = hyper_rows(case.optimizer, k + 1, 1, 7)
        plan.run("train", len(index), 13, {**arrays, "index": index}, hyper=hyper)
        found.append(arrays["loss"][0])
    assert_same_bits(np.array(found), want["loss"], "loss")
    for name in case.state:
        assert_same_bits(arrays[name], want[name], name)


def test_no_rows_do_nothing():
    case = Case()
    arrays = case.arrays(1)
    assert case.plan().run("train", 0, 16, arrays, hyper=hyper_rows(case.optimizer, 1, 1, 7)) == (0, "finished")
    for name, array in case.state.items():
        assert_same_bits(arrays[name], array, name)


def overlaps(plan: CpuPlan, name: str) -> list[tuple[str, str]]:
    """Return pairs of values that share memory while both are needed, in-place steps excepted."""
    steps = plan.native.layout(name)
    first, last, place = {}, {}, {}
    for s, step in enumerate(steps):
        for value in step["inputs"]:
            if value is not None:
                last[value] = s
        for value, (_, size, offset) in zip(step["outputs"], step["places"], strict=True):
            first.setdefault(value, s)
            last[value] = max(s, last.get(value, s))
            place[value] = (offset, offset + size)
    scratch = [v for v in first if place[v][0] >= 0]
    found = []
    for i, a in enumerate(scratch):
        for b in scratch[i + 1 :]:
            together = first[a] <= last[b] and first[b] <= last[a]
            shared = place[a][0] < place[b][1] and place[b][0] < place[a][1]
            step = steps[first[b]]
            taken_over = (
                last[a] == first[b]
                and schema(step["op"]).inplace
                and step["inputs"].count(a) == 1
                and (step["inputs"][0], step["outputs"][0]) == (a, b)
                and place[a] == place[b]
            )
            if together and shared and not taken_over:
                found.append((a, b))
    return found


@pytest.mark.parametrize("hoist", [False, True])
@pytest.mark.parametrize("net", NETS)
def test_no_two_live_values_overlap(net, hoist):
    assert overlaps(Case(net, hoist=hoist).plan(max_batch=64), "train") == []


def test_overlap_check_sees_an_overlap():
    """The check above is itself checked: with a layout told wrong it names the pair."""
    case = Case("deep")
    plan = case.plan()

    class Spoiled:
        def layout(self, name):
            rows = copy.deepcopy(plan.native.layout(name))
            rows[1]["places"][0] = (*rows[1]["places"][0][:2], rows[0]["places"][0][2])
            return rows

    spoiled = copy.copy(plan)
    spoiled.native = Spoiled()
    assert overlaps(plan, "train") == []
    assert overlaps(spoiled, "train") != []


UNARY = ("relu_forward", "tanh_forward", "leaky_relu_forward", "elu_forward", "dropout_forward", "linear_db")


@st.composite
def random_graphs(draw) -> tuple[Graph, dict[str, tuple[int, ...]], list[str]]:
    """Draw a graph of elementwise ops, sums, products, batch norms and backward nodes, with values of several widths."""
    builder = Builder(training=True)
    widths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    values = {builder.value(f"x{k}", (BATCH, w)): w for k, w in enumerate(widths)}
    shapes: dict[str, tuple[int, ...]] = {}

    def parameter(shape: tuple[int, ...]) -> str:
        shapes[f"p{len(shapes)}"] = shape
        return builder.value(f"p{len(shapes) - 1}", shape, kind="parameter")

    for _ in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(list(values)))
        kind = draw(st.sampled_from((*UNARY, "add", "linear_forward", "batch_norm_forward", "relu_backward")))
        width = values[x]
        if kind in ("add", "relu_backward"):
            other = draw(st.sampled_from([v for v, w in values.items() if w == width]))
            made = builder.emit(kind, (x, other))
        elif kind == "linear_forward":
            wide = draw(st.integers(1, 40))
            made = builder.emit(kind, (x, parameter((width, wide)), None))
            values[made[0]] = wide
            continue
        elif kind == "batch_norm_forward":
            made = builder.emit(kind, (x, *(parameter((width,)) for _ in range(4))))
        else:
            made = builder.emit(kind, (x,))
        if kind != "linear_db":
            values[made[0]] = width
    results = draw(st.lists(st.sampled_from(list(values)), min_size=1, max_size=3, unique=True))
    return builder.graph, shapes, [v for v in results if not v.startswith("x")]


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(random_graphs(), st.integers(1, 9))
def test_random_graphs_keep_live_values_apart(drawn, rows):
    """No two live values overlap, and neither sharing memory nor poison in it changes a bit of any result."""
    graph, shapes, results = drawn
    rng = np.random.default_rng(rows)
    arrays = {k: rng.standard_normal(s).astype("f4") for k, s in shapes.items()}
    for name, value in graph.values.items():
        if value.kind == "input":
            arrays[name] = rng.standard_normal((rows, value.shape[1])).astype("f4")
    hyper = np.zeros((1, 1, len(HYPER)))
    found = []
    for switches in ({}, {"poison": True}, {"reuse": False, "inplace": False}):
        plan = CpuPlan({"run": graph}, dict.fromkeys(results, "row"), max_batch=9, **switches)
        assert overlaps(plan, "run") == []
        given_arrays = {k: a.copy() for k, a in arrays.items()}
        used = {i for n in graph.nodes for i in n.inputs}
        out = {v: np.full((rows, graph.values[v].shape[1]), np.nan, "f4") for v in results}
        plan.run("run", rows, 9, {**{k: a for k, a in given_arrays.items() if k in used}, **out}, hyper=hyper)
        found.append({**given_arrays, **out})
    for a, b in pairwise(found):
        for name in a:
            assert_same_bits(b[name], a[name], name)
    want = interpret(graph, arrays, hyper[0])
    for name in results:
        scale = np.abs(want[name]).max(initial=1.0)
        assert np.abs(found[0][name] - want[name]).max(initial=0) <= 1e-3 * scale, name


def test_describe_lists_every_step():
    case = Case("deep")
    plan = case.plan()
    lines = plan.describe("train").splitlines()
    assert lines[0] == f"plan 'train' (float32, up to 16 rows, {plan.native.scratch_bytes} bytes of scratch)"
    assert len(lines) == 1 + len(case.graph.nodes)
    for line, node in zip(lines[1:], case.graph.nodes, strict=True):
        assert f" {node.op}(" in line
        assert all(f"{o}[" in line for o in node.outputs)
    assert "x[16, 13] 832 B @" in lines[1]
    assert "linear_1.w[13, 31] 1612 B bound" in plan.describe("train")


def test_describe_of_an_unknown_list():
    with pytest.raises(ValueError, match="no step list is named 'tarin'"):
        Case().plan().describe("tarin")


@pytest.mark.parametrize("dtype", DTYPES)
def test_trace_returns_every_value(dtype):
    """Values are those of the interpreter, also where the plan has overwritten them since; times are positive."""
    case = Case("deep", dtype=dtype)
    arrays = case.arrays(1)
    values, times = case.plan().trace("train", 13, arrays, hyper=hyper_rows(case.optimizer, 1, 1, 7))
    assert [op for op, _ in times] == [n.op for n in case.graph.nodes]
    assert all(seconds >= 0 for _, seconds in times)
    inputs = {**case.state, "X": case.X, "y": case.y, "index": case.index[:13]}
    want = interpret(case.graph, inputs, hyper_rows(case.optimizer, 1, 1, 7)[0])
    assert set(values) == {o for n in case.graph.nodes for o in n.outputs}
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for name, value in values.items():
        assert value.shape == want[name].shape, name
        scale = max(1e-3, float(np.abs(want[name]).max()))
        assert np.abs(value - want[name]).max() <= 10 * tolerance * scale, name
    for name in case.state:
        assert_same_bits(values[name], arrays[name], name)


def test_trace_takes_the_step_that_run_takes():
    case = Case("deep", optimizer="adam")
    want = case.run(case.plan(), 13, 13)
    arrays = case.arrays(1)
    case.plan().trace("train", 13, arrays, hyper=hyper_rows(case.optimizer, 1, 1, 7))
    for name, array in want.items():
        assert_same_bits(arrays[name], array, name)


class Planted:
    """A native plan whose trace has one value made wrong."""

    def __init__(self, native, step: int, output: int, spoil) -> None:
        self._native, self._step, self._output, self._spoil = native, step, output, spoil

    def trace(self, *args, **kwargs):
        rows = self._native.trace(*args, **kwargs)
        values = rows[self._step][1]
        name = list(values)[self._output]
        values[name] = self._spoil(values[name].copy())
        return rows


def largest_off_by_a_thousandth(a: np.ndarray) -> np.ndarray:
    at = np.abs(a).argmax()
    a.reshape(-1)[at] = a.reshape(-1)[at] * 1.001 if a.dtype.kind == "f" else 1 - a.reshape(-1)[at]
    return a


def nan_at_the_end(a: np.ndarray) -> np.ndarray:
    a.reshape(-1)[-1] = np.nan if a.dtype.kind == "f" else 77
    return a


@pytest.mark.parametrize("spoil", [largest_off_by_a_thousandth, nan_at_the_end])
def test_compare_names_the_node_with_a_planted_error(spoil):
    """Every output of every node in turn; later nodes are judged on what they were given, so only this one is named."""
    case = Case("deep", optimizer="adam")
    plan = case.plan()
    native, hyper = plan.native, hyper_rows(case.optimizer, 1, 1, 7)
    planted = 0
    for step, node in enumerate(case.graph.nodes):
        for output, name in enumerate(node.outputs):
            plan.native = Planted(native, step, output, spoil)
            difference = compare(plan, "train", 13, case.arrays(1), hyper=hyper)
            assert difference is not None, f"{node.op} {name}"
            assert (difference.op, difference.value) == (node.op, name)
            assert difference.error > difference.bound
            assert str(difference).startswith(f"{node.op} writes {name!r} with an error of ")
            planted += 1
    assert planted > 40


def test_compare_finds_a_wrong_lowering():
    """A plan whose slope differs from the graph's, and one that feeds another value to a node."""
    case = Case("leaky_relu")
    for wrong in ("attribute", "input"):
        bent = copy.deepcopy(case.graph)
        at = next(k for k, n in enumerate(bent.nodes) if n.op == "leaky_relu_backward")
        if wrong == "attribute":
            bent.nodes[at].attrs["negative_slope"] = 0.31
        else:
            object.__setattr__(bent.nodes[at], "inputs", tuple(reversed(bent.nodes[at].inputs)))
        plan = case.plan()
        right, plan.graphs = plan.graphs, {"train": bent}
        other = CpuPlan(plan.graphs, {"loss": "step", "correct": "step"}, max_batch=16)
        other.graphs = right
        difference = compare(other, "train", 13, case.arrays(1), hyper=hyper_rows(case.optimizer, 1, 1, 7))
        assert difference is not None
        assert difference.op == "leaky_relu_backward"
