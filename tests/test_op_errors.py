"""Bad calls: the exception, its message, and that no output was written before it was raised."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pyfastnn import _core, functional
from pyfastnn.reference import HYPER_FIELDS, Sample, specs
from pyfastnn.testing import Call, make_call, op_table, rng_of, run, samples_of

OPS = list(op_table())
CASES = [
    (op, case.sample.label, dtype)
    for op in OPS
    for dtype in ("float32", "float64")
    for case in specs()[op].errors(rng_of(op, "errors"), dtype)
]


def good_sample(op: str, dtype: str) -> Sample:
    """Return a sample of middle size, in which no array is empty; scalars are float64 arrays of one item."""
    scalars = {a["name"] for a in op_table()[op]["inputs"] if a["dtype"] == "f64"}
    """Return a sample of middle size, in which no array is empty."""
    scalars = {a["name"] for a in op_table()[op]["inputs"] if a["dims"] == ["1"]}
    found = [
        s
        for s in samples_of(op, dtype).values()
        if all(8 < a.size < 2000 for name, a in s.inputs.items() if a is not None and name not in scalars)
    ]
    assert found, op
    return found[0]


def assert_refused(call: Call, exception: type[Exception], match: str) -> None:
    """Assert that a call raises and leaves every output as it was."""
    before = [None if a is None else a.tobytes() for a in call.outputs]
    with pytest.raises(exception, match=match):
        run(call)
    after = [None if a is None else a.tobytes() for a in call.outputs]
    assert after == before


def base_call(op: str, dtype: str = "float32") -> Call:
    return make_call(op, good_sample(op, dtype), dtype)


@pytest.mark.parametrize(("op", "label", "dtype"), CASES, ids=["-".join(case) for case in CASES])
def test_error_case_of_the_spec(op, label, dtype):
    cases = specs()[op].errors(rng_of(op, "errors"), dtype)
    (case,) = [c for c in cases if c.sample.label == label]
    schema = op_table()[op]
    inputs = tuple(case.sample.inputs[a["name"]] for a in schema["inputs"])
    hyper = tuple(case.sample.hyper.get(f, 0.0) for f in HYPER_FIELDS) if schema["hyper"] else None
    before = [None if a is None else a.tobytes() for a in inputs]
    with pytest.raises(case.exception, match=case.match):
        _core.call(op, inputs, None, (), hyper, dtype)
    assert [None if a is None else a.tobytes() for a in inputs] == before


@pytest.mark.parametrize("op", OPS)
def test_required_input_left_out(op):
    for k, arg in enumerate(op_table()[op]["inputs"]):
        if not arg["optional"]:
            call = base_call(op)
            call.inputs[k] = None
            assert_refused(call, TypeError, f"{op}: '{arg['name']}'.*None")


@pytest.mark.parametrize("op", OPS)
def test_input_that_is_no_array(op):
    for k, arg in enumerate(op_table()[op]["inputs"]):
        call = base_call(op)
        if call.inputs[k] is not None:
            call.inputs[k] = call.inputs[k].tolist()
            assert_refused(call, TypeError, f"{op}: '{arg['name']}' is a list")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", ["float16", "int32", "bool", "object", "complex64", ">f4", ">i8"])
def test_input_of_another_dtype(op, dtype):
    for k, arg in enumerate(op_table()[op]["inputs"]):
        call = base_call(op)
        if call.inputs[k] is not None:
            with np.errstate(all="ignore"):
                call.inputs[k] = call.inputs[k].astype(dtype)
            assert_refused(call, (TypeError, ValueError), f"{op}: '{arg['name']}'")


@pytest.mark.parametrize("op", OPS)
def test_float_types_are_not_mixed(op):
    positions = [k for k, a in enumerate(op_table()[op]["inputs"]) if a["dtype"] == "T"]
    for k in positions[1:]:
        call = base_call(op)
        if call.inputs[k] is not None:
            call.inputs[k] = call.inputs[k].astype(np.float64)
            name = op_table()[op]["inputs"][k]["name"]
            assert_refused(call, TypeError, f"{op}: '{name}' has dtype float64, expected float32")


@pytest.mark.parametrize("op", OPS)
def test_output_of_another_dtype_or_shape(op):
    inputs = [a["name"] for a in op_table()[op]["inputs"]]
    for k, arg in enumerate(op_table()[op]["outputs"]):
        if arg["name"] in inputs:
            continue
        call = base_call(op)
        kept = call.outputs[k]
        call.outputs[k] = np.zeros(kept.shape, np.int32)
        assert_refused(call, TypeError, f"{op}: '{arg['name']}'.*int32")
        call.outputs[k] = np.zeros((*kept.shape[:-1], kept.shape[-1] + 1), kept.dtype)
        assert_refused(call, ValueError, f"{op}: output '{arg['name']}' has shape")


@pytest.mark.parametrize("op", OPS)
def test_output_updated_in_place_must_be_the_input(op):
    inputs = [a["name"] for a in op_table()[op]["inputs"]]
    for k, arg in enumerate(op_table()[op]["outputs"]):
        if arg["name"] in inputs:
            call = base_call(op)
            call.outputs[k] = call.outputs[k].copy()
            assert_refused(call, ValueError, f"{op}: .*'{arg['name']}'")


@pytest.mark.parametrize("op", OPS)
def test_too_many_inputs_outputs_attributes(op):
    call = base_call(op)
    call.inputs.append(call.inputs[0])
    assert_refused(call, TypeError, f"{op}: .*inputs")
    call = base_call(op)
    call.outputs.append(np.zeros(1, np.float32))
    assert_refused(call, TypeError, f"{op}: .*outputs")
    call = base_call(op)
    call.attrs += (1.0,)
    assert_refused(call, TypeError, f"{op}: .*attributes")


@pytest.mark.parametrize("op", [op for op in OPS if op_table()[op]["hyper"]])
def test_hyper_row_must_be_whole(op):
    call = base_call(op)
    call.hyper = None
    assert_refused(call, TypeError, f"{op}: 'hyper'")
    call = base_call(op)
    call.hyper = call.hyper[:-1]
    assert_refused(call, TypeError, f"{op}: 'hyper'.*fields")


def test_unknown_op_is_named():
    with pytest.raises(ValueError, match="linear_forwad"):
        _core.call("linear_forwad", ())


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("dropout", {"p": 1.0, "seed": 0}, "dropout: 'p' is 1.0, expected 0 <= p < 1"),
        ("dropout", {"p": -0.1, "seed": 0}, "dropout: 'p' is -0.1"),
        ("dropout", {"p": float("nan"), "seed": 0}, "dropout: 'p' is nan"),
        ("dropout", {"seed": -1}, "dropout: 'seed' is -1, expected 0 <= seed < 2**53"),
        ("dropout", {"seed": 2**53}, "dropout: 'seed' is 9007199254740992"),
        ("dropout", {"seed": 0, "step": -1}, "dropout: 'step' is -1"),
        ("dropout", {"seed": 0, "node": 2**32}, "dropout: 'node' is 4294967296"),
    ],
)
def test_dropout_numbers_out_of_range(function, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(functional, function)(np.ones(3, np.float32), **arguments)


@pytest.mark.parametrize("function", ["adam_step", "adamw_step"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": 0}, "'step' is 0, expected a number from 1"),
        ({"step": 1, "beta1": 1.0}, "'beta1' is 1.0, expected 0 <= beta1 < 1"),
        ({"step": 1, "beta2": -0.5}, "'beta2' is -0.5, expected 0 <= beta2 < 1"),
    ],
)
def test_adam_numbers_out_of_range(function, arguments, message):
    arrays = [np.ones(3, np.float32) for _ in range(4)]
    with pytest.raises(ValueError, match=re.escape(f"{function}: {message}")):
        getattr(functional, function)(*arrays, **arguments)
    assert all((a == 1).all() for a in arrays)


def test_attribute_that_is_no_number():
    with pytest.raises(TypeError, match="'negative_slope' is a str"):
        functional.leaky_relu(np.ones(3, np.float32), negative_slope="steep")
