"""The shape rule, the builder and the schema: what a graph refuses, and what it infers."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.lowering import lower
from pyfastnn.graph.rewrites import drop_unread, hoist_updates
from pyfastnn.graph.schema import output_shapes, schema, schemas
from pyfastnn.reference import specs
from pyfastnn.testing import samples_of

OPS = list(schemas())


def batch_graph() -> tuple[Builder, str]:
    """Return a builder with an input of shape (n, 3)."""
    builder = Builder()
    return builder, builder.value("x", (BATCH, 3))


@pytest.mark.parametrize("op", OPS)
def test_shape_rule_agrees_with_the_reference(op):
    """The shapes inferred from the table are those the NumPy reference returns, for every sample."""
    table = schema(op)
    for sample in samples_of(op, "float64").values():
        given = [sample.inputs[arg.name] for arg in table.inputs]
        shapes = output_shapes(table, [None if a is None else a.shape for a in given], sample.attrs)
        results = specs()[op].evaluate(sample, "float64")
        assert shapes == [r.shape for r in results], sample.label


@pytest.mark.parametrize("op", OPS)
def test_schema_is_the_compiled_table(op):
    row = next(r for r in _core.op_schemas() if r["name"] == op)
    table = schema(op)
    assert [a.name for a in table.inputs] == [a["name"] for a in row["inputs"]]
    assert [a.dims for a in table.outputs] == [tuple(a["dims"]) for a in row["outputs"]]
    assert (table.attrs, table.inplace) == (row["attrs"], row["inplace"])


def test_unknown_op_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'relu_forward'"):
        schema("relu_forwrad")


@pytest.mark.parametrize(
    ("op", "shapes", "message"),
    [
        ("linear_forward", [(BATCH, 3), (4, 2), None], "'w' has shape"),
        ("linear_forward", [(BATCH, 3), (3, 2), (3,)], "'b' has shape"),
        ("linear_forward", [(BATCH,), (3, 2), None], "'x' has shape"),
        ("linear_forward", [(5, 3), (3, 2), (2, 1)], "'b' has shape"),
        ("linear_dw", [(BATCH, 3), (5, 2)], "'dy' has shape"),
        ("add", [(BATCH, 3), (BATCH, 4)], "'b' has shape"),
        ("add", [(BATCH, 3), (BATCH, 3, 1)], "'b' has shape"),
        ("softmax_cross_entropy", [(BATCH, 3), (4,), None, None], "'labels' has shape"),
        ("batch_norm_forward", [(), (3,), (3,), (3,), (3,)], "'x' has shape"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_shapes_that_do_not_fit(op, shapes, message):
    with pytest.raises(ValueError, match=f"{op}: {message}"):
        output_shapes(schema(op), shapes)


def test_batch_is_equal_to_itself_only():
    """A symbol never fits a number, so a plan cannot depend on how large the batch happens to be."""
    add = schema("add")
    assert output_shapes(add, [(BATCH, 2), (BATCH, 2)]) == [(BATCH, 2)]
    with pytest.raises(ValueError, match="add"):
        output_shapes(add, [(BATCH, 2), (7, 2)])


def test_star_stands_for_any_number_of_dimensions():
    norm = schema("batch_norm_predict")
    for shape in [(3,), (BATCH, 3), (BATCH, 8, 8, 3)]:
        assert output_shapes(norm, [shape, (3,), (3,), (3,), (3,)]) == [shape]


def test_emit_infers_and_names():
    builder, x = batch_graph()
    w = builder.value("w", (3, 5), kind="parameter")
    (y,) = builder.emit("linear_forward", (x, w, None), name="linear_1")
    (z,) = builder.emit("relu_forward", (y,), name="linear_1")
    (again,) = builder.emit("relu_forward", (y,))
    (third,) = builder.emit("relu_forward", (y,))
    assert (y, z, again, third) == ("linear_1.y", "linear_1.y_2", "relu_forward.y", "relu_forward.y_2")
    assert builder.graph.values[z].shape == (BATCH, 5)
    assert builder.graph.values[z].kind == "activation"
    assert str(builder.graph).splitlines()[0] == "linear_1.y['n', 5] = linear_forward(x, w, None)"


def test_emit_keeps_the_names_of_values_updated_in_place():
    builder = Builder()
    p = builder.value("p", (4,), kind="parameter")
    dp = builder.value("dp", (4,))
    velocity = builder.value("p.velocity", (4,), kind="state")
    assert builder.emit("momentum_step", (p, dp, velocity), group=1) == ("p", "p.velocity")
    assert builder.graph.nodes[0].group == 1
    assert list(builder.graph.values) == ["p", "dp", "p.velocity"]


def test_emit_fills_in_default_attributes():
    builder, x = batch_graph()
    builder.emit("dropout_forward", (x,), {"p": 0.25})
    assert builder.graph.nodes[0].attrs == {"p": 0.25, "node": 0}
    assert builder.graph.values["dropout_forward.mask"].dtype == "u8"


REFUSED = {
    "unknown op": (("rleu_forward", ("x",)), {}, "did you mean 'relu_forward'"),
    "unknown value": (("relu_forward", ("xx",)), {}, "unknown value for input 'x' of relu_forward"),
    "missing input": (("relu_forward", (None,)), {}, "relu_forward: input 'x' is missing"),
    "too few inputs": (("add", ("x",)), {}, "add: 1 names given for .a, b."),
    "too many inputs": (("relu_forward", ("x", "x")), {}, "relu_forward: 2 names given"),
    "too few outputs": (("dropout_forward", ("x",)), {"outputs": ("y",)}, "1 names given for .y, mask."),
    "taken output": (("relu_forward", ("x",)), {"outputs": ("x",)}, "two values are named 'x'"),
    "unknown attribute": (("relu_forward", ("x",)), {"attrs": {"slope": 1}}, "unknown attribute of relu"),
    "dtype": (("gather_labels", ("x", "x")), {}, "gather_labels: 'data' is 'x' of dtype T, expected i64"),
    "shape": (("linear_forward", ("x", "x", None)), {}, "linear_forward: 'w' has shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_emit_refuses_and_leaves_the_graph_alone(case):
    builder, _ = batch_graph()
    arguments, named, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        builder.emit(*arguments, **named)
    assert list(builder.graph.values) == ["x"]
    assert builder.graph.nodes == []


def test_value_names_are_taken_once():
    builder, _ = batch_graph()
    with pytest.raises(ValueError, match="two values are named 'x'"):
        builder.value("x", (3,))


def test_lowering_keeps_activations_apart_and_shares_the_rest():
    graphs = {}
    for name in ("train", "predict"):
        builder, x = batch_graph()
        w = builder.value("w", (3, 2), kind="parameter")
        builder.emit("linear_forward", (x, w, None), outputs=("y",))
        graphs[name] = builder.graph
    lowered = lower(graphs, {})
    assert [v[0] for v in lowered.values] == ["x", "w", "train:y", "predict:y"]
    assert [v[4] for v in lowered.values] == ["row", "none", "none", "none"]
    shared = lower(graphs, {"y": "row"})
    assert [v[0] for v in shared.values] == ["x", "w", "y"]
    assert shared.values[2] == ("y", "T", (-1, 2), True, "row", -1)


def test_what_no_step_reads_may_be_bound():
    """Inputs, parameters and state are values of a plan whether a step reads them or not."""
    builder, x = batch_graph()
    builder.value("w", (3, 2), kind="parameter")
    builder.value("rows", ("m", 4), "any")
    builder.view("w", (6,), "flat w")
    builder.emit("relu_forward", (x,), outputs=("y",))
    assert [v[0] for v in lower({"g": builder.graph}, {}).values] == ["x", "y", "w", "rows"]
    plan = CpuPlan({"g": builder.graph}, {"y": "row"}, max_batch=2)
    rows, y = np.array([[1, -2, 3], [-4, 5, -6]], np.float32), np.empty((2, 3), np.float32)
    plan.bind({"w": np.zeros((3, 2), np.float32), "rows": np.zeros((9, 4))})
    assert plan.run("g", 2, 2, {"x": rows, "y": y}) == (1, "finished")
    np.testing.assert_array_equal(y, np.maximum(rows, 0))


def test_what_nobody_reads_is_dropped():
    """Back from what is kept and from what is rewritten; through views; the old order stays."""
    builder, x = batch_graph()
    gamma, beta, mean, variance = (builder.value(k, (3,), kind="state") for k in ("gamma", "beta", "mean", "variance"))
    (a,) = builder.emit("tanh_forward", (x,), outputs=("a",))
    (b,) = builder.emit("exp_forward", (x,), outputs=("b",))
    (c,) = builder.emit("sigmoid_forward", (builder.view(b, (BATCH, 3, 1), "b view"),), outputs=("c",))
    builder.emit("relu_forward", (c,), outputs=("d",))
    builder.view(c, (BATCH, 1, 3), "c view")
    builder.emit("batch_norm_forward", (a, gamma, beta, mean, variance), outputs=("n", "m", "r", "", ""))
    builder.emit("relu_forward", (x,), outputs=("e",))
    graph, printed = builder.graph, str(builder.graph)

    def left(*keep: str) -> list[str]:
        found = drop_unread(graph, keep)
        assert str(graph) == printed
        made = [node.outputs[0] for node in found.nodes]
        assert [k for k, v in found.values.items() if v.kind != "activation"] == [
            "x",
            "gamma",
            "beta",
            "mean",
            "variance",
        ]
        assert all(v.view_of in ("", *found.values) for v in found.values.values())
        assert {o for node in found.nodes for o in node.outputs} <= set(found.values)
        return made

    assert left() == ["a", "n"]  # for the running statistics
    assert left("e", "no such value") == ["a", "n", "e"]
    assert left("c view") == ["a", "b", "c", "n"]
    assert left("d", "e") == ["a", "b", "c", "d", "n", "e"]
    assert "b view" not in drop_unread(graph, ("e",)).values


def test_lowering_refuses_one_name_for_two_things():
    graphs = {}
    for name, width in (("a", 2), ("b", 4)):
        builder = Builder()
        w = builder.value("w", (width,), kind="parameter")
        builder.emit("relu_forward", (w,))
        graphs[name] = builder.graph
    with pytest.raises(ValueError, match=r"'w' is T\[2\] in one graph and T\[4\] in another"):
        lower(graphs, {})


def test_hoisting_puts_an_update_behind_the_last_reader():
    """dx of a layer reads the old weight: the update comes after it, and after its own gradient."""
    builder, x = batch_graph()
    w = builder.value("w", (3, 3), kind="parameter")
    v = builder.value("v", (3, 3), kind="parameter")
    (h,) = builder.emit("linear_forward", (x, w, None), outputs=("h",))
    (dw,) = builder.emit("linear_dw", (x, h), outputs=("dw",))
    (dv,) = builder.emit("linear_dw", (h, h), outputs=("dv",))
    builder.emit("linear_dx", (h, w), outputs=("dh",))
    builder.emit("relu_forward", (x,), outputs=("last",))
    builder.emit("sgd_step", (w, dw))
    builder.emit("sgd_step", (v, dv))
    before = [n.outputs[0] for n in builder.graph.nodes]
    after = [n.outputs[0] for n in hoist_updates(builder.graph).nodes]
    assert before == ["h", "dw", "dv", "dh", "last", "w", "v"]
    assert after == ["h", "dw", "dv", "v", "dh", "w", "last"]
    assert [n.outputs[0] for n in builder.graph.nodes] == before


def test_an_empty_graph_prints_and_lowers():
    assert str(Graph()) == ""
    assert lower({"empty": Graph()}, {}).lists == {"empty": []}


def test_shape_rule_of_the_core_agrees():
    """Plans the builder accepts are accepted by the core, and shapes told wrong are refused there."""
    values = [("x", "T", (-1, 3), True, "row"), ("w", "T", (3, 2), True, "none"), ("y", "T", (-1, 2), False, "none")]
    step = ("linear_forward", (0, 1, -1), (2,), (), 0)
    _core.Plan(values, {"run": [step]}, max_batch=4)
    for at, dims in ((2, (-1, 5)), (1, (4, 2)), (0, (-1, 3, 1))):
        wrong = list(values)
        wrong[at] = (*wrong[at][:2], dims, *wrong[at][3:])
        with pytest.raises(ValueError, match="linear_forward"):
            _core.Plan(wrong, {"run": [step]}, max_batch=4)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("linear_forward", (0, 1), (2,), (), 0), "wrong number"),
        (("linear_forward", (0, 9, -1), (2,), (), 0), "bad id of 'w'"),
        (("linear_forward", (0, -1, -1), (2,), (), 0), "bad id of 'w'"),
        (("linear_forward", (0, 1, -1), (-1,), (), 0), "bad id of 'y'"),
        (("linear_forward", (3, 1, -1), (2,), (), 0), "before any step wrote it|'x' is"),
        (("no_such_op", (0,), (2,), (), 0), "no_such_op"),
    ],
    ids=["arguments", "large id", "missing input", "missing output", "unwritten", "op"],
)
def test_core_checks_every_step(step, message):
    values = [
        ("x", "T", (-1, 3), True, "row"),
        ("w", "T", (3, 2), True, "none"),
        ("y", "T", (-1, 2), False, "none"),
        ("z", "T", (-1, 3), False, "none"),
    ]
    with pytest.raises(ValueError, match=message):
        _core.Plan(values, {"run": [step]}, max_batch=4)


def test_interpreter_names_what_is_missing():
    from pyfastnn.reference import interpret

    builder, x = batch_graph()
    builder.emit("relu_forward", (x,))
    with pytest.raises(KeyError, match="relu_forward reads 'x'"):
        interpret(builder.graph, {})
    values = interpret(builder.graph, {"x": np.array([[-1.0, 0.0, 2.0]])})
    np.testing.assert_array_equal(values["relu_forward.y"], [[0, 0, 2]])
