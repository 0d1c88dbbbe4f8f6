"""What users stumble over when a plan runs their arrays: rates, threads, wrong arrays, results that change later."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.backends.cpu import HYPER, CpuPlan
from pyfastnn.graph import BATCH, Builder
from pyfastnn.testing import assert_same_bits, rng_of

RATE = HYPER["learning_rate"]


def descent() -> tuple[CpuPlan, dict[str, np.ndarray]]:
    """Return a plan that gathers rows, takes their mean square and steps down, and its arrays."""
    builder = Builder(training=True)
    data = builder.value("data", ("m", 3), "any")
    target = builder.value("target", ("m", 2), "any")
    index = builder.value("index", (BATCH,), "i64")
    w = builder.value("w", (3, 2), kind="parameter")
    (x,) = builder.emit("gather_rows", (data, index, None, None), outputs=("x",))
    (t,) = builder.emit("gather_rows", (target, index, None, None), outputs=("t",))
    (y,) = builder.emit("linear_forward", (x, w, None), outputs=("y",))
    loss, dy = builder.emit("mean_squared_error", (y, t, None), outputs=("loss", "dy"))
    (dw,) = builder.emit("linear_dw", (x, dy), outputs=("dw",))
    builder.emit("sgd_step", (w, dw))
    rng = rng_of("descent")
    arrays = {
        "data": rng.standard_normal((20, 3)).astype("f4"),
        "target": rng.standard_normal((20, 2)).astype("f4"),
        "index": rng.permutation(20),
        "w": rng.standard_normal((3, 2)).astype("f4"),
        "loss": np.full(5, -1.0),
    }
    return CpuPlan({"train": builder.graph}, {"loss": "step"}, max_batch=8), arrays


def rates(*learning_rates: float) -> np.ndarray:
    hyper = np.zeros((len(learning_rates), 1, len(HYPER)))
    hyper[:, 0, RATE] = learning_rates
    return hyper


def endless() -> tuple[CpuPlan, dict[str, np.ndarray]]:
    """Return a plan over so many steps of one row that it runs until something stops it."""
    builder = Builder()
    x = builder.value("x", (BATCH, 1))
    builder.emit("tanh_forward", (x,), outputs=("y",))
    rows = 20_000_000
    arrays = {"x": np.zeros((rows, 1), "f4"), "y": np.zeros((rows, 1), "f4")}
    return CpuPlan({"run": builder.graph}, {"y": "row"}, max_batch=1), arrays


def test_rates_change_between_runs_without_rebuilding():
    """The gradient at the same weights is the same, so the way is exactly proportional to the rate (powers of two)."""
    plan, arrays = descent()
    start = arrays["w"].copy()
    ways = []
    for rate in (0.5, 0.25, 0.0):
        arrays["w"][...] = start
        plan.run("train", 8, 8, arrays, hyper=rates(rate))
        ways.append(start.astype("f8") - arrays["w"])
    assert np.abs(ways[0]).min() > 1e-3
    np.testing.assert_allclose(ways[0], 2 * ways[1], rtol=1e-4)  # two roundings of w, 2**-24 of it each
    np.testing.assert_array_equal(ways[2], 0)


def test_rates_change_from_step_to_step():
    """One hyper row a step; a rate of 0 after the first step leaves what the first step made."""
    plan, arrays = descent()
    start = arrays["w"].copy()
    plan.run("train", 8, 8, arrays, hyper=rates(0.5))
    once = arrays["w"].copy()
    arrays["w"][...] = start
    assert plan.run("train", 20, 8, arrays, hyper=rates(0.5, 0.0, 0.0)) == (3, "finished")
    assert_same_bits(arrays["w"], once)
    arrays["w"][...] = start
    plan.run("train", 20, 8, arrays, hyper=rates(0.5))  # one row serves all steps
    assert (arrays["w"] != once).all()


def test_trainer_takes_a_new_rate_without_compiling():
    X, y = fnn.data.load_digits()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(10)), optimizer=optim.SGD(0.01, momentum=0.9))
    trainer.fit(X, y, epochs=1, verbose=0)
    compiled = trainer._compiled
    trainer.optimizer.learning_rate = 0.0
    trainer.optimizer.momentum = 0.0  # would be another op: the object says which, when the plan is made
    trainer.optimizer.momentum = 0.5
    before = trainer.model.state_dict()
    trainer.fit(X, y, epochs=2, verbose=0)
    assert trainer._compiled is compiled
    assert trainer.history["learning_rate"] == [0.01, 0.0, 0.0]
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)


@pytest.mark.parametrize("entry", ["run", "bind", "trace", "describe", "restore"])
def test_second_thread_is_refused_at_once(entry):
    """While one thread is inside, another gets an error, not a wait: the progress call of the first waits for it."""
    plan, arrays = endless()
    small = {k: a[:1] for k, a in arrays.items()}
    calls = {
        "run": lambda: plan.run("run", 1, 1, small),
        "bind": lambda: plan.bind(small),
        "trace": lambda: plan.trace("run", 1, small),
        "describe": lambda: plan.describe("run"),
        "restore": lambda: plan.restore("run"),
    }
    seen: list[BaseException | str] = []

    def intrude() -> None:
        try:
            calls[entry]()
            seen.append("no error")
        except BaseException as error:
            seen.append(error)

    def progress(done: int) -> bool:
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join(timeout=10)
        return True

    _, reason = plan.run("run", len(arrays["x"]), 1, arrays, progress=progress)
    assert reason == "interrupted"
    assert [type(e) for e in seen] == [RuntimeError]
    assert str(seen[0]) == "plan: already running in another thread"
    assert plan.run("run", 1, 1, small) == (1, "finished")


def test_a_plan_is_free_again_after_an_error():
    plan, arrays = descent()
    with pytest.raises(ValueError, match="hyper"):
        plan.run("train", 8, 8, arrays)
    assert plan.run("train", 8, 8, arrays, hyper=rates(0.1)) == (1, "finished")


def test_error_in_progress_comes_through_and_frees_the_plan():
    plan, arrays = endless()

    def progress(done: int) -> bool:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        plan.run("run", len(arrays["x"]), 1, arrays, progress=progress)
    assert plan.run("run", 1, 1, {k: a[:1] for k, a in arrays.items()}) == (1, "finished")


def test_progress_says_how_many_steps_stand():
    """The steps it is told, and those returned, are written; what lies after is not."""
    plan, arrays = endless()
    arrays["x"][...] = 1
    told: list[int] = []
    done, reason = plan.run("run", len(arrays["x"]), 1, arrays, progress=lambda k: told.append(k) or len(told) == 2)
    assert reason == "interrupted"
    assert 0 < told[0] < told[1] == done < len(arrays["x"])
    assert (arrays["y"][:done] == arrays["y"][0]).all()
    assert (arrays["y"][done:] == 0).all()


def fit_alone(seed: int) -> dict[str, np.ndarray]:
    X, y = fnn.data.load_digits()
    model = nn.Sequential(nn.Linear(32), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10))
    trainer = fnn.Trainer(model, seed=seed, threads=1 + seed % 2)
    trainer.fit(X, y, epochs=4, verbose=0)
    return {**model.state_dict(), "loss": np.array(trainer.history["loss"])}


def test_plans_in_threads_equal_serial_bits():
    want = [fit_alone(seed) for seed in range(4)]
    got: dict[int, dict[str, np.ndarray]] = {}
    threads = [threading.Thread(target=lambda s=s: got.__setitem__(s, fit_alone(s))) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for seed, arrays in enumerate(want):
        for name, array in arrays.items():
            assert_same_bits(got[seed][name], array, f"{name} of {seed}")


def test_a_model_predicts_in_many_threads():
    """Eight threads at once get the bits that one gets alone, also while the plans are made."""
    X, y = fnn.data.load_digits()
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(64), nn.BatchNorm(), nn.ReLU(), nn.Linear(10)))
    trainer.fit(X, y, epochs=2, verbose=0)
    want = [trainer.model(X[k : k + 300]) for k in range(8)]
    trainer.model.refresh()
    wrong: list[str] = []

    def work(k: int) -> None:
        try:
            for _ in range(40):
                assert_same_bits(trainer.model(X[k : k + 300]), want[k])
        except BaseException as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []


def test_a_trainer_is_fitted_by_one_thread_at_a_time():
    """A second fit, in another thread or in a callback, is refused before it changes anything; the first goes on."""
    X, y = fnn.data.load_digits()
    trainer, plain = (fnn.Trainer(nn.Sequential(nn.Linear(10)), seed=3) for _ in range(2))
    refused: list[str] = []

    def again() -> None:
        try:
            trainer.fit(X, y, epochs=1, verbose=0)
        except RuntimeError as error:
            refused.append(str(error))

    def callback(trainer, row):
        again()
        thread = threading.Thread(target=again)
        thread.start()
        thread.join(timeout=10)

    trainer.fit(X, y, epochs=2, callbacks=[callback], verbose=0)
    assert len(refused) == 4
    assert all("the trainer is training already" in text for text in refused)
    plain.fit(X, y, epochs=2, verbose=0)
    assert trainer.history["loss"] == plain.history["loss"]
    trainer.fit(X, y, epochs=1, verbose=0)


def test_results_are_not_written_again():
    """What was handed out keeps its values through later calls."""
    rng = rng_of("results")
    X, y = rng.standard_normal((40, 6)).astype("f4"), rng.integers(0, 3, 40)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(3)))
    trainer.fit(X, y, epochs=1, verbose=0)
    given = {
        "scores": trainer.model(X),
        "predict": trainer.model.predict(X),
        "proba": trainer.model.predict_proba(X),
        **trainer.model.state_dict(),
        **{f"trace {k}": v for k, v in trainer.trace(X, y)[0].items()},
    }
    copies = {k: a.copy() for k, a in given.items()}
    trainer.trace(X[::-1].copy(), y)
    trainer.fit(X, y, epochs=2, verbose=0)
    trainer.model.predict_proba(-X)
    trainer.evaluate(X, y)
    for name, array in given.items():
        assert_same_bits(array, copies[name], name)


WRONG = {
    "unbound": ({"data": None}, ValueError, "'data' is not bound to an array"),
    "unbound result": ({"loss": None}, ValueError, "'loss' is not bound to an array"),
    "short index": ({"index": np.arange(19)}, ValueError, "'index' has 19 rows, expected 20"),
    "short result": ({"loss": np.zeros(2)}, ValueError, "'loss' has 2 rows, expected 3"),
    "dtype of a parameter": ({"w": np.zeros((3, 2))}, TypeError, "'w' has dtype float64, expected float32"),
    "dtype of an index": ({"index": np.arange(20.0)}, TypeError, "'index' has dtype float64, expected int64"),
    "dtype of a result": ({"loss": np.zeros(5, "f4")}, TypeError, "'loss' has dtype float32, expected float64"),
    "dtype of data": ({"data": np.zeros((20, 3), "i8")}, TypeError, "expected float32, float64 or uint8"),
    "half precision": ({"data": np.zeros((20, 3), "f2")}, TypeError, "'data' has dtype float16"),
    "columns": (
        {"data": np.zeros((20, 4), "f4")},
        ValueError,
        "'data' has shape .20, 4., expected 3 items in each row",
    ),
    "size of a parameter": ({"w": np.zeros((3, 3), "f4")}, ValueError, "'w' has shape .3, 3., expected 6 items"),
    "scalar": ({"data": np.float32(1)}, TypeError, "'data' is a float32, expected a NumPy array"),
    "list": ({"data": [[1.0, 2.0, 3.0]]}, TypeError, "'data' is a list, expected a NumPy array"),
    "strides": ({"data": np.zeros((40, 3), "f4")[::2]}, ValueError, "'data' is not C-contiguous"),
    "byte order": ({"data": np.zeros((20, 3), ">f4")}, ValueError, "'data' is big-endian"),
    "index too large": ({"index": np.arange(1, 21)}, ValueError, "'index' holds 20, expected row numbers from 0 to 19"),
    "index negative": ({"index": np.arange(-1, 19)}, ValueError, "'index' holds -1, expected row numbers"),
    "index beyond the shorter of two": ({"target": np.zeros((19, 2), "f4")}, ValueError, "'index' holds 19"),
    "unknown name": ({"wdata": np.zeros(3)}, ValueError, "no value is named 'wdata'"),
    "inner name": ({"dw": np.zeros((3, 2), "f4")}, ValueError, "'dw' lives in the plan's own memory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused_and_nothing_is_written(case):
    plan, arrays = descent()
    bad, error, message = WRONG[case]
    kept = {k: a.copy() for k, a in arrays.items()}
    with pytest.raises(error, match=message):
        plan.run("train", 20, 8, {**arrays, **bad}, hyper=rates(0.1, 0.1, 0.1))
    for name, array in arrays.items():
        assert_same_bits(array, kept[name], name)


def test_read_only_arrays_may_be_read_but_not_written():
    plan, arrays = descent()
    for name in ("data", "target", "index"):
        arrays[name].setflags(write=False)
    assert plan.run("train", 20, 8, arrays, hyper=rates(0.1))[1] == "finished"
    arrays["w"].setflags(write=False)
    with pytest.raises(ValueError, match="'w' is read-only, expected a writable array"):
        plan.run("train", 20, 8, arrays, hyper=rates(0.1))


WRONG_SETTINGS = {
    "batch too large": ({"batch": 9}, ValueError, "batch is 9, expected 1 to 8"),
    "batch of none": ({"batch": 0}, ValueError, "batch is 0, expected 1 to 8"),
    "rows below zero": ({"rows": -1}, ValueError, "rows is -1"),
    "rows beyond the index": ({"rows": 21}, ValueError, "'index' has 20 rows, expected 21"),
    "no hyper": ({"hyper": None}, ValueError, "sgd_step reads hyper row 0"),
    "few hyper rows": ({"hyper": rates(0.1, 0.1)}, ValueError, "too few steps or groups"),
    "hyper fields": ({"hyper": np.zeros((1, 1, 3))}, ValueError, "'hyper' must be a float64 array of shape"),
    "hyper dtype": ({"hyper": rates(0.1).astype("f4")}, ValueError, "'hyper' must be a float64 array of shape"),
    "list": ({"name": "tarin"}, ValueError, "no step list is named 'tarin'"),
    "watch": ({"watch": "w"}, ValueError, "'w' cannot be watched"),
    "watch unknown": ({"watch": "lss"}, ValueError, "no value is named 'lss'"),
    "times": ({"step_ns": np.zeros(2, np.int64)}, ValueError, "'step_ns' must hold one int64"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings_are_refused_and_nothing_is_written(case):
    plan, arrays = descent()
    bad, error, message = WRONG_SETTINGS[case]
    kept = {k: a.copy() for k, a in arrays.items()}
    settings = {"name": "train", "rows": 20, "batch": 8, "arrays": arrays, "hyper": rates(0.1, 0.1, 0.1), **bad}
    with pytest.raises(error, match=message):
        plan.run(**settings)
    for name, array in arrays.items():
        assert_same_bits(array, kept[name], name)


def test_bound_arrays_are_kept_alive_until_let_go():
    plan, arrays = descent()
    kept = weakref.ref(arrays["data"])
    plan.bind(arrays)
    want = arrays["data"].copy()
    del arrays["data"]
    gc.collect()
    assert_same_bits(kept(), want)
    assert plan.run("train", 20, 8, hyper=rates(0.1))[1] == "finished"
    plan.bind({"data": None})
    gc.collect()
    assert kept() is None
    with pytest.raises(ValueError, match="'data' is not bound"):
        plan.run("train", 20, 8, hyper=rates(0.1))


def test_no_data_set_is_kept_alive():
    rng = rng_of("let go")
    y = rng.integers(0, 3, 300)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(3)))
    jobs = {
        "fit": lambda X: trainer.fit(X, y, X_val=X, y_val=y, epochs=2, verbose=0),
        "evaluate": lambda X: trainer.evaluate(X, y),
        "predict": trainer.model.predict,
        "trace": lambda X: trainer.trace(X, y),
        "compare": lambda X: trainer.compare(X, y),
    }
    for name, job in jobs.items():
        X = rng.standard_normal((300, 5)).astype("f4")
        gone = weakref.ref(X)
        job(X)
        del X
        gc.collect()
        assert gone() is None, name


def test_snapshot_and_restore():
    plan, arrays = descent()
    with pytest.raises(RuntimeError, match="no snapshot of .train. was taken"):
        plan.bind(arrays)
        plan.restore("train")
    start = arrays["w"].copy()
    plan.run("train", 20, 8, arrays, hyper=rates(0.1), snapshot=True)
    assert (arrays["w"] != start).all()
    plan.restore("train")
    assert_same_bits(arrays["w"], start)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_watch_stops_behind_the_first_bad_loss(value):
    plan, arrays = descent()
    arrays["target"][arrays["index"][9]] = value  # a row of the second step
    assert plan.run("train", 20, 8, arrays, hyper=rates(0.1), watch="loss") == (2, "nonfinite")
    assert np.isfinite(arrays["loss"][0])
    assert not np.isfinite(arrays["loss"][1])
    assert (arrays["loss"][2:] == -1).all()


def test_watch_stops_above_the_limit():
    plan, arrays = descent()
    assert plan.run("train", 20, 4, arrays, hyper=rates(50.0), watch="loss", limit_factor=3.0)[1] == "limit"
    seen = arrays["loss"][arrays["loss"] >= 0]
    assert (seen[:-1] <= 3 * seen[0]).all()
    assert seen[-1] > 3 * seen[0]
    plan, arrays = descent()
    assert plan.run("train", 20, 4, arrays, hyper=rates(0.01), watch="loss", limit=1e-9) == (1, "limit")


def test_times_are_added_per_node():
    plan, arrays = descent()
    spent = np.zeros(6, np.int64)
    plan.run("train", 20, 8, arrays, hyper=rates(0.1), step_ns=spent)
    assert (spent > 0).all()
    once = spent.copy()
    plan.run("train", 20, 8, arrays, hyper=rates(0.1), step_ns=spent)
    assert (spent > once).all()


def test_an_index_a_step_computes_is_no_bound_index():
    builder = Builder()
    table = builder.value("table", ("m",), "i64")
    index = builder.value("index", (BATCH,), "i64")
    data = builder.value("data", ("m", 3), "any")
    (picked,) = builder.emit("gather_labels", (table, index), outputs=("picked",))
    builder.emit("gather_rows", (data, picked, None, None), outputs=("rows",))
    plan = CpuPlan({"look up": builder.graph}, {"rows": "row"}, max_batch=4)
    rows = np.zeros((2, 3), "f4")
    arrays = {"table": np.array([2, 0, 1, 7]), "index": np.array([0, 3]), "data": np.eye(3, dtype="f4"), "rows": rows}
    plan.run("look up", 2, 2, arrays)
    assert rows[0].tolist() == [0, 0, 1]
    assert np.isnan(rows[1]).all()  # row 7 does not exist


def test_a_fixed_size_that_equals_the_largest_batch_is_refused():
    values = [("x", "T", (4, 3), True, "none"), ("y", "T", (-1, 3), True, "row")]
    with pytest.raises(ValueError, match="relu_forward: 'y' has shape"):
        _core.Plan(values, {"run": [("relu_forward", (0,), (1,), (), 0)]}, max_batch=4)


def test_bound_arrays_must_not_overlap_what_is_written():
    plan, arrays = descent()
    block = np.zeros(20 * 3 + 6, "f4")
    arrays["data"], arrays["w"] = block[:60].reshape(20, 3), block[58:64].reshape(3, 2)
    with pytest.raises(ValueError, match="'w' and 'data' overlap|'data' and 'w' overlap"):
        plan.run("train", 20, 8, arrays, hyper=rates(0.1))
    assert not block.any()


def test_an_unknown_last_list_is_found_before_the_run():
    plan, arrays = descent()
    start = arrays["w"].copy()
    with pytest.raises(ValueError, match="no step list is named 'nope'"):
        plan.run("train", 20, 8, arrays, hyper=rates(0.1), then="nope")
    assert_same_bits(arrays["w"], start)
