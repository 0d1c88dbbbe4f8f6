"""Training on a stream: the blocks of an epoch are one epoch, and all that a fit promises holds across them."""

from __future__ import annotations

import math
import signal
import warnings

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn, optim
from pyfastnn.backends.cpu import HYPER
from pyfastnn.data import PCA, Standardize, Stream
from pyfastnn.data.sources import ArrayRows
from pyfastnn.testing import assert_same_bits, rng_of
from pyfastnn.train import passes, prepare

RNG = rng_of("stream training")
N, FEATURES = 1003, 6
X = RNG.standard_normal((N, FEATURES)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(int) + (X[:, 2] > 0)
NAMES = np.array(["low", "middle", "top"])
WEIGHTS = RNG.random(N) + 0.1
WEIGHTS[::9] = 0


@pytest.fixture(params=["in place", "copied"], autouse=True)
def way(request, monkeypatch):
    """Arrays are read where they are, or a block at a time as files are: everything holds both ways."""
    if request.param == "copied":
        monkeypatch.setattr(ArrayRows, "in_place", False)
    return request.param


def trainer_of(*, preprocess=None, dtype="float32", **settings) -> fnn.Trainer:
    layers = nn.Linear(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(3)
    return fnn.Trainer(nn.Sequential(*layers, preprocess=preprocess, dtype=dtype), **{"seed": 4, **settings})


def stream_of(**settings) -> Stream:
    return Stream(X, settings.pop("y", Y), **{"block_rows": 200, "chunk_rows": 10, "seed": 7, **settings})


def state_of(trainer: fnn.Trainer) -> dict[str, np.ndarray]:
    columns = [c for c in trainer.history.columns if c not in ("seconds", "samples_per_second")]
    kept = {c: np.array(trainer.history[c]) for c in columns}
    return {**trainer.model.state_dict(), **trainer.slots, **kept, "steps": np.array(trainer.step_count)}


def assert_same_state(got: fnn.Trainer, want: fnn.Trainer) -> None:
    mine, theirs = state_of(got), state_of(want)
    assert list(mine) == list(theirs)
    for name, array in theirs.items():
        assert_same_bits(mine[name], array, name)


def test_a_stream_of_one_block_is_the_array():
    """In the order of the file the first block is shuffled as rows in memory are: equal bits, two epochs long."""
    whole, streamed = trainer_of(), trainer_of()
    whole.fit(X, Y, X_val=X[:99], y_val=Y[:99], epochs=2, verbose=0)
    stream = stream_of(block_rows=2000, shuffle=False)
    streamed.fit(stream, X_val=X[:99], y_val=Y[:99], epochs=2, verbose=0)
    assert_same_state(streamed, whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_are_those_of_the_blocks_by_hand(dtype):
    """Each block in the order of its permutation, step by step through `Trainer.step`: the same weights, loss and accuracy."""
    trainer, by_hand = (trainer_of(optimizer=optim.Adam(0.01), dtype=dtype) for _ in range(2))
    trainer.fit(stream_of(), batch_size=64, epochs=2, verbose=0)
    for epoch in range(2):
        total = 0.0
        for block, (rows, targets) in enumerate(stream_of().blocks(epoch)):
            index = np.arange(len(rows))
            _core.permutation(index, passes._block_seed(4, block), epoch)
            for at in range(0, len(rows), 64):
                part = index[at : at + 64]
                total += len(part) * by_hand.step(rows[part], targets[part])
        assert trainer.history["loss"][epoch] == pytest.approx(total / N, rel=1e-12)
    assert by_hand.step_count == trainer.step_count == 2 * (5 * 4 + 1)
    for name, array in by_hand.model.state_dict().items():
        assert_same_bits(trainer.model.state_dict()[name], array, name)


def test_blocks_have_orders_of_their_own():
    seeds = [passes._block_seed(4, k) for k in range(100)]
    assert len(set(seeds)) == 100
    assert seeds[0] == 4
    assert all(0 <= s < 2**53 for s in seeds)


def test_one_row_an_epoch_over_all_rows():
    trainer = trainer_of(optimizer=optim.Adam(0.02))
    seen = []
    history = trainer.fit(
        stream_of(),
        X_val=stream_of(),
        epochs=8,
        batch_size=32,
        callbacks=[lambda t, r: seen.append(r["epoch"])],
        verbose=0,
    )
    assert seen == history["epoch"] == list(range(1, 9))
    assert trainer.step_count == 8 * (5 * 7 + 1)
    assert history["val_accuracy"][-1] > 0.8
    assert history["val_loss"][-1] == pytest.approx(trainer.evaluate(X, Y)["loss"], rel=1e-9)
    assert trainer.evaluate(stream_of()) == pytest.approx(trainer.evaluate(X, Y), rel=1e-9)
    assert history["accuracy"][-1] == pytest.approx(history["val_accuracy"][-1], abs=0.1)


def test_bits_do_not_depend_on_threads():
    def trained(threads):
        trainer = trainer_of(threads=threads, preprocess=Standardize())
        trainer.fit(stream_of(), epochs=2, verbose=0)
        return trainer

    one = trained(1)
    for threads in (2, 3):
        assert_same_state(trained(threads), one)


def test_schedules_go_on_within_an_epoch():
    trainer = trainer_of(optimizer=optim.SGD(optim.Cosine(0.1, epochs=3)))
    rates: list[float] = []
    numbers: list[float] = []
    fill = trainer.hyper.fill

    def watched(*args, **kwargs):
        found = fill(*args, **kwargs)
        rates.extend(trainer.hyper.rates)
        numbers.extend(found[:, 0, HYPER["step"]])
        return found

    trainer.hyper.fill = watched  # type: ignore[method-assign]
    trainer.fit(stream_of(), epochs=2, batch_size=50, verbose=0)
    assert numbers == list(range(1, 43))
    want = 0.1 * (1 + np.cos(np.pi * np.arange(42) / 21 / 3)) / 2
    np.testing.assert_allclose(rates, want, rtol=1e-12)
    assert trainer.history["learning_rate"] == pytest.approx([want[20], want[41]], rel=1e-12)


def test_a_checkpoint_resumes_at_an_epoch(tmp_path):
    straight, parted = (trainer_of(preprocess=Standardize(), optimizer=optim.Adam(0.01)) for _ in range(2))
    stream = stream_of(y=NAMES[Y])
    straight.fit(stream, epochs=4, verbose=0)
    parted.fit(stream, epochs=2, verbose=0)
    parted.checkpoint(tmp_path / "c")
    again = fnn.Trainer.resume(tmp_path / "c")
    again.fit(stream, epochs=2, verbose=0)
    assert_same_state(again, straight)
    assert list(again.model.predict(X[:3])) == list(straight.model.predict(X[:3]))


@pytest.mark.parametrize("preprocess", [Standardize(), PCA(components=3)], ids=repr)
def test_preprocessing_is_fitted_on_the_stream(preprocess):
    trainer = trainer_of(preprocess=preprocess)
    trainer.fit(stream_of(), epochs=1, verbose=0)
    want = type(preprocess)(**{k: v for k, v in preprocess.to_config().items() if k != "name"}).fit(X)
    assert_same_bits(trainer.model.preprocess.transform(X), want.transform(X))


def test_labels_and_class_weights_come_from_all_blocks():
    """The last block alone has some of the labels; weights balance the whole file."""
    order = np.argsort(Y, kind="stable")
    stream = Stream(X[order], NAMES[Y[order]], block_rows=100, chunk_rows=10, shuffle=False)
    trainer = trainer_of(loss=nn.SoftmaxCrossEntropy(class_weight="balanced"))
    trainer.fit(stream, epochs=1, verbose=0)
    assert trainer.model.classes_.tolist() == NAMES.tolist()
    want = N / (3 * np.bincount(Y))
    ((_, arrays),) = trainer.loss_arrays.values()
    np.testing.assert_allclose(arrays["class_weights"], want, rtol=1e-6)


def test_regression_and_several_targets():
    targets = np.stack([X[:, 0], X[:, 1] - X[:, 2]], axis=1)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), "mean_squared_error", optim.Adam(0.05))
    trainer.fit(stream_of(y=targets), epochs=20, verbose=0)
    assert trainer.history["loss"][-1] < 1e-3


# Ends


def test_max_steps_ends_within_a_block_and_goes_on():
    trainer = trainer_of()
    history = trainer.fit(stream_of(), epochs=9, batch_size=50, max_steps=6, verbose=0)
    assert (trainer.step_count, history.stop_reason, len(history)) == (6, "max_steps", 1)
    assert trainer.fit(stream_of(), epochs=1, batch_size=50, max_steps=8, verbose=0).stop_reason == "max_steps"
    assert (trainer.step_count, trainer.epoch) == (14, 2)
    assert trainer.fit(stream_of(), epochs=1, batch_size=50, verbose=0).stop_reason == "finished"
    assert trainer.step_count == 14 + 21


def test_max_seconds_and_callbacks_end():
    assert trainer_of().fit(stream_of(), epochs=10**6, max_seconds=0.2, verbose=0).stop_reason == "max_seconds"
    history = trainer_of().fit(stream_of(), epochs=10, callbacks=[lambda t, r: r["epoch"] == 3], verbose=0)
    assert (history.stop_reason, len(history)) == ("callback", 3)


def test_ctrl_c_between_blocks():
    trainer = trainer_of()
    stream = stream_of()

    def pressed(blocks):
        def watched(epoch, **settings):
            for number, block in enumerate(blocks(epoch, **settings)):
                if number == 2:
                    signal.raise_signal(signal.SIGINT)
                yield block

        return watched

    stream.blocks, stream.numbers = pressed(stream.blocks), pressed(stream.numbers)  # type: ignore[method-assign]
    history = trainer.fit(stream, epochs=5, batch_size=50, verbose=0)
    assert history.stop_reason == "interrupted"
    assert 8 <= trainer.step_count <= 12
    assert len(history) == trainer.epoch == 1
    assert trainer.fit(stream_of(), epochs=1, batch_size=50, verbose=0).stop_reason == "finished"


def test_the_guard_goes_back_to_the_start_of_the_block():
    """Steps before the bad block are kept, with their number; no epoch is counted."""
    rows = X.copy()
    rows[450, 3] = np.nan
    stream = Stream(rows, Y, block_rows=200, chunk_rows=10, shuffle=False)
    trainer, want = trainer_of(), trainer_of()
    with pytest.raises(ValueError, match="'X' holds 1 NaN or infinite values, 1 of them in column 3"):
        trainer.fit(stream, epochs=3, batch_size=50, verbose=0)
    assert (trainer.step_count, trainer.epoch, len(trainer.history)) == (8, 0, 0)
    want.fit(
        Stream(X, Y, block_rows=200, chunk_rows=10, shuffle=False), batch_size=50, epochs=1, max_steps=8, verbose=0
    )
    for name, array in want.model.state_dict().items():
        assert_same_bits(trainer.model.state_dict()[name], array, name)
    diverging = trainer_of(optimizer=optim.SGD(1e30))
    with pytest.warns(RuntimeWarning, match="those of the start of the block"):
        assert diverging.fit(stream_of(), verbose=0).stop_reason == "nonfinite"
    assert all(np.isfinite(a).all() for a in diverging.model.arrays().values())


def test_a_bad_target_in_a_later_block(way):
    """Few targets are looked at before the first step."""
    targets = X[:, 0].copy()
    targets[900] = math.inf
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(1)), "mean_squared_error")
    with pytest.raises(ValueError, match="'y' holds 1 NaN or infinite targets"):
        trainer.fit(stream_of(y=targets, shuffle=False), batch_size=50, verbose=0)
    assert trainer.step_count == (0 if way == "in place" else 16)


def test_many_trainers_on_one_stream():
    stream = stream_of()
    trainers = [trainer_of(seed=k) for k in range(3)]
    fnn.train_many(trainers, stream, epochs=2)
    for seed, trainer in enumerate(trainers):
        alone = trainer_of(seed=seed, threads=1)
        alone.fit(stream, epochs=2, verbose=0)
        assert_same_state(trainer, alone)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda t: t.fit(stream_of(), Y), ValueError, "'y' was given, but 'X' is a Stream, which holds the targets"),
        (lambda t: t.fit(stream_of(), rows=[1]), ValueError, "'rows' was given, but 'X' is a Stream"),
        (lambda t: t.fit(stream_of(), sample_weight=np.ones(N)), ValueError, "'sample_weight' was given, .* holds them: Stream"),
        (lambda t: t.evaluate(stream_of(), sample_weight=np.ones(N)), ValueError, "'sample_weight' was given, .* holds them"),
        (lambda t: t.fit(Stream(X, Y, -WEIGHTS)), ValueError, "'sample_weight' holds -.*, expected finite numbers of 0 or more"),
        (lambda t: t.fit(Stream(X, Y, X)), ValueError, r"'sample_weight' has shape \(1003, 6\), expected \(1003,\)"),
        (lambda t: t.fit(Stream({"images": X}, Y)), TypeError, "'X' is a dict, expected an array"),
        (lambda t: t.fit(X, Y, X_val=stream_of(), y_val=Y), ValueError, "'y_val' was given, but 'X_val' is a Stream"),
        (lambda t: t.fit(Stream(X[:, :4], Y)), ValueError, "'X' has shape .* expected 6"),
        (lambda t: t.fit(stream_of(y=Y + 1)), ValueError, "'y' holds the label 3"),
        (lambda t: t.fit(stream_of(y=np.zeros((N, 2)))), ValueError, "expected one label a row"),
        (lambda t: t.evaluate(stream_of(), Y), ValueError, "'y' was given, but 'X' is a Stream"),
        (lambda t: t.step(stream_of(), Y), TypeError, "'X' is Stream, expected an array of numbers"),
        (lambda t: t.model.predict(stream_of()), TypeError, "'X' is Stream, expected an array of numbers"),
        (lambda t: t.fit(X), ValueError, "'X' was given without 'y'"),
    ],
)  # fmt: skip
def test_what_is_refused(call, kind, message):
    trainer = trainer_of()
    trainer.fit(X, Y, epochs=1, verbose=0)
    before = trainer.model.state_dict()
    with warnings.catch_warnings(), pytest.raises(kind, match=message):
        warnings.simplefilter("error")
        call(trainer)
    for name, array in trainer.model.state_dict().items():
        assert_same_bits(array, before[name], name)


def test_both_ways_have_the_same_bits(monkeypatch):
    """Shuffled, with weights and a target that is no label."""
    monkeypatch.undo()
    trained = []
    for in_place in (True, False):
        monkeypatch.setattr(ArrayRows, "in_place", in_place)
        trainer = branched(words=False)
        stream = Stream(*parts_of(words=False), WEIGHTS, block_rows=200, chunk_rows=10, seed=3)
        assert (stream.arrays() is None) != in_place
        trainer.fit(stream, X_val=stream, epochs=2, batch_size=64, verbose=0)
        trained.append(trainer)
    assert_same_state(*trained)


def test_wide_targets_are_not_converted_whole(way):
    """A target that is no label is checked, and converted, a block at a time where that takes less memory."""
    tracemalloc = pytest.importorskip("tracemalloc", reason="this Python has no tracemalloc")
    rows = RNG.standard_normal((40000, 50)).astype(np.float32)
    stream = Stream(rows, rows.astype(np.float64), block_rows=640, chunk_rows=10)
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(50)), "mean_squared_error")
    trainer.fit(stream, epochs=1, max_steps=1, verbose=0)
    tracemalloc.start()
    try:
        trainer.fit(stream, epochs=1, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes / 4


# Weights


@pytest.mark.parametrize("ignoring", [False, True])
def test_weights_are_those_of_rows_in_memory(ignoring):
    """One block in the order of the file: equal bits, losses and accuracies; so is the evaluation of many blocks."""
    loss = nn.SoftmaxCrossEntropy(0.1, "balanced", "low" if ignoring else None)
    outputs = 2 if ignoring else 3

    def made():
        model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(outputs), preprocess=Standardize())
        return fnn.Trainer(model, loss, seed=4)

    whole, streamed = made(), made()
    whole.fit(X, NAMES[Y], sample_weight=WEIGHTS, X_val=X[:99], y_val=NAMES[Y[:99]], epochs=2, verbose=0)
    stream = stream_of(y=NAMES[Y], sample_weight=WEIGHTS, block_rows=2000, shuffle=False)
    streamed.fit(stream, X_val=X[:99], y_val=NAMES[Y[:99]], epochs=2, verbose=0)
    assert_same_state(streamed, whole)
    blocks = stream_of(y=NAMES[Y], sample_weight=WEIGHTS)
    assert streamed.evaluate(blocks) == pytest.approx(whole.evaluate(X, NAMES[Y], WEIGHTS), rel=1e-9)
    plain = stream_of(y=NAMES[Y])
    assert streamed.evaluate(plain) == pytest.approx(whole.evaluate(X, NAMES[Y]), rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_with_weights_are_those_of_the_blocks_by_hand(dtype):
    trainer, by_hand = (trainer_of(optimizer=optim.Adam(0.01), dtype=dtype) for _ in range(2))
    trainer.fit(stream_of(sample_weight=WEIGHTS), batch_size=64, epochs=1, verbose=0)
    total = 0.0
    for block, (rows, targets, weights) in enumerate(stream_of(sample_weight=WEIGHTS).blocks()):
        index = np.arange(len(rows))
        _core.permutation(index, passes._block_seed(4, block), 0)
        for at in range(0, len(rows), 64):
            part = index[at : at + 64]
            total += weights[part].sum() * by_hand.step(rows[part], targets[part], weights[part])
    rel = 1e-6 if dtype == "float32" else 1e-12  # weights are rounded to the float type of the model
    assert trainer.history["loss"][0] == pytest.approx(total / WEIGHTS.sum(), rel=rel)
    for name, array in by_hand.model.state_dict().items():
        assert_same_bits(trainer.model.state_dict()[name], array, name)


def test_weights_come_from_files_and_count_in_validation(tmp_path):
    np.save(tmp_path / "w.npy", WEIGHTS.astype(np.float32))
    weights = WEIGHTS.astype(np.float32)
    from_file, from_array = trainer_of(), trainer_of()
    for trainer, given in ((from_file, tmp_path / "w.npy"), (from_array, weights[:, None])):
        stream = stream_of(sample_weight=given)
        trainer.fit(stream, X_val=stream, epochs=2, verbose=0)
    assert_same_state(from_file, from_array)
    last = {k: from_file.history[f"val_{k}"][-1] for k in ("loss", "accuracy")}
    assert last == pytest.approx(from_file.evaluate(X, Y, weights), rel=1e-6)


def test_many_trainers_on_one_weighted_stream():
    stream = stream_of(sample_weight=WEIGHTS)
    trainers = [trainer_of(seed=k) for k in range(3)]
    fnn.train_many(trainers, stream, epochs=2)
    for seed, trainer in enumerate(trainers):
        alone = trainer_of(seed=seed, threads=1)
        alone.fit(stream, epochs=2, verbose=0)
        assert_same_state(trainer, alone)


def test_weights_are_checked_in_pieces(monkeypatch):
    monkeypatch.setattr(prepare, "CHECKED_AT_ONCE", 100)
    bad = WEIGHTS.copy()
    bad[777] = np.nan
    trainer = trainer_of()
    with pytest.raises(ValueError, match="'sample_weight' holds nan"):
        trainer.fit(stream_of(sample_weight=bad), verbose=0)
    assert not trainer.model.built
    trainer.fit(stream_of(sample_weight=WEIGHTS), epochs=1, verbose=0)


# Several inputs and outputs


def branched(*, words: bool = True) -> fnn.Trainer:
    a, b, word = nn.Input((4,), name="a"), nn.Input((2,), name="b"), nn.Input((), name="word", dtype="int64")
    parts = [a, b, nn.Embedding(5, 3)(word)] if words else [a, b]
    h = nn.ReLU()(nn.Linear(8)(nn.Concat()(*parts)))
    outputs = {"kind": nn.Linear(3)(h), "size": nn.Linear(1)(h)}
    model = nn.Model([a, b, word] if words else [a, b], outputs, preprocess={"a": Standardize()})
    losses = {"kind": "softmax_cross_entropy", "size": "mean_squared_error"}
    return fnn.Trainer(model, losses, loss_weights={"size": 0.5}, seed=2)


def parts_of(*, words: bool = True) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    inputs = {"a": np.ascontiguousarray(X[:, :4]), "b": np.ascontiguousarray(X[:, 4:])}
    return inputs | ({"word": WORDS} if words else {}), {"kind": NAMES[Y], "size": X[:, 0] * 2}


WORDS = RNG.integers(0, 5, N)


@pytest.mark.parametrize("weighted", [False, True])
def test_several_inputs_and_outputs_are_those_in_memory(weighted):
    weights = WEIGHTS if weighted else None
    whole, streamed = branched(), branched()
    whole.fit(*parts_of(), sample_weight=weights, epochs=2, verbose=0)
    streamed.fit(Stream(*parts_of(), weights, block_rows=2000, shuffle=False), epochs=2, verbose=0)
    assert_same_state(streamed, whole)
    blocks = Stream(*parts_of(), weights, block_rows=100)
    assert streamed.evaluate(blocks) == pytest.approx(whole.evaluate(*parts_of(), weights), rel=1e-6)


def test_a_dict_for_one_input():
    one, other = trainer_of(), trainer_of()
    name = next(iter(one.model.network.inputs))
    one.fit(stream_of(), epochs=1, verbose=0)
    other.fit(Stream({name: X}, Y, block_rows=200, chunk_rows=10, seed=7), epochs=1, verbose=0)
    assert_same_state(other, one)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: stream_of(), TypeError, r"'X' is a Stream of one array, .*: Stream\(\{'a': ..., 'b': ..., 'word': ...\}, y\)"),
        (lambda: Stream(parts_of()[0], Y), TypeError, "'y' is .*, expected a dict with the outputs kind, size"),
        (lambda: Stream({**parts_of()[0], "c": X}, parts_of()[1]), ValueError, "'X': unknown input 'c'"),
        (lambda: Stream({"a": X[:, :4].copy(), "b": X[:, 4:].copy()}, parts_of()[1]), ValueError, "'X' has no rows of input 'word'"),
        (lambda: Stream(parts_of()[0], {"kind": Y}), ValueError, r"'X' was given without .*size"),
        (lambda: Stream({**parts_of()[0], "word": X[:, :1].copy()}, parts_of()[1]), TypeError, "expected whole numbers"),
    ],
)  # fmt: skip
def test_streams_that_do_not_fit_the_inputs(make, kind, message):
    trainer = branched()
    with pytest.raises(kind, match=message):
        trainer.fit(make(), verbose=0)
    assert not trainer.model.classes and not trainer.model.preprocess["a"].fitted
