"""Calls over the op table, set up so that a careless kernel shows, and judged by the reference."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn import _core
from pyfastnn.reference import HYPER_FIELDS, OpSpec, Sample, specs
from pyfastnn.reference.spec import wide_dtype
from pyfastnn.testing.compare import Array, assert_within

DTYPES = ("float32", "float64")


@cache
def op_table() -> dict[str, dict[str, Any]]:
    """Return the schema of every compiled op by name."""
    return {schema["name"]: schema for schema in _core.op_schemas()}


def rng_of(*words: object) -> np.random.Generator:
    """Return a random generator seeded by words, such as the parts of a test's id."""
    return np.random.default_rng(zlib.crc32("-".join(map(str, words)).encode()))


@cache
def samples_of(op: str, dtype: str) -> dict[str, Sample]:
    """Return the samples of an op by label; the arrays are read-only and made once."""
    made = {}
    for sample in specs()[op].samples(rng_of(op, dtype), dtype):
        if sample.label in made:
            raise ValueError(f"{op}: two samples are labelled {sample.label!r}")
        for array in sample.inputs.values():
            if array is not None:
                array.setflags(write=False)
        made[sample.label] = sample
    return made


@dataclass
class Call:
    """The arguments of `pyfastnn._core.call` for one sample; arrays may be exchanged before `run`.

    Attributes
    ----------
    op : str
        Name of the op.
    inputs, outputs : list of ndarray or None
        In table order. An array updated in place stands in both.
    attrs, hyper : tuple of float
        In table order, and in the order of the hyper fields.
    dtype : str
        Float type of the call.
    """

    op: str
    inputs: list[Array | None]
    outputs: list[Array | None]
    attrs: tuple[float, ...]
    hyper: tuple[float, ...] | None
    dtype: str


def make_call(op: str, sample: Sample, dtype: str) -> Call:
    """Set up a call: inputs that are updated in place are copied, other outputs hold NaN."""
    schema, spec = op_table()[op], specs()[op]
    shapes = [want.shape for want in spec.evaluate(sample, dtype)]
    inputs = [sample.inputs[arg["name"]] for arg in schema["inputs"]]
    names = [arg["name"] for arg in schema["inputs"]]
    outputs: list[Array | None] = []
    for arg, shape in zip(schema["outputs"], shapes, strict=True):
        if arg["name"] in names:
            position = names.index(arg["name"])
            kept = inputs[position]
            assert kept is not None
            inputs[position] = kept.copy()
            outputs.append(inputs[position])
        else:
            outputs.append(
                filled(
                    shape,
                    np.dtype({"T": dtype, "f64": "f8", "i64": "i8", "u8": "u1"}[arg["dtype"]]),
                )
            )
    attrs = tuple(float(sample.attrs.get(name, default)) for name, default in schema["attrs"].items())
    hyper = tuple(float(sample.hyper.get(field, 0.0)) for field in HYPER_FIELDS) if schema["hyper"] else None
    return Call(op, inputs, outputs, attrs, hyper, dtype)


def filled(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return an array of NaN, or of the largest number for unsigned and -1 for signed integers."""
    array = np.empty(shape, dtype)
    array.reshape(-1).view(np.uint8)[:] = 0xFF
    return array


def run(call: Call) -> tuple[Array, ...]:
    """Run the kernel of a call and return its outputs."""
    result: tuple[Array, ...] = _core.call(
        call.op, tuple(call.inputs), tuple(call.outputs), call.attrs, call.hyper, call.dtype
    )
    return result


def check_op(
    op: str,
    sample: Sample,
    dtype: str,
    spoil: Callable[[int, Array], Array] | None = None,
) -> None:
    """Assert that the kernel agrees with the reference within the op's bound on one sample.

    Parameters
    ----------
    op : str
        Name of the op.
    sample : Sample
        Arguments.
    dtype : str
        Float type.
    spoil : callable, optional
        ``spoil(output number, output) -> output`` plants an error before the comparison, to test
        the test.

    Raises
    ------
    AssertionError
        If an output is off.
    """
    spec: OpSpec = specs()[op]
    wanted = spec.evaluate(sample, dtype)
    bounds = spec.error_bound(sample.inputs, sample.attrs, sample.hyper, dtype)
    results = run(make_call(op, sample, dtype))
    wide = wide_dtype(dtype)
    for k, (got, want, bound) in enumerate(zip(results, wanted, bounds, strict=True)):
        name = op_table()[op]["outputs"][k]["name"]
        if spoil is not None:
            got = spoil(k, got)
        if want.dtype.kind == "f":
            want = want.astype(wide, copy=False)
        assert_within(got, want, bound, f"{op} {sample.label} {dtype} {name}")


def all_samples(dtypes: tuple[str, ...] = DTYPES) -> Iterator[tuple[str, Sample, str]]:
    """Yield op, sample and dtype over the whole table."""
    for op in op_table():
        for dtype in dtypes:
            for sample in samples_of(op, dtype).values():
                yield op, sample, dtype


def check_table(dtypes: tuple[str, ...] = DTYPES) -> int:
    """Check every op of the table on every sample and return how many were checked.

    Raises
    ------
    AssertionError
        If any failed; lists them all.
    """
    failures, count = [], 0
    for op, sample, dtype in all_samples(dtypes):
        count += 1
        try:
            check_op(op, sample, dtype)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, f"{len(failures)} of {count} samples failed:\n" + "\n".join(failures)
    return count
