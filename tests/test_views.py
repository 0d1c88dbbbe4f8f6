"""Values read with other shapes, and dimensions the table computes."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn.backends.compare import compare
from pyfastnn.backends.cpu import CpuPlan
from pyfastnn.graph import BATCH, Builder
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.schema import Arg, OpSchema, output_shapes
from pyfastnn.reference import interpret
from pyfastnn.testing import assert_same_bits, rng_of


def network(last_view: bool) -> tuple[Builder, dict[str, str]]:
    """Rows of 12 seen as 3 x 4, normalized by column, seen as 2 x 6, and back."""
    builder = Builder(training=True)
    x = builder.value("x", (BATCH, 12))
    for name in ("gamma", "beta"):
        builder.value(name, (4,), kind="parameter")
    for name in ("mean", "var"):
        builder.value(name, (4,), kind="state")
    w = builder.value("w", (12, 12), kind="parameter")
    h = builder.emit("tanh_forward", (builder.view(x, (BATCH, 3, 4)),), name="tanh")[0]
    y = builder.emit("batch_norm_forward", (h, "gamma", "beta", "mean", "var"), name="norm")[0]
    flat = builder.view(y, (BATCH, 12))
    both = builder.emit("add", (flat, builder.view(h, (BATCH, 12))), name="both")[0]
    z = builder.emit("linear_forward", (both, w, None), name="linear")[0]
    if last_view:
        z = builder.view(z, (BATCH, 2, 6), "z")
    else:
        builder.rename(z, "z")
        z = "z"
    return builder, backward(builder, {z: builder.value("dz", builder.graph.values[z].shape)}, ["x", "w", "gamma"])


def arrays(rows: int, last_view: bool) -> dict[str, np.ndarray]:
    rng = rng_of("views", rows)
    return {
        "x": rng.standard_normal((rows, 12)),
        "dz": rng.standard_normal((rows, 2, 6) if last_view else (rows, 12)),
        "gamma": rng.standard_normal(4),
        "beta": rng.standard_normal(4),
        "mean": np.zeros(4),
        "var": np.ones(4),
        "w": rng.standard_normal((12, 12)),
    }


@pytest.mark.parametrize("last_view", [False, True])
@pytest.mark.parametrize("switches", [{}, {"reuse": False}, {"inplace": False}, {"poison": True}])
def test_views_as_in_the_interpreter(last_view, switches):
    builder, found = network(last_view)
    results = {**dict.fromkeys(found.values(), "none"), "z": "none"}
    plan = CpuPlan({"run": builder.graph}, results, max_batch=9, dtype="float64", **switches)
    for rows in (9, 4):
        given = arrays(rows, last_view)
        want = interpret(builder.graph, given)
        out = {k: np.zeros(want[k].shape) for k in results}
        bound = {k: v.copy() for k, v in given.items()}
        plan.run("run", rows, rows, {**bound, **out})
        for name, array in out.items():
            np.testing.assert_allclose(array, want[name], rtol=1e-12, atol=1e-12, err_msg=name)
        assert compare(plan, "run", rows, {**given, **out}) is None


def test_views_change_no_bit():
    """The same arithmetic with and without a view as the result."""
    got = []
    for last_view in (False, True):
        builder, found = network(last_view)
        results = {**dict.fromkeys(found.values(), "none"), "z": "none"}
        plan = CpuPlan({"run": builder.graph}, results, max_batch=5, dtype="float32")
        given = {k: v.astype("f4") for k, v in arrays(5, last_view).items()}
        given["dz"] = arrays(5, False)["dz"].astype("f4").reshape(given["dz"].shape)
        out = {k: np.zeros([5 if d == BATCH else d for d in builder.graph.values[k].shape], "f4") for k in results}
        plan.run("run", 5, 5, {**given, **out})
        got.append(out[found["w"]])
    assert_same_bits(got[1], got[0], "dw")


def test_a_view_needs_as_many_items():
    builder = Builder()
    builder.value("x", (BATCH, 12))
    for shape in ((BATCH, 5), (12, BATCH, 2), (BATCH, 12, BATCH), (12,)):
        with pytest.raises(ValueError, match="'x' of shape"):
            builder.view("x", shape)
    assert builder.view("x", (BATCH, 12)) == "x"
    again = builder.view(builder.view("x", (BATCH, 3, 4)), (BATCH, 2, 6))
    assert builder.graph.values[again].view_of == "x"


def test_native_plans_refuse_wrong_views():
    def values(dims, of=0, dtype="T", external=True):
        return [("x", "T", (-1, 6), True, "none", -1), ("v", dtype, dims, external, "none", of)]

    step = {"run": [("relu_forward", (1,), (1,), (), 0)]}
    for bad in (
        values((-1, 5)),
        values((-1, 3, 2), of=1),
        values((-1, 6), dtype="i64"),
        values((-1, 6), external=False),
    ):
        with pytest.raises(ValueError, match="no view of another value"):
            _core.Plan(bad, step, max_batch=4)


WINDOW = ("h", "@pad", "+", "k", "-", "@stride", "/", 1, "+")
SLIDING = OpSchema(
    "sliding",
    (Arg("x", "T", ("n", "h"), False, ((), ())), Arg("w", "T", ("k",), False, ((),))),
    (Arg("y", "T", ("n", "(h+pad-k)/stride+1"), False, ((), WINDOW)),),
    {"pad": 0.0, "stride": 1.0},
    (),
    False,
)


@pytest.mark.parametrize(
    ("h", "k", "attrs", "want"),
    [(7, 3, {}, 5), (7, 3, {"stride": 2}, 3), (8, 3, {"stride": 2}, 3), (2, 3, {"pad": 2}, 2)],
)
def test_computed_dimensions(h, k, attrs, want):
    assert output_shapes(SLIDING, [(BATCH, h), (k,)], attrs) == [(BATCH, want)]


def test_computed_dimensions_that_cannot_be():
    with pytest.raises(ValueError, match="'y' would have a dimension of -2"):
        output_shapes(SLIDING, [(BATCH, 2), (5,)])
    with pytest.raises(ValueError, match="divided by 0"):
        output_shapes(SLIDING, [(BATCH, 2), (1,)], {"stride": 0})
    with pytest.raises(ValueError, match="known beforehand"):
        output_shapes(SLIDING, [(BATCH, BATCH), (1,)])
