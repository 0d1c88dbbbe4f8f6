"""Planted errors: a comparator that lets one through is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import Sample, specs
from pyfastnn.testing import (
    DTYPES,
    LOSSES,
    assert_gradients,
    assert_same_bits,
    assert_within,
    check_op,
    differentiate,
    make_call,
    op_table,
    random_case,
    rng_of,
    run,
    samples_of,
)

OPS = list(op_table())
CASES = [(op, dtype) for op in OPS for dtype in DTYPES]


def plant(op: str, dtype: str, spoil, expected: int = 1) -> None:
    """Assert that an error planted into one output at a time is rejected in every sample.

    ``spoil(output)`` returns the wrong output, or None where the error makes no difference.
    """
    planted = 0
    for sample in judged(op, dtype):
        for number in range(len(op_table()[op]["outputs"])):
            good = run(make_call(op, sample, dtype))[number]
            with np.errstate(all="ignore"):
                bad = spoil(good.copy())
            if bad is None or (bad.shape == good.shape and np.array_equal(bad, good, equal_nan=True)):
                continue
            planted += 1
            check_op(op, sample, dtype)
            with pytest.raises(AssertionError):
                check_op(op, sample, dtype, lambda k, a, n=number, b=bad: b if k == n else a)
    assert planted >= expected, f"{op}: the error was planted {planted} times"


def judged(op: str, dtype: str) -> list[Sample]:
    """Return samples of middle size: bounds of long sums let small errors through."""
    return [
        s
        for s in samples_of(op, dtype).values()
        if s.label not in ("offset1e4", "subnormal", "nearly_equal")
        and all(a is None or (a.size < 300 and a.shape != (2, 1)) for a in s.inputs.values())
    ]


def is_float(a: np.ndarray) -> bool:
    return a.dtype.kind == "f" and a.size > 0


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=["-".join(c) for c in CASES])
def test_scaled_by_a_thousandth(op, dtype):
    def spoil(a):
        largest = np.abs(a[np.isfinite(a)]).max(initial=0) if is_float(a) else 0
        return a * a.dtype.type(1.001) if largest > 1e-3 else None

    plant(op, dtype, spoil, expected=0 if op == "gather_labels" else 3)


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=["-".join(c) for c in CASES])
def test_one_element_wrong(op, dtype):
    def spoil(a):
        if a.size == 0:
            return None
        flat = a.reshape(-1)
        k = rng_of(op, a.size).integers(a.size)
        if not np.isfinite(flat[k]):
            return None
        flat[k] = flat[k] + 1 if a.dtype.kind != "u" else 1 - flat[k]
        return a

    plant(op, dtype, spoil, expected=3)


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=["-".join(c) for c in CASES])
def test_last_row_stale(op, dtype):
    """What stood in the last row before the call, here NaN or the row above, stays."""
    plant(
        op,
        dtype,
        lambda a: stale(a, np.nan) if is_float(a) else None,
        0 if op == "gather_labels" else 3,
    )
    plant(op, dtype, lambda a: stale(a, a[-2]) if len(a) > 1 else None, 0 if scalar_only(op) else 3)


def stale(a: np.ndarray, row) -> np.ndarray:
    a[-1] = row
    return a


def scalar_only(op: str) -> bool:
    return all(o["dims"] == ["1"] for o in op_table()[op]["outputs"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["linear_forward", "linear_dx", "linear_dw", "gather_rows"])
def test_transposed(op, dtype):
    """The right numbers in the order of the transposed array."""
    plant(op, dtype, lambda a: np.ascontiguousarray(a.T).reshape(a.shape), expected=5)


@pytest.mark.parametrize("op", ["linear_forward", "linear_dw"])
def test_other_shape(op):
    plant(op, "float32", lambda a: a.T if a.shape[0] != a.shape[1] else None, expected=5)


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=["-".join(c) for c in CASES])
def test_sign_flipped(op, dtype):
    def spoil(a):
        return -a if a.dtype.kind != "u" and np.abs(a[np.isfinite(a)]).max(initial=0) > 1e-3 else None

    plant(op, dtype, spoil, expected=3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["softmax_cross_entropy", "mean_squared_error"])
def test_mean_over_the_largest_batch(op, dtype):
    """Dividing by 128 rows, or by one row more, instead of those that are there."""
    for sample in judged(op, dtype):
        n = next(iter(sample.inputs.values())).size if op != LOSSES[0] else sample.inputs["scores"].shape[0]
        for wrong in (128, n + 1):
            if n in (0, 128):
                continue
            factor = n / wrong
            good = run(make_call(op, sample, dtype))
            for number in (0, len(good) - 1):
                if not np.nan_to_num(good[number], posinf=0, neginf=0).any():
                    continue
                with pytest.raises(AssertionError):
                    check_op(
                        op,
                        sample,
                        dtype,
                        lambda k, a, m=number, f=factor: a * a.dtype.type(f) if k == m else a,
                    )


def other_hyper(op: str, sample: Sample, dtype: str, **changes: float) -> tuple[np.ndarray, ...]:
    changed = replace(sample, hyper={**sample.hyper, **changes})
    return run(make_call(op, changed, dtype))


def assert_rejected(op: str, sample: Sample, dtype: str, results: tuple[np.ndarray, ...]) -> None:
    check_op(op, sample, dtype)
    with pytest.raises(AssertionError):
        check_op(op, sample, dtype, lambda k, a: results[k])


RULES_OF_UPDATE = ["sgd_step", "momentum_step", "nesterov_step", "adam_step", "adamw_step"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RULES_OF_UPDATE)
def test_learning_rate_halved(op, dtype):
    for sample in judged(op, dtype):
        size = sample.inputs["p"].size
        moved = sample.inputs["dp"].any() and sample.hyper["learning_rate"] > 0 and size > 1
        if moved:
            halved = other_hyper(op, sample, dtype, learning_rate=sample.hyper["learning_rate"] / 2)
            assert_rejected(op, sample, dtype, halved)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["adam_step", "adamw_step"])
def test_step_counter_off_by_one(op, dtype):
    sample = samples_of(op, dtype)["size65"]
    beta1, beta2 = sample.hyper["beta1"], sample.hyper["beta2"]
    for step in (2, 4):
        changed = {"correction1": 1 - beta1**step, "correction2": 1 - beta2**step}
        assert_rejected(op, sample, dtype, other_hyper(op, sample, dtype, **changed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", RULES_OF_UPDATE)
@pytest.mark.parametrize("field", ["momentum", "weight_decay", "beta1", "beta2", "eps"])
def test_other_hyper_field_ignored(op, field, dtype):
    """Halving any number an update reads must show; eps only where the root is small."""
    if field not in samples_of(op, dtype)["size65"].hyper:
        assert field not in op_table()[op]["hyper"]
        return
    label = "other_betas" if field == "eps" else "size65"
    sample = samples_of(op, dtype)[label]
    assert_rejected(op, sample, dtype, other_hyper(op, sample, dtype, **{field: sample.hyper[field] / 2}))


@pytest.mark.parametrize("op", sorted(set(RULES) - set(LOSSES)))
def test_upstream_gradient_replaced_by_ones(op):
    trials = (random_case(op, trial) for trial in range(3, 50))
    sample = next(s for s in trials if specs()[op].evaluate(s, "float64")[0].any())
    y = specs()[op].evaluate(sample, "float64")[0]
    upstream = rng_of("upstream", op).standard_normal(y.shape)
    assert_gradients(op, sample, upstream, differentiate(op, sample, upstream))
    with pytest.raises(AssertionError):
        assert_gradients(op, sample, upstream, differentiate(op, sample, np.ones(y.shape)))


@pytest.mark.parametrize("op", sorted(RULES))
def test_gradient_of_each_input_is_judged(op):
    """A thousandth too much, a flipped sign or one wrong element of any gradient is rejected."""
    sample = random_case(op, 5)
    upstream = None
    if op not in LOSSES:
        y = specs()[op].evaluate(sample, "float64")[0]
        upstream = rng_of("upstream", op).standard_normal(y.shape)
    gradients = differentiate(op, sample, upstream)
    assert_gradients(op, sample, upstream, gradients)
    for name, gradient in gradients.items():
        one = gradient.copy()
        one.flat[-1] += 1e-3
        for bad in (gradient * 1.001, -gradient, one):
            with pytest.raises(AssertionError):
                assert_gradients(op, sample, upstream, {**gradients, name: bad})


@pytest.mark.parametrize(("op", "dtype"), CASES, ids=["-".join(c) for c in CASES])
def test_nan_replaced_by_zero(op, dtype):
    has_nan = 0
    for sample in samples_of(op, dtype).values():
        good = run(make_call(op, sample, dtype))
        for number, a in enumerate(good):
            if a.dtype.kind == "f" and np.isnan(a).any():
                has_nan += 1
                bad = np.nan_to_num(a, nan=0.0, posinf=np.inf, neginf=-np.inf)
                with pytest.raises(AssertionError):
                    check_op(op, sample, dtype, lambda k, x, n=number, b=bad: b if k == n else x)
    assert has_nan or op == "gather_labels"


def test_nan_where_none_belongs():
    with pytest.raises(AssertionError):
        assert_within(np.array([np.nan], np.float32), np.array([0.0]), 1.0)
    with pytest.raises(AssertionError):
        assert_within(np.array([np.nan], np.float32), np.array([np.inf]), np.inf)


def test_infinity_of_the_other_sign():
    with pytest.raises(AssertionError):
        assert_within(np.array([np.inf], np.float32), np.array([-np.inf]), np.inf)


def test_bound_that_is_nan_accepts_nothing():
    with pytest.raises(AssertionError):
        assert_within(np.zeros(1, np.float32), np.zeros(1), np.nan)


def test_exact_means_exact():
    one = np.float32(1)
    with pytest.raises(AssertionError):
        assert_within(np.array([np.nextafter(one, np.float32(2))]), np.array([1.0]), 0.0)
    assert_within(np.array([one]), np.array([1.0]), 0.0)


def test_equal_bits_means_bits():
    zeros = np.zeros(3, np.float32)
    with pytest.raises(AssertionError):
        assert_same_bits(-zeros, zeros)
    with pytest.raises(AssertionError):
        assert_same_bits(zeros.astype(np.float64), zeros)
    with pytest.raises(AssertionError):
        assert_same_bits(zeros[:2], zeros)
    assert_same_bits(np.array([np.nan, 1.0]), np.array([-np.nan, 1.0]))


def test_output_that_is_not_written_shows():
    """An op that leaves its output alone leaves NaN in it."""
    sample = samples_of("relu_forward", "float32")["size17"]
    call = make_call("relu_forward", sample, "float32")
    untouched = call.outputs[0].copy()
    assert np.isnan(untouched).all()
    with pytest.raises(AssertionError):
        check_op("relu_forward", sample, "float32", lambda k, a: untouched)


def test_table_check_lists_what_failed(monkeypatch):
    """`check_table` fails as a whole if one op is wrong."""
    from pyfastnn.testing import calls

    right = _core.call

    def wrong(op, *arguments):
        results = right(op, *arguments)
        if op == "relu_forward":
            results[0][...] += 1
        return results

    class Spoiled:
        call = staticmethod(wrong)
        op_schemas = staticmethod(_core.op_schemas)

    monkeypatch.setattr(calls, "_core", Spoiled)
    with pytest.raises(AssertionError, match="relu_forward"):
        calls.check_table(("float32",))
