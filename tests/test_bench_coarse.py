"""The benchmark of the lectures' coarse search: the same trials for every library; no time is asserted."""

from __future__ import annotations

import copy
import importlib
import importlib.util
from pathlib import Path

import pytest

from pyfastnn import _core
from pyfastnn.bench import coarse
from pyfastnn.bench.race import Result
from pyfastnn.bench.timing import Summary, WrongResult

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"rows": 300, "trials": 4, "epochs": 2, "at_once": 2}


def summary(median, ratio):
    return Summary(median, median, median, median, ratio, ratio, 3, 3)


@pytest.fixture
def bench(monkeypatch):
    """Imports modules of the repository's package ``bench``."""
    if not (ROOT / "bench" / "workers.py").is_file():
        pytest.skip("the folder bench stands in the repository only")
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"bench.{name}")


@pytest.fixture
def answer():
    return coarse.Search(SMALL).check()


def test_the_case_is_a_documented_part_of_the_lecture():
    _core.set_num_threads(2)
    (case,) = coarse.cases()
    assert case == {"rows": 4900, "trials": 25, "epochs": 5, "at_once": 2}
    assert coarse.name(case) == "coarse 25x5"
    assert (coarse.VALIDATION_ROWS, coarse.BATCH, coarse.FEATURES, coarse.HIDDEN) == (1000, 100, 3072, 50)
    drawn = coarse.params(case)
    assert len(drawn) == 25
    assert all(1e-6 <= p["learning_rate"] <= 1e-3 and 1e-5 <= p["weight_decay"] <= 1e5 for p in drawn)
    with pytest.raises(ValueError, match="no case 'T1'"):
        coarse.cases(["T1"])


def test_ours_searches_through_the_trials_of_the_list(answer):
    study = coarse.Search(SMALL)._search(4, shuffle=False)
    assert [t.params for t in study] == coarse.params(SMALL)
    assert [len(losses) for losses, _ in answer["trials"]] == [len(t.history) for t in study]
    coarse.Search(SMALL).run(1)


@pytest.mark.parametrize("change", ["loss", "accuracy", "epochs"])
def test_another_result_is_refused(answer, change):
    longest = max(range(4), key=lambda k: len(answer["trials"][k][0]))
    other = copy.deepcopy(answer)
    coarse.verify(SMALL, {"ours": answer, "torch fused": other})
    if change == "loss":
        other["trials"][longest][0][-1] *= 1.01
    elif change == "accuracy":
        other["trials"][longest][1] += 0.01
    else:
        other["trials"][longest][0].pop()
    with pytest.raises(WrongResult, match="torch fused"):
        coarse.verify(SMALL, {"ours": answer, "torch fused": other})


def test_torch_searches_the_same(bench):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    workers = bench("workers")
    worker = workers.Worker("torch", 1)
    case = SMALL | {"trials": 6}
    try:
        answers = {"ours": coarse.Search(case).check()}
        for variant in ("fused", "fused side by side"):
            answers[variant] = workers.RemoteRunner(worker, variant).prepare("coarse", case)
        coarse.verify(case, answers)
        assert len(answers["fused"]["trials"]) == 6
    finally:
        worker.close()


def test_side_by_side_runs_in_the_process_of_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert coarse.at_once(SMALL, "fused") == 1
    assert coarse.at_once(SMALL, "fused side by side") == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(NotImplementedError):
        coarse.at_once(SMALL, "fused side by side")


def test_the_target_is_about_the_loop_that_is_quickest(bench):
    times = {
        "ours": summary(1.0, 1.0),
        "torch fused": summary(2.5, 2.5),
        "torch 1t fused": summary(4.0, 4.0),
        "torch 1t fused side by side": summary(1.5, 1.5),
    }
    result = Result("coarse 25x5", dict(SMALL), times, "", {})
    (row,) = bench("targets").rows({"benchmark": "coarse", "threads": 2, "results": [result.json()]})
    assert row.at_most and row.met and row.reached == pytest.approx(0.4) and row.wanted == 0.45
    assert "torch fused" in row.note
    table = coarse.report([result])
    assert "0.40x" in table and "0.67x" in table
    assert "refused" in coarse.report([Result("coarse 25x5", dict(SMALL), {}, "why", {})])
