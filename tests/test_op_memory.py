"""What a kernel may touch: outputs only, wherever they lie, and nothing beside them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pyfastnn.reference import Sample
from pyfastnn.testing import (
    DTYPES,
    Call,
    all_samples,
    assert_same_bits,
    make_call,
    op_table,
    run,
    samples_of,
)

OPS = list(op_table())
SENTINEL = 0xA5


def largest(op: str, dtype: str, limit: int = 5000) -> Sample:
    """Return the sample with the most elements up to a limit: tails and main loops both run."""
    sizes = {
        label: sum(a.size for a in s.inputs.values() if a is not None) for label, s in samples_of(op, dtype).items()
    }
    return samples_of(op, dtype)[max((k for k in sizes if sizes[k] < limit), key=sizes.__getitem__)]


def replace_arrays(call: Call, replace) -> None:
    """Put ``replace(array)`` in the place of every array; an array that stands twice stays one."""
    made = {}

    def once(array):
        if array is None:
            return None
        if id(array) not in made:
            made[id(array)] = (
                array,
                replace(array),
            )  # keeps the old array, so that its id stays taken
        return made[id(array)][1]

    call.inputs = [once(a) for a in call.inputs]
    call.outputs = [once(a) for a in call.outputs]


def embed(array: np.ndarray, before: int, after: int = 67) -> tuple[np.ndarray, np.ndarray]:
    """Return a copy of an array amid sentinels, ``before`` items from a 64-byte border."""
    raw = np.full(array.nbytes + (before + after) * array.itemsize + 64, SENTINEL, np.uint8)
    start = -raw.ctypes.data % 64 + before * array.itemsize
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view, raw


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_odd_offsets_give_the_same_bits_and_touch_nothing_else(op, dtype):
    sample = largest(op, dtype)
    want = run(make_call(op, sample, dtype))
    for offset in (1, 3, 5):
        call = make_call(op, sample, dtype)
        buffers = []

        def place(array, offset=offset, buffers=buffers):
            view, raw = embed(array, offset)
            buffers.append((view, raw, raw.copy(), array))
            return view

        replace_arrays(call, place)
        updated = {id(a) for a in call.outputs}
        got = run(call)
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_same_bits(a, b, f"{op} output {k} at offset {offset}")
        for view, raw, before, original in buffers:
            if id(view) not in updated:
                assert (raw == before).all(), f"{op}: an input was changed"
            else:
                view[...] = original
                assert (raw == before).all(), f"{op}: a byte beside an output was changed"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_inputs_may_be_read_only_and_stay(op, dtype):
    """The arrays of samples are read-only, so all tests pass such; here content is compared too."""
    for sample in samples_of(op, dtype).values():
        before = {k: a.tobytes() for k, a in sample.inputs.items() if a is not None}
        assert not any(a.flags.writeable for a in sample.inputs.values() if a is not None)
        run(make_call(op, sample, dtype))
        assert before == {k: a.tobytes() for k, a in sample.inputs.items() if a is not None}


@pytest.mark.parametrize("op", OPS)
def test_reference_changes_no_input(op):
    from pyfastnn.reference import specs

    for sample in samples_of(op, "float64").values():
        arguments = [None if a is None else a.copy() for a in sample.inputs.values()]
        before = [None if a is None else a.tobytes() for a in arguments]
        with np.errstate(all="ignore"):
            results = specs()[op].reference(*arguments, **sample.attrs, **sample.hyper)
        for result in results:
            if result.flags.writeable:
                result[...] = 1
        assert before == [None if a is None else a.tobytes() for a in arguments]


@pytest.mark.parametrize("op", OPS)
def test_outputs_given_are_the_outputs_returned(op):
    call = make_call(op, largest(op, "float32"), "float32")
    for got, given in zip(run(call), call.outputs, strict=True):
        assert got is given


@pytest.mark.parametrize("op", OPS)
def test_outputs_left_out_are_made(op):
    sample = largest(op, "float32")
    want = run(make_call(op, sample, "float32"))
    call = make_call(op, sample, "float32")
    call.outputs = [None] * len(call.outputs)
    for k, (got, expected) in enumerate(zip(run(call), want, strict=True)):
        assert_same_bits(got, expected, f"{op} output {k}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", [op for op in OPS if op_table()[op]["inplace"]])
def test_in_place_gives_the_same_bits(op, dtype):
    for sample in samples_of(op, dtype).values():
        want = run(make_call(op, sample, dtype))
        call = make_call(op, sample, dtype)
        call.inputs[0] = call.inputs[0].copy()
        call.outputs[0] = call.inputs[0]
        for k, (got, expected) in enumerate(zip(run(call), want, strict=True)):
            assert_same_bits(got, expected, f"{op} {sample.label} output {k} in place")


def assert_refused(call: Call, match: str) -> None:
    before = [None if a is None else a.tobytes() for a in call.outputs]
    with pytest.raises(ValueError, match=match):
        run(call)
    assert before == [None if a is None else a.tobytes() for a in call.outputs]


def pairs(op: str):
    """Yield the numbers of an output, not updated in place, and of an input of its dtype."""
    schema = op_table()[op]
    names = [a["name"] for a in schema["inputs"]]
    call = make_call(op, largest(op, "float32"), "float32")
    for o, out in enumerate(schema["outputs"]):
        if out["name"] in names:
            continue
        for i in range(len(names)):
            array = call.inputs[i]
            if array is not None and array.dtype == call.outputs[o].dtype:
                yield o, i


@pytest.mark.parametrize("op", OPS)
def test_output_overlapping_an_input_is_refused(op):
    names = [a["name"] for a in op_table()[op]["inputs"]]
    updated = {names.index(out["name"]): o for o, out in enumerate(op_table()[op]["outputs"]) if out["name"] in names}
    for o, i in pairs(op):
        for shift in (0, 1):
            call = make_call(op, largest(op, "float32"), "float32")
            source, target = call.inputs[i], call.outputs[o]
            if shift == 0 and op_table()[op]["inplace"] and (o, i) == (0, 0):
                continue
            if shift >= source.size:
                continue
            if shift >= max(source.size, target.size):
                continue  # beside each other
            raw = np.zeros(max(source.size, target.size) + shift, source.dtype)
            call.inputs[i] = raw[: source.size].reshape(source.shape)
            call.outputs[o] = raw[shift : shift + target.size].reshape(target.shape)
            call.inputs[i][...] = source
            if i in updated:
                call.outputs[updated[i]] = call.inputs[i]
            assert_refused(call, f"{op}: .*overlap")


@pytest.mark.parametrize("op", [op for op in OPS if len(op_table()[op]["outputs"]) > 1])
def test_outputs_overlapping_each_other_are_refused(op):
    outputs = op_table()[op]["outputs"]
    names = [a["name"] for a in op_table()[op]["inputs"]]
    tried = 0
    for a in range(len(outputs)):
        for b in range(a):
            call = make_call(op, largest(op, "float32"), "float32")
            first, second = call.outputs[a], call.outputs[b]
            if first.dtype != second.dtype:
                continue
            shift = 1 if min(first.size, second.size) > 1 else 0
            raw = np.zeros(max(first.size, second.size) + 1, first.dtype)
            for position, array, start in ((a, first, 0), (b, second, shift)):
                call.outputs[position] = raw[start : start + array.size].reshape(array.shape)
                if outputs[position]["name"] in names:  # updated in place: the input is that array
                    call.inputs[names.index(outputs[position]["name"])] = call.outputs[position]
            assert_refused(call, f"{op}: .*overlap")
            tried += 1
    assert tried or len({a.dtype for a in call.outputs}) == len(outputs), "no two outputs are of one dtype"


def spoiled_layouts(array: np.ndarray):
    """Yield arrays of the same shape and dtype that no kernel may take."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    yield "every other column", wide[..., ::2]
    reverse = np.zeros_like(array)
    yield "negative stride", reverse[..., ::-1]
    if array.ndim > 1:
        yield "Fortran order", np.asfortranarray(array)
    yield "broadcast", np.broadcast_to(array[(0,) * array.ndim], array.shape)
    raw = np.zeros(array.nbytes + 1, np.uint8)
    yield "odd address", raw[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize("op", OPS)
def test_layouts_that_are_refused(op):
    schema = op_table()[op]
    sample = largest(op, "float32")
    checked = 0
    for k, arg in enumerate(schema["inputs"]):
        array = sample.inputs[arg["name"]]
        if array is None or array.size < 2 or array.shape[-1] < 2:
            continue
        for label, bad in spoiled_layouts(array):
            if bad.flags.c_contiguous and bad.flags.aligned:
                continue  # one byte per item has no odd address
            call = make_call(op, sample, "float32")
            call.inputs[k] = bad
            assert_refused(call, f"{op}: '{arg['name']}' is not (C-contiguous|aligned)"), label
            checked += 1
    assert checked or all(a["dims"] == ["1"] for a in schema["inputs"])


@pytest.mark.parametrize("op", OPS)
def test_output_layouts_that_are_refused(op):
    schema = op_table()[op]
    sample = largest(op, "float32")
    inputs = [a["name"] for a in schema["inputs"]]
    for k, arg in enumerate(schema["outputs"]):
        call = make_call(op, sample, "float32")
        good = call.outputs[k]
        if arg["name"] in inputs:
            good.setflags(write=False)
            assert_refused(call, f"{op}: '{arg['name']}' is read-only")
            continue
        if good.shape[-1] > 1:
            for _, bad in spoiled_layouts(good):
                if bad.flags.c_contiguous and bad.flags.aligned:
                    continue
                call.outputs[k] = bad
                assert_refused(call, f"{op}: '{arg['name']}' is")
        good.setflags(write=False)
        call.outputs[k] = good
        assert_refused(call, f"{op}: '{arg['name']}' is read-only")


@pytest.mark.parametrize("op", OPS)
def test_subclasses_and_memory_maps_are_arrays(op, tmp_path):
    """An ndarray subclass is taken as the memory it is; a memory map is written through."""
    sample = largest(op, "float32")
    want = run(make_call(op, sample, "float32"))
    call = make_call(op, sample, "float32")
    count = iter(range(99))

    def mapped(array):
        if array.size == 0:
            return array
        made = np.memmap(tmp_path / str(next(count)), array.dtype, "w+", shape=array.shape)
        made[...] = array
        return made

    replace_arrays(call, mapped)
    for k, (got, expected) in enumerate(zip(run(call), want, strict=True)):
        assert_same_bits(np.asarray(got), expected, f"{op} output {k}")


GUARD = r"""
import ctypes, faulthandler, mmap, sys
import numpy as np
from pyfastnn.testing import all_samples, make_call, run

faulthandler.enable()
PAGE, ROOM = mmap.PAGESIZE, 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    '''Memory between two pages that may not be touched.'''

    def __init__(self):
        self.map = mmap.mmap(-1, ROOM + 2 * PAGE)
        self.bytes = np.frombuffer(self.map, np.uint8)
        base = self.bytes.ctypes.data
        for start in (base, base + PAGE + ROOM):
            assert libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(PAGE), 0) == 0

    def place(self, array, at_end):
        assert array.nbytes <= ROOM
        start = PAGE + (ROOM - array.nbytes if at_end else 0)
        view = self.bytes[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view


pool = [Guarded() for _ in range(16)]
count = 0
for at_end in (True, False):
    for op, sample, dtype in all_samples():
        call = make_call(op, sample, dtype)
        free, made = iter(pool), {}

        def place(array):
            if array is None:
                return None
            if id(array) not in made:
                made[id(array)] = next(free).place(array, at_end)
            return made[id(array)]

        kept = call.inputs + call.outputs
        call.inputs = [place(a) for a in call.inputs]
        call.outputs = [place(a) for a in call.outputs]
        print(op, sample.label, dtype, at_end, file=sys.stderr)
        run(call)
        count += 1
print("calls", count)
if len(sys.argv) > 1:
    pool[0].bytes[PAGE + ROOM] = 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
def test_no_kernel_reads_or_writes_past_its_arrays():
    """All arrays lie flush against a page that may not be touched, once at each end."""
    ran = subprocess.run([sys.executable, "-c", GUARD], capture_output=True, text=True, timeout=120, check=False)
    last = ran.stderr.strip().splitlines()[-15:]
    assert ran.returncode == 0, f"stopped with status {ran.returncode} in:\n" + "\n".join(last)
    assert ran.stdout.split() == ["calls", str(2 * len(list(all_samples())))]


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
def test_guard_pages_guard():
    ran = subprocess.run([sys.executable, "-c", GUARD, "touch"], capture_output=True, timeout=120, check=False)
    assert ran.returncode == -11
