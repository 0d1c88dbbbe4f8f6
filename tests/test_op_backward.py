"""Gradient rules and backward references against central differences in float64.

The upstream gradient is random. The kernels of the backward ops are checked against the same
references in test_op_forward.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn.graph import Node
from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import Sample, specs
from pyfastnn.testing import LOSSES, assert_gradients, differentiate, random_case, rng_of

TRIALS = 50


@pytest.mark.parametrize("op", sorted(RULES))
def test_rule_agrees_with_central_differences(op):
    for trial in range(TRIALS):
        sample = random_case(op, trial)
        upstream = None
        if op not in LOSSES or trial % 2:  # a loss is the total, or counts something in it
            y = specs()[op].evaluate(sample, "float64")[0]
            upstream = rng_of("upstream", op, trial).standard_normal(y.shape)
        gradients = differentiate(op, sample, upstream)
        assert_gradients(op, sample, upstream, gradients)


def test_linear_without_bias_has_no_bias_gradient():
    sample = random_case("linear_forward", 0)
    without = Sample("nobias", {**sample.inputs, "b": None})
    calls = []
    node = Node("linear_forward", ("x", "w", None), ("y",))

    def emit(op, inputs, attrs=None, outputs=None):
        calls.append(op)
        return (f"{op}.out",)

    assert without.inputs["b"] is None
    rule = RULES["linear_forward"]
    assert rule(node, {"y": "dy"}, emit, lambda _: True) == {
        "x": "linear_dx.out",
        "w": "linear_dw.out",
    }
    assert calls == ["linear_dx", "linear_dw"]
    calls.clear()
    assert rule(node, {"y": "dy"}, emit, {"w"}.__contains__) == {"w": "linear_dw.out"}
    assert calls == ["linear_dw"]


def test_a_value_added_to_itself_gets_both_gradients():
    node = Node("add", ("a", "a"), ("y",))
    added = []

    def emit(op, inputs, attrs=None, outputs=None):
        added.append((op, inputs))
        return ("sum",)

    assert RULES["add"](node, {"y": "dy"}, emit, lambda _: True) == {"a": "sum"}
    assert added == [("add", ("dy", "dy"))]


def test_batch_norm_of_one_row_passes_no_gradient():
    sample = specs()["batch_norm_forward"].case(rng_of("one row"), "float64", n=1, c=5)
    gradients = differentiate("batch_norm_forward", sample, np.ones((1, 5)))
    assert (gradients["x"] == 0).all()
    assert (gradients["gamma"] == 0).all()
    assert (gradients["beta"] == 1).all()


WEIGHTED = {
    "softmax_cross_entropy": {"n": 5, "c": 4, "weighted": 1},
    "multiclass_hinge": {"n": 5, "c": 4, "weighted": 1},
    "binary_cross_entropy": {"n": 5, "c": 3, "weighted": 1},
    "mean_squared_error": {"n": 6, "outputs": 2},
    "mean_absolute_error": {"n": 6, "outputs": 2},
    "huber": {"n": 6, "outputs": 2},
    "poisson": {"n": 6, "outputs": 2},
}


@pytest.mark.parametrize("op", sorted(set(LOSSES) - {"add_losses"}))
def test_weighted_losses_agree_with_central_differences(op):
    for trial in range(TRIALS):
        sample = specs()[op].case(rng_of("weighted", op, trial), "float64", **WEIGHTED[op])
        assert sample.inputs["weights"] is not None
        upstream = rng_of("upstream", op, trial).standard_normal(1)
        assert_gradients(op, sample, upstream, differentiate(op, sample, upstream))


def test_loss_rules_refuse_what_they_cannot_do():
    node = Node("mean_squared_error", ("a", "b", None), ("loss", "da"))
    rule = RULES["mean_squared_error"]
    with pytest.raises(ValueError, match="the gradient 'weight' of a loss is computed"):
        rule(node, {"loss": "weight"}, None, {"a"}.__contains__)
    with pytest.raises(ValueError, match="the gradient of output 'da'"):
        rule(node, {"loss": 1.0, "da": "d"}, None, {"a"}.__contains__)
    with pytest.raises(ValueError, match="targets"):
        rule(node, {"loss": 1.0}, None, {"b"}.__contains__)


def test_a_loss_that_is_the_total_adds_no_node():
    node = Node("mean_squared_error", ("a", "b", None), ("loss", "da"))
    assert RULES["mean_squared_error"](node, {"loss": 1.0}, None, {"a"}.__contains__) == {"a": "da"}


def test_losses_hand_their_weights_down():
    node = Node("add_losses", ("a", "b"), ("total",), {"a_weight": 2.0, "b_weight": -0.5})
    rule = RULES["add_losses"]
    assert rule(node, {"total": 3.0}, None, lambda _: True) == {"a": 6.0, "b": -1.5}
    assert rule(node, {"total": 3.0}, None, {"b"}.__contains__) == {"b": -1.5}
    twice = Node("add_losses", ("a", "a"), ("total",), {"a_weight": 2.0, "b_weight": -0.5})
    assert rule(twice, {"total": 1.0}, None, lambda _: True) == {"a": 1.5}
