"""The benchmarks run and refuse wrong results; no time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyfastnn.bench
from pyfastnn import _core
from pyfastnn.bench import gemm, op, step, tasks
from pyfastnn.bench.breakdown import breakdown, cost_of
from pyfastnn.bench.race import race
from pyfastnn.bench.table import format_table
from pyfastnn.bench.timing import LocalRunner, Reading, Subject, WrongResult, calls_for, interleave, summarize

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--rounds", "2", "--sample-ms", "0.1"]
SMALL = {"gemm": "NT:5x7x3", "op": "relu_forward", "step": "T5"}


@pytest.fixture(autouse=True)
def same_threads():
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture
def peers(monkeypatch):
    """Makes the repository's package ``bench`` importable."""
    if not (ROOT / "bench" / "workers.py").is_file():
        pytest.skip("the folder bench stands in the repository only")
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.peer_numpy")


@pytest.mark.parametrize("name", SMALL)
def test_command_prints_a_table_and_writes_json(name, tmp_path, capsys):
    path = tmp_path / "results" / "out.json"
    assert pyfastnn.bench.main([name, "--cases", SMALL[name], *QUICK, "--json", str(path)]) == 0
    assert SMALL[name] in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert content["benchmark"] == name
    assert content["machine"]["numpy"] == np.__version__
    assert content["results"]
    for result in content["results"]:
        assert result["refused"] == ""
        assert result["times"]["ours"]["median"] > 0
        assert result["times"]["ours"]["ratio"] == 1
        assert result["times"]["ours"]["rounds"] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["step", "--cases", "T9"], "T9"),
        (["op", "--cases", "relu_forwrad"], "relu_forward"),
        (["gemm", "--cases", "3x4"], "expected MxKxN"),
        (["gemm", "--rounds", "0"], "--rounds is 0"),
        (["gemm", "--sample-ms", "-1"], "--sample-ms"),
        (["steps"], "step"),
    ],
)
def test_bad_arguments_are_named(argv, message, capsys):
    assert pyfastnn.bench.main(argv) == 2
    assert message in capsys.readouterr().err


def test_gemm_has_the_products_of_training():
    cases = gemm.cases()
    assert len(cases) == 42
    assert len({gemm.name(case) for case in cases}) == 42
    for case in cases[:15]:
        assert case["kind"] in ("NN", "NT", "TN")


@pytest.mark.parametrize("kind", ["NN", "NT", "TN"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gemm_check_accepts_the_product_and_refuses_a_planted_error(kind, dtype):
    case = {"kind": kind, "m": 13, "k": 21, "n": 17, "dtype": dtype}
    product = gemm.Product(case)
    assert product.check()["excess"] <= 1
    for wrong in (np.nan, product.out[4, 5] * 1.001, 0.0):
        spoiled = product.out.copy()
        spoiled[4, 5] = wrong
        answer = {"excess": gemm.excess(case, product.a, product.b, spoiled)}
        with pytest.raises(WrongResult, match="peer is wrong"):
            gemm.verify(case, {"ours": product.check(), "peer": answer})


class Spoiled(LocalRunner):
    """Ours with a planted error in the kernel's output; counts its samples."""

    def __init__(self):
        super().__init__(pyfastnn.bench, "")
        self.samples = 0

    def prepare(self, bench, case):
        answer = super().prepare(bench, case)
        if bench == "step":
            answer["losses"][30] *= 1.01
        elif bench == "gemm":
            self.subject.out[0, 0] += 1
            answer["excess"] = gemm.excess(case, self.subject.a, self.subject.b, self.subject.out)
        else:
            self.subject.call.outputs[0].reshape(-1)[3] += 1e-3
            outputs = self.subject.call.outputs
            sample = self.subject.sample
            want = self.subject.spec.evaluate(sample, "float32")
            bound = self.subject.spec.error_bound(sample.inputs, sample.attrs, sample.hyper, "float32")
            answer["excess"] = op.worst(outputs, want, bound)
        return answer

    def sample(self, calls):
        self.samples += 1
        return super().sample(calls)


@pytest.mark.parametrize("name", SMALL)
def test_a_wrong_result_is_not_timed(name):
    module = pyfastnn.bench.benchmark(name)
    cases = module.cases([SMALL[name]])[:1]
    good, bad = LocalRunner(pyfastnn.bench, ""), Spoiled()
    said = []
    (result,) = race(name, module, cases, {"ours": good, "peer": bad}, rounds=2, seconds=1e-4, say=said.append)
    assert "peer" in result.refused
    assert result.times == {}
    assert bad.samples == 0
    assert "REFUSED" in said[0]
    assert "refused" in module.report([result])
    (result,) = race(name, module, cases, {"ours": good}, rounds=2, seconds=1e-4, say=said.append)
    assert result.refused == ""


def test_the_command_says_that_a_result_was_wrong(monkeypatch, capsys):
    monkeypatch.setattr(gemm, "excess", lambda *_: 7.0)
    assert pyfastnn.bench.main(["gemm", "--cases", "NN:2x2x2", *QUICK]) == 1
    captured = capsys.readouterr()
    assert "7 times the error bound" in captured.err
    assert "refused" in captured.out


def test_step_check_judges_losses_and_means():
    task = tasks.get("T5")
    bare = step.Bare(task).check()["losses"]
    fit = step.Fit(task).check()["means"]
    assert len(bare) == tasks.CHECK_STEPS
    step.verify({"task": "T5"}, {"ours": {"losses": bare}, "ours fit": {"means": fit}})
    for wrong in ({"losses": bare[:-1]}, {"losses": [*bare[:-1], float("nan")]}, {"means": [fit[0] * 1.01]}):
        with pytest.raises(WrongResult):
            step.verify({"task": "T5"}, {"ours": {"losses": bare}, "peer": wrong})


@pytest.mark.parametrize("name", ["T1", "T3", "T5"])
def test_the_numpy_peer_trains_the_same(name, peers):
    task = tasks.get(name)
    peer = peers.Net(task)
    first = peer.check()
    step.verify({"task": name}, {"ours": step.Bare(task).check(), "numpy": first})
    assert peer.check() == first, "reset puts back all state"


def test_a_task_counts_its_work():
    task = tasks.get("T5")
    forward = 64 * 32 + 32 * 10
    assert task.flop == 2 * 32 * (2 * forward + 32 * 10)
    assert task.rows % task.batch == 0


@pytest.mark.parametrize(
    "name",
    [
        "relu_backward",
        "momentum_step",
        "softmax_cross_entropy",
        "dropout_forward",
        "augment",
        "augment_backward",
        "gather_csr",
    ],
)
def test_the_numpy_ops_are_right_and_start_anew(name, peers):
    case = op.cases([name])[0]
    runner = LocalRunner(peers, "")
    answer = runner.prepare("op", case)
    op.verify(case, {"ours": op.Op(case).check(), "numpy": answer})
    runner.subject.run(3)
    runner.subject.reset()
    assert runner.subject.check()["excess"] <= 1


def test_every_op_has_a_numpy_peer(peers):
    library = importlib.import_module("bench.ops_numpy").LIBRARY
    # NumPy has no bfloat16.
    assert set(library) == {name for name in op.op_table() if not name.endswith("_bf16")}


def test_workers_race_in_processes_of_their_own(peers, tmp_path):
    path = tmp_path / "out.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "gemm",
        "--against",
        "numpy",
        "--cases",
        "3x4x5",
        *QUICK,
        "--json",
        str(path),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())["results"]
    assert [set(r["times"]) for r in results] == [{"ours", "numpy"}] * 3


def test_a_worker_that_fails_says_why(peers):
    workers = importlib.import_module("bench.workers")
    with pytest.raises(RuntimeError, match="No module named 'nowhere'"):
        workers.Worker("nowhere", 1)
    worker = workers.Worker("numpy", 1)
    try:
        with pytest.raises(RuntimeError, match="T9"):
            workers.RemoteRunner(worker, "").prepare("step", {"task": "T9"})
        answer = workers.RemoteRunner(worker, "").prepare("gemm", gemm.cases(["NN:2x3x4"])[0])
        assert answer["excess"] <= 1
    finally:
        worker.close()


def test_breakdown_names_every_step_of_the_plan():
    text = str(breakdown(tasks.get("T5"), seconds=0.01))
    for wanted in ("gather_rows -> x", "linear_dw -> d(linear_1).dw", "adam_step -> linear_2.b", "sum"):
        assert wanted in text


def test_cost_comes_from_the_spec():
    assert cost_of("linear_forward", [(5, 7), (7, 3), None], 4).flop == 2 * 5 * 7 * 3
    assert cost_of("relu_forward", [(4, 6)], 4).byte == 2 * 4 * 24
    assert cost_of("linear_db", [(5, 3)], 4).byte == 4 * (15 + 3)
    assert cost_of("batch_norm_predict", [(5, 2, 3), (3,), (3,), (3,), (3,)], 4).byte >= 2 * 4 * 30


class Fixed(Subject):
    """Counts its calls."""

    def __init__(self):
        self.calls = 0

    def check(self):
        return {}

    def run(self, calls):
        self.calls += calls
        np.sum(np.ones(20 * calls))


class Scripted:
    """A runner whose readings are given."""

    def __init__(self, readings):
        self.readings = iter(readings)

    def calls_for(self, seconds):
        return 1

    def sample(self, calls):
        return next(self.readings)


def test_calls_fill_a_sample():
    assert calls_for(Fixed(), 1e-9) >= 1
    assert calls_for(Fixed(), 1e-3) > 5


def test_ratios_are_of_rounds_and_disturbed_samples_are_taken_again():
    base = [Reading(t, 0.0) for t in (1.0, 2.0, 1.0, 4.0, 1.0, 1.0)]
    slow = [Reading(9.9, 0.5), *(Reading(2 * r.seconds, 0.0) for r in base)]
    found = summarize(interleave({"ours": Scripted(base), "peer": Scripted(slow)}, rounds=6, seconds=1), "ours")
    assert found["peer"].ratio == 2
    assert found["peer"].clean == 6
    assert found["ours"].median == 1
    assert not found["peer"].disturbed


def test_rounds_that_were_never_clean_are_left_out_while_enough_others_are():
    base = [Reading(1.0, 0.0)] * 6
    peer = [*[Reading(50.0, 0.5)] * 4, *[Reading(3.0, 0.0)] * 5]
    found = summarize(interleave({"ours": Scripted(base), "peer": Scripted(peer)}, rounds=6, seconds=1), "ours")["peer"]
    assert (found.ratio, found.clean, found.rounds, found.disturbed) == (3.0, 5, 6, False)
    few = {"ours": base[:2], "peer": [Reading(3.0, 0.5), Reading(5.0, 0.0)]}
    assert summarize(few, "ours")["peer"].disturbed
    assert summarize(few, "ours")["peer"].ratio == 4


def test_table_is_aligned():
    lines = format_table(("a", "b"), [("x", "1.5"), ("longer", "22")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[3].endswith(" 22 |")
