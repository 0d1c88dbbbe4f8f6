"""What stands after the gradients: rules against PyTorch, clipping, penalties, bounds, running means, groups, and the order of it all."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyfastnn as fnn
from pyfastnn import functional as F
from pyfastnn import nn, optim
from pyfastnn.backends.cpu import HYPER
from pyfastnn.graph import Builder, Graph
from pyfastnn.graph.rewrites import hoist_updates
from pyfastnn.nn.layer import Parameter
from pyfastnn.reference import interpret
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train.compiled import training_graph
from pyfastnn.train.hyper import hyper_rows
from pyfastnn.train.updates import COMMON, parameter_groups, penalty_graph

ROWS, FEATURES, CLASSES, STEPS = 24, 6, 4, 12
RNG = rng_of("updates")
X = RNG.standard_normal((ROWS, FEATURES))
Y = RNG.integers(0, CLASSES, ROWS)
WEIGHTS = ("linear_1.w", "linear_2.w")


def model(dtype: str = "float64") -> nn.Model:
    return nn.Sequential(nn.Linear(9), nn.Tanh(), nn.Linear(CLASSES), dtype=dtype).build((FEATURES,), seed=5)


def trained(optimizer: optim.Optimizer, steps: int = STEPS, dtype: str = "float64") -> fnn.Trainer:
    trainer = fnn.Trainer(model(dtype), optimizer=optimizer)
    for _ in range(steps):
        trainer.step(X.astype(dtype), Y)
    return trainer


RULES = {
    "adagrad": (
        lambda **k: optim.AdaGrad(0.05, eps=1e-6, weight_decay=0.02, **k),
        "Adagrad",
        {"lr": 0.05, "eps": 1e-6},
    ),
    "rmsprop": (
        lambda **k: optim.RMSProp(0.01, rho=0.9, eps=1e-5, weight_decay=0.02, **k),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-5},
    ),
    "rmsprop_momentum": (
        lambda **k: optim.RMSProp(0.01, rho=0.9, eps=1e-5, momentum=0.8, weight_decay=0.02, **k),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-5, "momentum": 0.8},
    ),
    "sgd": (lambda **k: optim.SGD(0.3, weight_decay=0.02, **k), "SGD", {"lr": 0.3}),
    "momentum": (
        lambda **k: optim.SGD(0.1, momentum=0.9, weight_decay=0.02, **k),
        "SGD",
        {"lr": 0.1, "momentum": 0.9},
    ),
    "adam": (lambda **k: optim.Adam(0.02, eps=1e-6, weight_decay=0.02, **k), "Adam", {"lr": 0.02, "eps": 1e-6}),
    "adamw": (lambda **k: optim.AdamW(0.02, eps=1e-6, weight_decay=0.02, **k), "AdamW", {"lr": 0.02, "eps": 1e-6}),
}
EXTRAS = {
    "plain": {},
    "clip_norm": {"clip_norm": 0.1},
    "clip_value": {"clip_value": 0.02},
    "both_clips": {"clip_norm": 0.05, "clip_value": 0.02},
    "loose_clips": {"clip_norm": 1e4, "clip_value": 1e4},
    "l1": {"l1": 0.01},
    "max_norm": {"max_norm": 0.8},
    "ema": {"ema": 0.7},
    "rate_factors": {"rate_factors": {"linear_1": 0.25, "linear_2.b": 2.0, "linear_1.b": 0.0}},
    "everything": {
        "clip_norm": 0.05,
        "clip_value": 0.02,
        "l1": 0.01,
        "max_norm": 0.8,
        "ema": 0.7,
        "rate_factors": {"linear_2": 0.5},
    },
}


def by_torch(rule: str, extras: dict) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train the same net in PyTorch with its own functions; return weights and running means."""
    torch = pytest.importorskip("torch", reason="compares with torch.optim")
    _, name, numbers = RULES[rule]
    arrays = {k: torch.tensor(v.copy(), requires_grad=True) for k, v in model().parameters.items()}
    factors = extras.get("rate_factors", {})
    groups = [
        {
            "params": [p],
            "lr": numbers["lr"] * factors.get(k, factors.get(k.split(".")[0], 1.0)),
            "weight_decay": 0.02 if k in WEIGHTS else 0.0,
        }
        for k, p in arrays.items()
    ]
    optimizer = getattr(torch.optim, name)(groups, **numbers)
    means = {k: p.detach().clone() for k, p in arrays.items()}
    x, y = torch.tensor(X), torch.tensor(Y)
    for _ in range(STEPS):
        optimizer.zero_grad()
        hidden = torch.tanh(x @ arrays["linear_1.w"] + arrays["linear_1.b"])
        scores = hidden @ arrays["linear_2.w"] + arrays["linear_2.b"]
        torch.nn.functional.cross_entropy(scores, y).backward()
        if "clip_value" in extras:
            torch.nn.utils.clip_grad_value_(arrays.values(), extras["clip_value"])
        if "clip_norm" in extras:
            torch.nn.utils.clip_grad_norm_(arrays.values(), extras["clip_norm"])
        with torch.no_grad():
            for k in WEIGHTS if "l1" in extras else ():
                arrays[k].grad += extras["l1"] * torch.sign(arrays[k])
            optimizer.step()
            for k in WEIGHTS if "max_norm" in extras else ():
                arrays[k].copy_(torch.renorm(arrays[k], 2, 1, extras["max_norm"]))
            for k, p in arrays.items():
                means[k].lerp_(p, 1 - extras.get("ema", 0.0))
    return ({k: p.detach().numpy() for k, p in arrays.items()}, {k: m.numpy() for k, m in means.items()})


@pytest.mark.parametrize(
    ("rule", "extra"), [*product(RULES, ["plain", "everything"]), *product(["momentum", "adam"], list(EXTRAS)[1:-1])]
)
def test_twelve_steps_as_in_pytorch(rule, extra):
    want, means = by_torch(rule, EXTRAS[extra])
    trainer = trained(RULES[rule][0](**EXTRAS[extra]))
    # torch.renorm adds 1e-7 to the norm it divides by, so its columns are shorter by that part, at every step.
    bound = STEPS * 1e-6 if "max_norm" in EXTRAS[extra] else 1e-11
    for name, array in trainer.model.parameters.items():
        np.testing.assert_allclose(array, want[name], rtol=bound, atol=bound, err_msg=name)
    if "ema" in EXTRAS[extra]:
        for name, array in trainer.ema_model().parameters.items():
            np.testing.assert_allclose(array, means[name], rtol=bound, atol=bound, err_msg=name)


@pytest.mark.parametrize("extra", [k for k in EXTRAS if k not in ("plain", "loose_clips", "ema")])
def test_every_extra_changes_the_weights(extra):
    plain, other = trained(RULES["momentum"][0]()), trained(RULES["momentum"][0](**EXTRAS[extra]))
    assert any((a != other.model.arrays()[k]).any() for k, a in plain.model.arrays().items())


@pytest.mark.parametrize("extra", ["loose_clips", "ema"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_has_nothing_to_do_changes_no_bit(extra, dtype):
    plain = trained(RULES["adam"][0](), dtype=dtype)
    other = trained(RULES["adam"][0](**EXTRAS[extra]), dtype=dtype)
    for name, array in plain.model.arrays().items():
        assert_same_bits(other.model.arrays()[name], array, name)


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_agrees_with_the_reference(extra, dtype):
    trainer = trained(RULES["rmsprop_momentum"][0](**EXTRAS[extra]), 2, dtype)
    difference = trainer.compare(X.astype(dtype), Y)
    assert difference is None, str(difference)


@pytest.mark.parametrize("rule", RULES)
def test_a_run_goes_on_from_a_checkpoint(rule, tmp_path):
    trainer = trained(RULES[rule][0](**EXTRAS["everything"]), dtype="float32")
    trainer.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    assert repr(again.optimizer) == repr(trainer.optimizer)
    for each in (trainer, again):
        each.fit(X, Y, epochs=3, batch_size=7, verbose=0)
    for name, array in {**trainer.model.arrays(), **trainer.slots}.items():
        assert_same_bits({**again.model.arrays(), **again.slots}[name], array, name)


def test_changed_gradients_take_no_memory():
    """What is cut, scaled or added to takes over the memory of the gradient."""

    def scratch(**extras: float) -> int:
        net = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(CLASSES))
        trainer = fnn.Trainer(net, optimizer=optim.Adam(**extras))
        trainer.step(X, Y)
        return int(trainer._compiled.train.native.scratch_bytes)

    assert scratch(clip_value=1.0, l1=0.1) == scratch()
    assert scratch(clip_norm=1.0, clip_value=1.0, l1=0.1) == scratch(clip_norm=1.0)


def test_numbers_may_change_without_compiling_again():
    trainer = trained(RULES["adam"][0](**EXTRAS["everything"]), 1)
    compiled, optimizer = trainer._compiled, trainer.optimizer
    optimizer.clip_norm, optimizer.clip_value, optimizer.l1, optimizer.max_norm, optimizer.ema = 1.0, 2.0, 0.1, 3.0, 0.5
    trainer.step(X, Y)
    assert trainer._compiled is compiled
    optimizer.rate_factors = {"linear_1": 3.0}
    trainer.step(X, Y)
    assert trainer._compiled is not compiled
    compiled, optimizer.clip_norm = trainer._compiled, None
    trainer.step(X, Y)
    assert trainer._compiled is not compiled


def test_any_number_may_change_between_single_steps():
    """Against a trainer whose optimizer is made anew with the changed number."""
    for name, value in (
        ("learning_rate", 0.5),
        ("beta1", 0.5),
        ("clip_norm", 0.01),
        ("ema", 0.1),
        ("weight_decay", 0.5),
    ):
        settings = {**EXTRAS["everything"], "learning_rate": 0.02, "beta1": 0.9, "weight_decay": 0.02}
        changed, anew = trained(optim.Adam(**settings), 3), trained(optim.Adam(**settings), 3)
        setattr(changed.optimizer, name, value)
        anew.optimizer = optim.Adam(**{**settings, name: value})
        for each in (changed, anew):
            each.step(X, Y)
        for key, array in {**anew.model.arrays(), **anew.slots}.items():
            assert_same_bits({**changed.model.arrays(), **changed.slots}[key], array, f"{name} {key}")
    trainer = trained(optim.SGD(0.1, rate_factors={"linear_1": 0.5}), 1)
    trainer.optimizer.rate_factors["linear_1"] = 0.0
    before = trainer.model.arrays()["linear_1.w"].copy()
    trainer.step(X, Y)
    assert_same_bits(trainer.model.arrays()["linear_1.w"], before, "a factor changed in place")


# Penalties


def test_the_penalty_of_the_history_is_that_of_the_weights():
    for make, l2 in ((optim.SGD, 0.5), (optim.Adam, 0.5), (optim.AdamW, 0.0)):
        trainer = fnn.Trainer(model(), optimizer=make(weight_decay=0.03, l1=0.02))
        history = trainer.fit(X, Y, epochs=2, verbose=0)
        weights = [trainer.model.arrays()[k] for k in WEIGHTS]
        want = sum(l2 * 0.03 * (w**2).sum() + 0.02 * np.abs(w).sum() for w in weights)
        assert history["penalty"][-1] == pytest.approx(want, rel=1e-12)
    assert penalty_graph(model(), optim.AdamW(), COMMON, WEIGHTS).nodes == []
    assert not optim.AdamW(weight_decay=0.1).penalized
    assert optim.AdamW(l1=0.1).penalized


# Running means


def test_the_mean_model_predicts_and_leaves_the_model_alone():
    trainer = fnn.Trainer(
        nn.Sequential(nn.Linear(5), nn.BatchNorm(), nn.Linear(CLASSES)), optimizer=optim.Adam(0.1, ema=0.5)
    )
    trainer.fit(X, Y, epochs=3, verbose=0)
    before = trainer.model.state_dict()
    mean = trainer.ema_model()
    assert mean.predict(X).shape == (ROWS,)
    assert (mean(X) != trainer.model(X)).any()
    for name, array in trainer.model.arrays().items():
        assert_same_bits(array, before[name], name)
        assert not np.shares_memory(array, mean.arrays()[name])
        if not trainer.model.declared[name].learned:
            assert_same_bits(array, mean.arrays()[name], name)
    with pytest.raises(RuntimeError, match="keeps no running means; make it with ema="):
        trained(optim.Adam(), 1).ema_model()
    with pytest.raises(RuntimeError, match="no running means yet"):
        fnn.Trainer(model(), optimizer=optim.Adam(ema=0.5)).ema_model()


def test_running_means_start_at_the_weights():
    trainer = trained(optim.SGD(0.0, ema=0.999), 3, "float32")
    for name, array in trainer.ema_model().parameters.items():
        assert_same_bits(array, trainer.model.arrays()[name], name)
    trainer = trained(optim.SGD(0.1, ema=0.9), 3)
    trainer.reset()
    for name, array in trainer.make_slots().items():
        assert_same_bits(array, trainer.model.arrays()[name.removesuffix(".ema")], name)


# Groups


def declared(**decays: bool) -> dict[str, Parameter]:
    return {k.replace("_", ".", 1): Parameter(k, (1,), "zeros", decay=v) for k, v in decays.items()}


def test_rows_of_hyper_are_the_pairs_that_occur():
    arrays = declared(a_w=True, a_b=False, b_w=True, b_b=False, c_w=True)
    assert parameter_groups(arrays, {}) == COMMON
    groups = parameter_groups(arrays, {"a": 0.5, "b.b": 2.0, "c": 0.5})
    assert groups.factors == (1.0, 1.0, 0.5, 0.5, 2.0)
    assert groups.decays == (True, False, True, False, False)
    assert groups.of == {"a.w": 2, "a.b": 3, "b.w": 0, "b.b": 4, "c.w": 2}
    rows = hyper_rows(optim.SGD(0.1, weight_decay=0.3, l1=0.2), 1, 2, 0, groups)
    np.testing.assert_allclose(rows[1, :, HYPER["learning_rate"]], [0.1, 0.1, 0.05, 0.05, 0.2])
    for field, value in (("weight_decay", 0.3), ("l1", 0.2)):
        assert rows[1, :, HYPER[field]].tolist() == [value, 0, value, 0, 0]


def test_the_longest_name_counts_and_unknown_ones_are_answered():
    arrays = {**declared(a_w=True), "block.conv.w": Parameter("w", (1,), "zeros", decay=True)}
    groups = parameter_groups(arrays, {"block": 0.5, "block.conv": 0.25})
    assert groups.factors[groups.of["block.conv.w"]] == 0.25
    with pytest.raises(
        ValueError, match=r"rate_factors: unknown layer or array 'block.con', did you mean 'block.conv'\?"
    ):
        parameter_groups(arrays, {"block.con": 0.5})
    trainer = fnn.Trainer(model(), optimizer=optim.SGD(rate_factors={"linear_3": 0.1}))
    with pytest.raises(ValueError, match=r"unknown layer or array 'linear_3', did you mean 'linear_[12]'\?"):
        trainer.step(X, Y)


def test_a_factor_of_zero_keeps_the_weights():
    trainer = trained(optim.AdamW(0.1, rate_factors={"linear_1": 0.0}))
    start = model()
    for name, array in trainer.model.parameters.items():
        assert (array == start.arrays()[name]).all() == name.startswith("linear_1")


# The order of the nodes


def test_nodes_of_the_update_follow_their_gradients():
    graph = training_graph(model(), fnn.nn.losses.get("softmax_cross_entropy"), RULES["adam"][0](max_norm=1.0, ema=0.9))
    ops = [n.op for n in graph.nodes]
    last = ops.index("linear_db")  # of the last layer: the first gradient
    assert "adam_step" in ops[last : last + 3]
    assert ops.index("linear_dw", ops.index("adam_step")) > ops.index("ema_step")
    for at, node in enumerate(graph.nodes):
        if node.op == "max_norm":
            assert graph.nodes[at - 1].outputs[0] == node.inputs[0]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Forward nodes, then a shuffle of nodes that read and rewrite parameters, slots and each other's results."""
    builder = Builder()
    parameters = [builder.value(f"p{k}", (3,), kind="parameter") for k in range(draw(st.integers(1, 3)))]
    states = [builder.value(f"s{k}", (3,), kind="state") for k in range(2)]
    results = [builder.value("x", (3,))]
    totals: list[str | None] = [None]
    results.append(builder.view(parameters[0], (3, 1)))
    flat = [results[0]]

    def one_of(names: list) -> str:
        return draw(st.sampled_from(names))

    for _ in range(draw(st.integers(2, 5))):
        flat += builder.emit("add", (one_of([*flat, *parameters]), one_of([*flat, *parameters])), name="forward")
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(["sgd", "ema", "norm", "squares", "clip", "l1", "max", "add", "view"]))
        if kind == "sgd":
            p, g = one_of(parameters), one_of(flat)
            builder.emit("sgd_step", (p, g), name=draw(st.sampled_from(["update", ""])))
        elif kind == "ema":
            builder.emit("ema_step", (one_of(states), one_of(parameters)), name="update")
        elif kind == "max":
            builder.emit("max_norm", (one_of(parameters),), name="update")
        elif kind == "squares":
            totals += builder.emit("sum_of_squares", (one_of([*flat, *parameters]), one_of(totals)), name="update")
        elif kind == "norm" and len(totals) > 1:
            flat += builder.emit("clip_by_norm", (one_of(flat), one_of(totals[1:])), name="update")
        elif kind == "clip":
            flat += builder.emit("clip_by_value", (one_of(flat),), name="update")
        elif kind == "l1":
            flat += builder.emit("l1_gradient", (one_of(flat), one_of(parameters)), name="update")
        elif kind == "view":
            builder.emit("relu_forward", (results[1],), name=draw(st.sampled_from(["update", "forward"])))
        else:
            flat += builder.emit("add", (one_of([*flat, *states]), one_of(flat)), name="forward")
    return builder.graph


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_hoisting_changes_no_bit(graph):
    """Every value and every state, against the order in which the nodes were added."""
    hoisted = hoist_updates(graph)
    assert sorted(map(id, hoisted.nodes)) == sorted(map(id, graph.nodes))
    values = {k: rng_of("hoist", k).standard_normal(v.shape) for k, v in graph.values.items() if v.kind != "activation"}
    numbers = {"learning_rate": 0.1, "weight_decay": 0.2, "ema_decay": 0.7, "clip_norm": 0.5, "clip_value": 0.4}
    row = np.zeros((1, len(HYPER)))
    for name, value in {**numbers, "l1": 0.3, "max_norm": 0.8}.items():
        row[0, HYPER[name]] = value
    for view in [k for k, v in graph.values.items() if v.view_of]:
        values.pop(view, None)
    want, got = interpret(graph, values, row), interpret(hoisted, values, row)
    assert list(want) and set(want) == set(got)
    for name, array in want.items():
        assert_same_bits(got[name], array, name)


# Settings


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: optim.AdaGrad(eps=0), ValueError, "AdaGrad: 'eps' is 0, expected above 0"),
        (lambda: optim.RMSProp(rho=1), ValueError, "RMSProp: 'rho' is 1"),
        (lambda: optim.RMSProp(momentum=-0.1), ValueError, "RMSProp: 'momentum' is -0.1"),
        (lambda: optim.RMSProp(alpha=0.9), TypeError, "RMSProp: unknown keyword 'alpha'"),
        (lambda: optim.SGD(clip_nrm=1), TypeError, r"SGD: unknown keyword 'clip_nrm', did you mean 'clip_norm'\?"),
        (lambda: optim.SGD(clip_norm=0), ValueError, "SGD: 'clip_norm' is 0, expected above 0"),
        (lambda: optim.Adam(clip_value=-1), ValueError, "Adam: 'clip_value' is -1"),
        (lambda: optim.Adam(l1=-1), ValueError, "Adam: 'l1' is -1"),
        (lambda: optim.Adam(max_norm="2"), TypeError, "Adam: 'max_norm' is '2', expected a number"),
        (lambda: optim.AdamW(ema=1), ValueError, "AdamW: 'ema' is 1"),
        (lambda: optim.SGD(rate_factors=[0.1]), TypeError, r"'rate_factors' is \[0.1\], expected a dict"),
        (lambda: optim.SGD(rate_factors={"a": -1}), ValueError, r"rate_factors\['a'\]"),
        (lambda: optim.get("rmspop"), ValueError, r"did you mean 'rmsprop'\?"),
        (lambda: F.ema_step(np.ones(2), np.zeros(2), decay=1.0), ValueError, "ema_step: 'decay' is 1.0"),
        (lambda: F.rmsprop_step(*np.ones((3, 2)), rho=1.5), ValueError, "rmsprop_step: 'rho' is 1.5"),
    ],
)
def test_wrong_settings_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "sgd", "momentum", "nesterov", "adam", "adamw"])
def test_rules_by_name(name):
    trainer = fnn.Trainer(model("float32"), optimizer=name)
    first = trainer.step(X, Y)
    assert all(trainer.step(X, Y) > 0 for _ in range(40))
    assert trainer.step(X, Y) < first
    assert repr(copy.deepcopy(trainer.optimizer)) == repr(optim.get(name))
