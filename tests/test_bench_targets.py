"""Floors, targets, searches, profiles and the page of results; no time is asserted."""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pyfastnn import Trainer, _core, data, nn, optim
from pyfastnn.bench import gemm, machine, op, peaks, search, step, tasks
from pyfastnn.bench.floor import floor
from pyfastnn.bench.race import Result
from pyfastnn.bench.timing import Reading, WrongResult, summarize
from pyfastnn.cli import main

ROOT = Path(__file__).resolve().parents[1]
# What one thread of another machine measured for itself.
PEAKS = {
    "threads": 1,
    "gflops": 117.4,
    "bytes": {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20},
    "read": {"L1": 220.5, "L2": 117.1, "L3": 99.5, "memory": 20.5},
    "update": {"L1": 296.1, "L2": 175.2, "L3": 148.6, "memory": 37.4},
    "scaled": [],
}


@pytest.fixture(autouse=True)
def same_threads():
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture
def bench(monkeypatch):
    """Imports modules of the repository's package ``bench``."""
    if not (ROOT / "bench" / "workers.py").is_file():
        pytest.skip("the folder bench stands in the repository only")
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


def result(name, case, **seconds):
    """Return a result with these seconds by label, ours first; underscores stand for spaces."""
    readings = {k.replace("_", " "): [Reading(v, 0.0)] * 6 for k, v in seconds.items()}
    return Result(name, case, summarize(readings, "ours"), "", {})


def document(benchmark, results, **more):
    """Return a document of results."""
    about = {"benchmark": benchmark, "threads": 1, "dtype": "float32", "isa_forced": None, "peaks": PEAKS}
    return json.loads(json.dumps(about | more | {"results": [r.json() for r in results]}))


def test_floor_of_t5_is_the_one_computed_by_hand():
    found = floor(tasks.get("T5"), PEAKS)
    parameters = 64 * 32 + 32 + 32 * 10 + 10
    moved = 4 * (10 * parameters + 32 * 64 + 4 * 32 * (32 + 10))
    assert found.level == "L2"
    assert found.arithmetic == pytest.approx(tasks.get("T5").flop / 117.4e9)
    assert found.gather == pytest.approx(4 * 32 * 64 / 99.5e9)
    assert found.traffic == pytest.approx(moved / 175.2e9)
    assert found.seconds == pytest.approx(3.56e-6, rel=0.01)


@pytest.mark.parametrize(
    ("task", "level", "us"),
    [("T1", "L3", 628.0), ("T3", "L3", 1195.0), ("T4", "L3", 1896.0), ("T6", "memory", 23132.0)],
)
def test_floors_count_what_has_to_move(task, level, us):
    found = floor(tasks.get(task), PEAKS)
    assert found.level == level
    assert found.seconds * 1e6 == pytest.approx(us, rel=0.01)


def test_floor_of_t4_is_the_one_computed_by_hand():
    found = floor(tasks.get("T4"), PEAKS)
    products = 2 * 64 * (2 * 32 * 32 * 6 * 5 * 5 * 3 + 3 * 16 * 16 * 16 * 3 * 3 * 6 + 3 * 1024 * 10)
    assert products == 206_831_616
    parameters = (5 * 5 * 3 * 6 + 6) + (3 * 3 * 6 * 16 + 16) + (1024 * 10 + 10)
    assert parameters == 11_586
    images, values = 32 * 32 * 3, 32 * 32 * 6 + 16 * 16 * 6 + 16 * 16 * 16 + 8 * 8 * 16 + 10
    assert found.arithmetic == pytest.approx(products / 117.4e9)
    assert found.gather == pytest.approx(4 * 64 * images / 20.5e9)
    assert found.traffic == pytest.approx(4 * (8 * parameters + 64 * (images + 4 * values)) / 148.6e9)


def test_shapes_of_a_net_of_convolutions_are_those_of_its_layers():
    for name in ("T4", "T7"):
        task = tasks.get(name)
        model, shape = step.model_of(task), task.row_shape
        for layer, after in zip(model.layers.values(), task.shapes, strict=True):
            shape = layer.output_shape(shape)
            assert shape == after
        wanted = {k: v.shape for k, v in tasks.first_weights(task).items()}
        assert {k: v.shape for k, v in model.state_dict().items() if k in wanted} == wanted


def test_peaks_say_what_they_could_not_measure():
    found = peaks.measure(2, seconds=1e-4)
    assert found["threads"] == 2
    assert list(found["read"]) == list(found["update"]) == list(peaks.LEVELS)
    rates = [found["gflops"], *found["read"].values(), *found["update"].values()]
    assert all(np.isfinite(r) and r > 0 for r in rates)
    assert set(found["scaled"]) <= {"gflops", *(f"{k} {level}" for k in ("read", "update") for level in peaks.LEVELS)}
    assert "GF/s" in peaks.describe(found)


@pytest.mark.parametrize(
    ("size", "threads", "level"), [(1, 1, "L1"), (33 << 10, 1, "L2"), (33 << 10, 2, "L1"), (40 << 20, 2, "memory")]
)
def test_each_thread_brings_its_caches(size, threads, level):
    assert peaks.level_of(PEAKS | {"threads": threads}, size) == level


def test_probes_refuse_other_arrays():
    with pytest.raises(TypeError, match="multiple of 128"):
        _core.probe_read(np.ones(100, np.float32), 1)
    with pytest.raises(TypeError, match="'y'"):
        _core.probe_update(np.ones(128), np.ones(128, np.float32), 1)
    y = np.ones(128, np.float32)
    _core.probe_update(y, np.ones(128, np.float32), 2)
    np.testing.assert_array_equal(y, 2)
    assert _core.probe_multiply_add(20) == 2 * _core.probe_multiply_add(10)


def test_random_products_are_the_same_every_time():
    cases = gemm.cases(lists=["random"])
    assert cases == gemm.cases(lists=["random"])
    assert len(cases) == 3 * gemm.RANDOM_SHAPES
    sizes = [case[k] for case in cases for k in "mkn"]
    assert min(sizes) >= 1
    assert max(sizes) <= gemm.LARGEST_RANDOM
    assert {case["kind"] for case in cases} == {"NN", "NT", "TN"}
    assert all(c["m"] * c["k"] * c["n"] >= 1e6 and c["n"] in (10, 50) for c in gemm.cases(lists=["skinny"]))


def test_steps_are_held_against_floor_and_peers(bench):
    least = floor(tasks.get("T5"), PEAKS).seconds
    made = result("T5", {"task": "T5"}, ours=3 * least, numpy=24 * least, jax_scan=5 * least, torch_fused=300 * least)
    rows = {row.what: row for row in bench("targets").rows(document("step", [made]))}
    over = rows["T5, 1 thread(s): over the floor"]
    assert (over.met, over.reached) == (False, pytest.approx(3))
    assert over.cells()[-1] == "missed by 1.50x"
    assert rows["T5, 1 thread(s): against numpy"].met
    assert not rows["T5, 1 thread(s): against jax scan"].met
    assert rows["T5, 1 thread(s): against torch fused"].reached == pytest.approx(100)


def test_watching_is_held_against_not_watching(bench):
    readings = {
        "ours": [Reading(1.0, 0.0)] * 6,
        "ours fit": [Reading(1.1 * speed, 0.0) for speed in (1, 2, 4, 1, 3, 5)],
        "ours unwatched": [Reading(speed, 0.0) for speed in (1, 2, 4, 1, 3, 5)],
    }
    notes = step.notes(readings)
    assert notes == {"watching": pytest.approx(0.1)}
    assert step.notes({"ours": readings["ours"], "ours fit": readings["ours fit"]}) == {}
    seconds = floor(tasks.get("T1"), PEAKS).seconds
    times = summarize({**readings, "ours": [Reading(seconds, 0.0)] * 6}, "ours")
    made = [Result("T1", {"task": "T1"}, times, "", notes), Result("T3", {"task": "T3"}, times, "", {"watching": 0.01})]
    rows = {row.what: row for row in bench("targets").rows(document("step", made))}
    assert set(rows) == {"T1, 1 thread(s): cost of watching", "T3, 1 thread(s): cost of watching"}
    assert rows["T1, 1 thread(s): cost of watching"].cells()[1:] == ("at most 2.0 %", "10.0 %", "missed by 5.00x")
    assert rows["T3, 1 thread(s): cost of watching"].met
    race = [*made, result("T5", {"task": "T5"}, ours=1.0)]  # which has too few rounds for it
    assert not any("watching" in row.what for row in bench("targets").rows(document("step", race)))
    table = bench("publish").PARTS["watching"]({"watching": document("step", made)})
    assert [[cell.strip() for cell in line.split("|")][-2] for line in table.splitlines()[2:]] == ["10.0 %", "1.0 %"]
    assert "10.0 %" in step.report(made)


def test_watching_is_measured_in_whole_rounds_of_its_steps():
    watched, unwatched = (step.subject({"task": "T1"}, variant) for variant in ("fit", "unwatched"))
    assert watched.unit == unwatched.unit == 50
    for fit, records in ((watched, 2), (unwatched, 0)):
        fit.reset()
        fit.run(100)
        assert len(fit.trainer.history.statistics) == records
    with pytest.raises(NotImplementedError):
        step.subject({"task": "T5"}, "unwatched")


def test_products_are_judged_by_the_better_of_two_libraries(bench):
    cases = gemm.cases(["NN:8x8x8", "NN:9x9x9"])
    made = [
        result(gemm.name(c), c | {"list": "random"}, ours=1.0, numpy=n, torch=1.3, jax=0.1)
        for c, n in zip(cases, (1.2, 0.9), strict=True)
    ]
    rows = {row.what: row for row in bench("targets").rows(document("gemm", made))}
    assert rows["gemm random list: shapes at 1.0x or more"].reached == 0.5
    assert rows["gemm random list: worst"].reached == pytest.approx(0.9)
    mean = rows["gemm random list: mean against the better of OpenBLAS and MKL"]
    assert mean.reached == pytest.approx(np.sqrt(1.2 * 0.9))
    avx2 = bench("targets").rows(document("gemm", made, isa_forced="avx2"))
    assert [row.wanted for row in avx2] == [0.95]


def test_convolutions_are_held_against_the_peak_and_torch(bench):
    made = []
    for case in [c for name in ("conv2d_forward", "conv2d_dx", "conv2d_dw") for c in op.cases([name])]:
        least = op.specs()[case["op"]].cost(4, **case["sizes"]).flop / (PEAKS["gflops"] * 1e9)
        made.append(result(op.name(case), case, ours=2 * least, torch=4 * least))
    rows = {row.what: row for row in bench("targets").rows(document("op", made))}
    wanted = {}
    for what, row in rows.items():
        words, kind = what.split(": ")
        assert row.reached == pytest.approx(0.5 if kind == "share of the peak" else 2)
        wanted[words.split()[0], tuple(words.split()[1].split("_")[1:6]), kind] = row.wanted
    share, torch = "share of the peak", "against torch"
    # h32_w32_g3_o6_kh5: forward six channels come out, backward three.
    three_six, one_many = ("h32", "w32", "g3", "o6", "kh5"), ("h28", "w28", "g1", "o32", "kh3")
    six_many, many = ("h16", "w16", "g6", "o16", "kh3"), ("h16", "w16", "g32", "o64", "kh3")
    expected = {
        ("conv2d_forward", three_six): (0.80, 2.3),
        ("conv2d_dx", three_six): (0.80, 2.3),
        ("conv2d_dx", six_many): (0.80, 2.3),
        ("conv2d_forward", six_many): (0.90, 0.95),
        ("conv2d_forward", one_many): (0.65, 0.95),
        ("conv2d_forward", many): (0.90, 0.95),
        ("conv2d_dx", many): (0.90, 0.95),
    }
    for (name, sizes), both in expected.items():
        assert (wanted[name, sizes, share], wanted[name, sizes, torch]) == both
    assert wanted["conv2d_dw", ("h32", "w32", "c3", "o16", "kh3"), share] == 0.85
    assert ("conv2d_dx", one_many, share) not in wanted
    for r in made:
        r.case["dtype"] = "float64"
    double = bench("targets").rows(document("op", made, dtype="float64"))
    assert {row.wanted for row in double} == {3.0}


def test_every_op_target_names_a_case(bench):
    targets = bench("targets")
    names = {op.name(c) for c in op.cases()}
    assert {name for name, _, _ in targets.OPS} | set(targets.BANDWIDTH_OPS) <= names


def test_peers_are_found_whatever_threads_they_have(bench):
    begins = bench("targets")._begins
    assert begins("torch 1t fused", "torch fused")
    assert begins("numpy", "")
    assert not begins("torch", "torch fused")
    assert not begins("jax jit", "jax scan")


def test_a_search_trains_the_same_everywhere(bench, monkeypatch):
    monkeypatch.setattr(search, "TRIALS", 2)
    monkeypatch.setattr(search, "EPOCHS", 1)
    _core.set_num_threads(2)
    (case,) = search.cases(["T5"])
    assert case["at_once"] == 2
    ours, peer = search.Search(case), bench("peer_numpy").subject("search", case, "")
    answers = {"ours": ours.check(), "numpy": peer.check()}
    search.verify(case, answers)
    ours.run(1)
    peer.run(1)
    answers["numpy"]["losses"][1][20] *= 1.01
    with pytest.raises(WrongResult, match="numpy"):
        search.verify(case, answers)
    floor_seconds = floor(tasks.get("T5"), PEAKS).seconds * 2 * tasks.get("T5").steps / 2
    assert search.least_seconds(case, PEAKS) == pytest.approx(floor_seconds)


def test_side_by_side_runs_in_one_process_only(bench, monkeypatch):
    case = {"task": "T1", "at_once": 2}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert search.at_once(case, "side by side") == 2
    assert search.at_once(case, "scan") == 1
    for wrong in ({"one_pool": True}, {}):
        other = case if wrong else case | {"at_once": 1}
        with pytest.raises(NotImplementedError):
            search.at_once(other, "side by side", **wrong)


@pytest.mark.parametrize("task", ["T1", "T3", "T4", "W16"])
def test_jax_trains_the_same(task, bench):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    workers = bench("workers")
    worker = workers.Worker("jax", 1)
    try:
        answers = {"ours": step.Bare(tasks.get(task)).check()}
        for variant in ("jit", "scan"):
            answers[variant] = workers.RemoteRunner(worker, variant).prepare("step", {"task": task})
        assert (answers["scan"] is None) == bool(tasks.get(task).image)
        step.verify({"task": task}, {k: v for k, v in answers.items() if v is not None})
    finally:
        worker.close()


def test_torch_trains_the_same_convolutions(bench):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    workers, case = bench("workers"), {"task": "T4"}
    worker = workers.Worker("torch", 1)
    try:
        answers = {"ours": step.Bare(tasks.get("T4")).check()}
        for variant in ("", "fused", "channels_last", "channels_last fused"):
            answers[f"torch {variant}"] = workers.RemoteRunner(worker, variant).prepare("step", case)
        assert len(answers) == 5
        step.verify(case, answers)
        answers["torch fused"]["losses"][4] += 2e-5
        with pytest.raises(WrongResult, match="step 5: torch fused .* five decimals"):
            step.verify(case, answers)
        assert workers.RemoteRunner(worker, "channels_last").prepare("step", {"task": "T5"}) is None
    finally:
        worker.close()


def test_peers_without_convolutions_take_no_part(bench):
    with pytest.raises(NotImplementedError, match="convolutions"):
        bench("peer_numpy").subject("step", {"task": "T4"}, "")


def test_profile_leaves_the_trainer_as_it_was():
    X, y = data.load_digits()
    model = nn.Sequential(nn.Linear(16), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.5), nn.Linear(10))
    trainer = Trainer(model, optimizer=optim.Adam(), seed=3)
    trainer.fit(X, y, epochs=1, batch_size=50, verbose=0)
    state = {k: v.copy() for k, v in {**model.arrays(), **trainer.slots}.items()}
    counters = trainer.epoch, trainer.step_count, len(trainer.history)
    found = trainer.profile(X, y, seconds=0.01)
    for name, array in {**model.arrays(), **trainer.slots}.items():
        np.testing.assert_array_equal(array, state[name])
    assert (trainer.epoch, trainer.step_count, len(trainer.history)) == counters
    assert found.batch == 50
    assert sum(s.share for s in found.steps) == pytest.approx(1)
    assert {"gather_rows", "batch_norm_forward", "adam_step"} <= {s.op for s in found.steps}
    assert "linear_forward -> linear_1.y" in str(found)
    assert "of peak" in str(found)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": True}, {"seconds": -1}])
def test_profile_refuses_bad_numbers(wrong):
    X, y = data.load_digits()
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        Trainer(nn.Sequential(nn.Linear(10))).profile(X, y, **wrong)


def test_train_shows_a_profile(capsys):
    assert main(["train", "digits", "--epochs", "1", "--hidden", "8", "--profile", "--verbose", "0"]) == 0
    assert "softmax_cross_entropy -> loss" in capsys.readouterr().out


def test_results_come_back_from_json():
    made = result("T5", {"task": "T5"}, ours=1.0, numpy=2.0)
    again = Result.from_json(json.loads(json.dumps(made.json())))
    assert again == made
    assert asdict(again.times["numpy"])["ratio"] == 2


@pytest.fixture
def documents():
    """Small documents of every kind."""
    steps = [result(n, {"task": n}, ours=1e-5, ours_fit=2e-5, numpy=3e-5, jax_scan=4e-5) for n in ("W16", "W32")]
    products = [result(gemm.name(c), c, ours=1e-4, numpy=2e-4, torch=3e-4) for c in gemm.cases(["20x20x20"])]
    more = {"commit": "abc", "versions": {"numpy": "2"}, "machine": machine.describe()}
    return {"sizes": document("step", steps, **more), "gemm": document("gemm", products, **more)}


def test_the_page_is_filled_from_results(bench, documents):
    publish = bench("publish")
    page = "# P\n<!-- bench: sizes -->\nold\n<!-- end -->\n<!-- bench: search -->\nkept\n<!-- end -->\n<!-- bench: gemm -->\n<!-- end -->\n"
    text = publish.render(page, documents)
    assert "old" not in text
    assert "kept" in text
    assert "jax scan" in text
    assert "NT:20x20x20" in text
    assert publish.render(text, documents) == text
    with pytest.raises(ValueError, match="nothing"):
        publish.render("<!-- bench: nothing -->\n<!-- end -->", documents)


def test_the_page_in_the_repository_has_every_part(bench):
    parts = bench("publish").PARTS
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in parts:
        assert page.count(f"<!-- bench: {name} -->") == 1
    assert page.count("<!-- end -->") == len(parts)


def test_pictures_are_drawn(bench, documents, tmp_path):
    if importlib.util.find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    paths = bench("plot").draw(documents, tmp_path)
    assert [p.name for p in paths] == ["gemm.svg", "step.svg"]
    assert "width w of the net" in paths[1].read_text()
    again = paths[0].read_bytes()
    bench("plot").draw(documents, tmp_path)
    assert paths[0].read_bytes() == again
