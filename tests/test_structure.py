"""Normalization, embedding, joining and spatial dropout inside networks: plan, interpreter and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn
from pyfastnn import functional as F
from pyfastnn.backends.compare import compare
from pyfastnn.backends.cpu import HYPER, CpuPlan
from pyfastnn.graph import BATCH, Builder, Graph
from pyfastnn.graph.autodiff import backward
from pyfastnn.graph.schema import schema
from pyfastnn.io.model_file import LAYERS
from pyfastnn.nn.layer import Layer, from_config
from pyfastnn.reference import interpret
from pyfastnn.testing import DTYPES, assert_same_bits, central_difference, rng_of

ROWS, CLASSES = 23, 5


class Net:
    """A graph under construction with the arrays of its layers."""

    def __init__(self, what: str, training: bool = True):
        self.rng = rng_of("structure", what)
        self.b = Builder(training)
        self.arrays: dict[str, np.ndarray] = {}
        self.learned: list[str] = []
        self.index = self.b.value("index", (BATCH,), "i64")
        self.loss, self.forward = "", Graph()

    def data(self, name: str, array: np.ndarray) -> str:
        """Add a data set and gather the rows of the batch."""
        kind = "i64" if array.dtype == np.int64 else "any"
        self.arrays[name] = array
        value = self.b.value(name, ("m", *array.shape[1:]), kind)
        if kind == "i64":
            return self.b.emit("gather_labels", (value, self.index), name=f"gather_{name}")[0]
        return self.b.emit("gather_rows", (value, self.index, None, None), name=f"gather_{name}")[0]

    def add(self, name: str, layer: Layer, *xs: str) -> str:
        """Add a layer with arrays that are not the usual zeros and ones."""
        shapes = [self.shape(x) for x in xs]
        for p in layer.parameters(shapes[0]):
            full = f"{name}.{p.name}"
            self.b.value(full, p.shape, kind="parameter" if p.learned else "state")
            positive = p.name in ("gamma", "running_var")
            self.arrays[full] = self.rng.uniform(0.5, 1.5, p.shape) if positive else self.rng.standard_normal(p.shape)
            self.learned += [full] if p.learned else []
        y = layer.forward(self.b, name, *xs)
        assert self.shape(y) == layer.output_shape(*shapes)
        return y

    def shape(self, value: str) -> tuple[int, ...]:
        return tuple(self.b.graph.values[value].shape[1:])

    def finish(self, x: str) -> None:
        """Add a linear layer on all there is in a row, the loss and the gradients."""
        flat = self.b.view(x, (BATCH, int(np.prod(self.shape(x)))))
        scores = self.add("last", nn.Linear(CLASSES), flat)
        labels = self.data("labels", self.rng.integers(0, CLASSES, ROWS))
        left_out = [None] * (len(schema("softmax_cross_entropy").inputs) - 2)
        self.loss = self.b.emit("softmax_cross_entropy", (scores, labels, *left_out), name="loss")[0]
        self.forward = Graph(dict(self.b.graph.values), list(self.b.graph.nodes))
        self.gradients = backward(self.b, self.loss, self.learned) if self.b.training else {}

    def given(self, dtype: str) -> dict[str, np.ndarray]:
        """Return copies of all arrays in a float type, with an order of the rows."""
        arrays = {k: a.astype(dtype) if a.dtype.kind == "f" else a.copy() for k, a in self.arrays.items()}
        return {**arrays, "index": rng_of("order").permutation(ROWS)}


def images(training: bool = True) -> Net:
    """Every layer on images of 4 x 3 pixels and 6 channels; values are used more than once."""
    net = Net("images", training)
    flat = net.data("X", net.rng.standard_normal((ROWS, 72)))
    x = net.b.view(flat, (BATCH, 4, 3, 6))
    batch = net.add("batch", nn.BatchNorm(), x)
    group = net.add("group", nn.GroupNorm(3), batch)
    layer = net.add("layer", nn.LayerNorm(), batch)
    total = net.add("sum", nn.Add(), group, layer, x)
    joined = net.add("joined", nn.Concat(), total, batch, layer)
    dropped = net.add("dropped", nn.Dropout2d(0.3), joined)
    (part,) = net.b.emit("slice", (dropped,), {"start": 4, "after": 3}, name="part")
    (product,) = net.b.emit("multiply", (part, net.b.emit("tanh_forward", (part,), name="tanh")[0]), name="product")
    net.finish(net.add("again", nn.Dropout2d(0.2), product))
    return net


def sentences(training: bool = True) -> Net:
    """Sentences of four words out of seven, one table looked up twice."""
    net = Net("sentences", training)
    words = net.data("words", net.rng.integers(0, 7, (ROWS, 4)))
    first = net.add("words", nn.Embedding(7, 3), words)
    other = net.add("others", nn.Embedding(7, 2), words)
    again = net.b.emit("embedding_forward", ("words.table", words), name="again")[0]
    both = net.add("both", nn.Concat(), first, other, again)
    net.finish(net.add("norm", nn.LayerNorm(), both))
    return net


NETS = {"images": images, "sentences": sentences}


def hyper_row() -> np.ndarray:
    row = np.zeros((1, 1, len(HYPER)))
    row[..., HYPER["seed"]], row[..., HYPER["step"]] = 3, 5
    return row


def plan_of(net: Net, dtype: str, **switches) -> CpuPlan:
    return CpuPlan({"train": net.b.graph}, {net.loss: "step"}, max_batch=ROWS, dtype=dtype, **switches)


@pytest.mark.parametrize("what", NETS)
def test_gradients_agree_with_central_differences(what):
    net = NETS[what]()
    values, row = net.given("float64"), hyper_row()[0]
    values["index"] = values["index"][:9]
    computed = interpret(net.b.graph, values, row)
    assert set(net.gradients) == set(net.learned)
    for name in net.learned:

        def objective(p, name=name):
            return float(interpret(net.forward, {**values, name: p}, row)[net.loss][0])

        want = central_difference(objective, values[name])
        np.testing.assert_allclose(computed[net.gradients[name]], want, rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 9, ROWS])
@pytest.mark.parametrize("what", NETS)
def test_plan_is_confirmed_node_by_node(what, rows, dtype):
    net = NETS[what]()
    arrays = {**net.given(dtype), net.loss: np.zeros(1)}
    assert compare(plan_of(net, dtype), "train", rows, arrays, hyper=hyper_row()) is None


@pytest.mark.parametrize("what", NETS)
def test_prediction_form_is_confirmed_and_works_row_by_row(what):
    net = NETS[what](training=False)
    plan = CpuPlan({"train": net.forward}, {net.loss: "step"}, max_batch=ROWS, dtype="float32")
    arrays = {**net.given("float32"), net.loss: np.zeros(1)}
    assert compare(plan, "train", ROWS, arrays, hyper=hyper_row()) is None
    assert not any("dropout" in node.op for node in net.forward.nodes)
    scores = next(n.inputs[0] for n in net.forward.nodes if n.op == "softmax_cross_entropy")
    whole, _ = plan.trace("train", ROWS, arrays)
    for row in range(0, ROWS, 5):
        one, _ = plan.trace("train", 1, {**arrays, "index": arrays["index"][row : row + 1].copy()})
        assert_same_bits(one[scores], whole[scores][row : row + 1], f"row {row}")


@pytest.mark.parametrize("what", NETS)
def test_memory_switches_and_threads_change_no_bit(what):
    net = NETS[what]()
    found = []
    for switches in ({}, {"reuse": False, "inplace": False}, {"poison": True}):
        for threads in (1, 3):
            arrays = {**net.given("float32"), net.loss: np.full(3, np.nan)}
            plan = plan_of(net, "float32", **switches)
            done = plan.run("train", ROWS, 9, arrays, hyper=np.tile(hyper_row(), (3, 1, 1)), threads=threads)
            assert done == (3, "finished")
            found.append({k: arrays[k] for k in (net.loss, *(k for k in arrays if "running" in k))})
    assert np.isfinite(found[0][net.loss]).all()
    for other in found[1:]:
        for name, array in found[0].items():
            assert_same_bits(other[name], array, name)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_of_images_is_that_of_their_pixels(training):
    rng = rng_of("pixels")
    x = rng.standard_normal((6, 4, 3, 5)).astype(np.float32)
    arrays = [rng.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]
    op = "batch_norm_forward" if training else "batch_norm_predict"
    whole = _core.call(op, (x, *[a.copy() for a in arrays]))
    rows = _core.call(op, (x.reshape(-1, 5), *[a.copy() for a in arrays]))
    for k, (a, b) in enumerate(zip(whole, rows, strict=True)):
        assert_same_bits(a.reshape(b.shape), b, f"{op} output {k}")


def test_an_unknown_word_makes_the_loss_nan():
    net = sentences()
    arrays = {**net.given("float32"), net.loss: np.zeros(1)}
    for word in (-1, 7, 2**62, -(2**62)):
        arrays["words"][4, 2] = word
        values, _ = plan_of(net, "float32").trace("train", ROWS, arrays, hyper=hyper_row())
        where = int(np.flatnonzero(arrays["index"] == 4)[0])
        looked_up = next(n.outputs[0] for n in net.b.graph.nodes if n.op == "embedding_forward")
        missing = np.isnan(values[looked_up]).all(axis=2)
        assert missing.sum() == 1 and missing[where, 2]
        assert np.isnan(values[net.loss]).all()
        want = interpret(net.b.graph, arrays, hyper_row()[0])[looked_up]
        assert (np.isnan(want) == np.isnan(values[looked_up])).all()


def test_layer_norm_of_one_vector():
    x = rng_of("vector").standard_normal(11)
    y, mean, rstd = F.layer_norm(x, np.ones(11), np.zeros(11))
    assert mean.shape == rstd.shape == ()
    np.testing.assert_allclose(y, (x - x.mean()) / np.sqrt(x.var() + 1e-5), rtol=1e-12)
    dx, dgamma, dbeta = F.layer_norm_backward(x, x, np.ones(11), mean, rstd)
    assert dx.shape == dgamma.shape == dbeta.shape == (11,)


def test_group_norm_of_one_group_is_layer_norm_of_the_sample():
    x = rng_of("one group").standard_normal((4, 3, 2, 6))
    y, mean, rstd = F.group_norm(x, np.ones(6), np.zeros(6))
    flat, mean_of_row, rstd_of_row = F.layer_norm(x.reshape(4, -1), np.ones(36), np.zeros(36))
    np.testing.assert_allclose(y.reshape(4, -1), flat, rtol=1e-12)
    np.testing.assert_allclose(mean[:, 0], mean_of_row, rtol=1e-12)
    np.testing.assert_allclose(rstd[:, 0], rstd_of_row, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["layer_norm", "group_norm"])
def test_rows_that_are_constant_give_beta_and_offsets_cost_nothing(function, dtype):
    """1e4 beside deviations of 1: the outputs are within 2e-5, and equal elements give beta to the last bit."""
    rng = rng_of("offset", function, dtype)
    x = (1e4 + rng.standard_normal((8, 96))).astype(dtype)
    gamma, beta = np.ones(96, dtype), rng.standard_normal(96).astype(dtype)
    y = getattr(F, function)(x, gamma, beta)[0]
    wide = x.astype(np.float64)
    want = (wide - wide.mean(axis=1, keepdims=True)) / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5) + beta
    assert np.abs(y - want).max() <= (2e-5 if dtype == "float32" else 1e-11)
    x[:] = np.array([0.1, 1e10, -3e-7, 0, 1e30, 7, 1 / 3, 1e-30], dtype)[:, None]
    assert_same_bits(getattr(F, function)(x, gamma, beta)[0], np.tile(beta, (8, 1)), function)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_the_batch(dtype):
    rng = rng_of("rows alone", dtype)
    x = rng.standard_normal((37, 5, 14)).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    gamma, beta = (rng.standard_normal(14).astype(dtype) for _ in range(2))
    index = rng.integers(0, 37, (37, 3))
    table = x[:, 0].copy()

    def all_of(rows: np.ndarray) -> list[np.ndarray]:
        part, slope = x[rows], dy[rows]
        layer, group = F.layer_norm(part, gamma, beta), F.group_norm(part, gamma, beta, groups=7)
        return [
            *layer,
            *group,
            F.layer_norm_backward(slope, part, gamma, *layer[1:])[0],
            F.group_norm_backward(slope, part, gamma, *group[1:], groups=7)[0],
            F.embedding(table, index[rows]),
            F.concat(part, slope),
            F.slice(part, start=3, after=2),
            F.multiply(part, slope),
        ]

    whole = all_of(np.arange(37))
    for first, last in ((0, 1), (1, 2), (36, 37), (3, 8), (30, 37)):
        for k, (one, all_rows) in enumerate(zip(all_of(np.arange(first, last)), whole, strict=True)):
            assert_same_bits(one, all_rows[first:last], f"result {k} of rows {first} to {last}")


def test_layers_of_dropout_draw_different_masks():
    builder = Builder(training=True)
    x = builder.value("x", (BATCH, 4, 4, 8))
    for k, layer in enumerate([nn.Dropout2d(), nn.Dropout(), nn.Dropout2d(), nn.Dropout()]):
        x = layer.forward(builder, f"layer_{k}", x)
    nodes = [n.attrs["node"] for n in builder.graph.nodes]
    assert len(set(nodes)) == 4
    masks = [F.dropout_channels(np.ones((50, 1, 8)), seed=1, node=int(n))[1] for n in nodes]
    for k in range(4):
        for other in range(k):
            assert 0.35 < (masks[k] == masks[other]).mean() < 0.65  # 400 fair coins: six standard deviations


def test_groups_that_do_not_divide_the_channels_are_refused():
    x, c = np.ones((2, 3, 6)), np.ones(6)
    with pytest.raises(ValueError, match="group_norm: 'groups' is 4, expected a divisor of the 6 channels"):
        F.group_norm(x, c, c, groups=4)
    with pytest.raises(ValueError, match="group_norm_backward: 'groups' is 4"):
        F.group_norm_backward(x, x, c, np.ones((2, 4)), np.ones((2, 4)), groups=4)
    with pytest.raises(ValueError, match=r"group_norm_forward: 'gamma' has shape \(6,\), expected 4 .* in place of 6"):
        _core.call("group_norm_forward", (x, c, c), None, (4, 1e-5))
    for groups in (0, -1):
        with pytest.raises(ValueError, match="group_norm_forward: 'groups' is"):
            F.group_norm(x, c, c, groups=groups)
    with pytest.raises(ValueError, match="expected a whole number"):
        F.group_norm(x, c, c, groups=1.5)
    with pytest.raises(ValueError, match="GroupNorm: 6 channels cannot be put into 4 equal groups"):
        nn.GroupNorm(4).output_shape((3, 3, 6))


def test_slices_beyond_the_columns_are_refused():
    with pytest.raises(ValueError, match="'y' would have a dimension of -1"):
        F.slice(np.ones((2, 5)), start=3, after=3)
    for argument in ("start", "after"):
        with pytest.raises(ValueError, match=f"'{argument}' is -1"):
            F.slice(np.ones((2, 5)), **{argument: -1})
        with pytest.raises(ValueError, match=f"'{argument}' is 0.5.*whole number"):
            F.slice_backward(np.ones((2, 5)), **{argument: 0.5})


def test_words_outside_the_table_are_refused_in_a_call():
    table = np.ones((3, 2))
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"'index' holds {index}, expected whole numbers from 0 to 2"):
            F.embedding(table, np.array([0, index]))
        with pytest.raises(ValueError, match=f"'index' holds {index}, expected whole numbers from 0 to 2"):
            F.embedding_dw(np.ones((2, 2)), np.array([0, index]), rows=3)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4,),), "1 input given, expected 2 or more"),
        ((), "0 inputs given"),
    ],
)
def test_joining_wants_two_inputs(shapes, message):
    for layer in (nn.Add(), nn.Concat()):
        with pytest.raises(ValueError, match=message):
            layer.output_shape(*shapes)


def test_shapes_that_cannot_be_joined_are_named():
    assert nn.Concat().output_shape((2, 3, 4), (2, 3, 1), (2, 3, 5)) == (2, 3, 10)
    assert nn.Add().output_shape((2, 3), (2, 3)) == (2, 3)
    with pytest.raises(ValueError, match=r"Concat: input 1 has rows of shape \(2, 4\), expected \(3, 4\)"):
        nn.Concat().output_shape((3, 4), (2, 4))
    with pytest.raises(ValueError, match=r"Add: input 2 has rows of shape \(5,\), expected \(4,\)"):
        nn.Add().output_shape((4,), (4,), (5,))
    with pytest.raises(ValueError, match="concat_1: Concat: 1 input"):
        nn.Sequential(nn.Linear(3), nn.Concat()).build(4)


def test_embedding_of_floats_is_refused():
    builder = Builder()
    x = builder.value("x", (BATCH, 4))
    with pytest.raises(ValueError, match="embedding_1: the input 'x' holds floats, expected whole numbers"):
        nn.Embedding(5, 2).forward(builder, "embedding_1", x)


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: nn.Embedding(0, 3), ValueError, "'vocabulary' is 0, expected 1 or more"),
        (lambda: nn.Embedding(5, 2.5), TypeError, "'dim' is 2.5, expected a whole number"),
        (lambda: nn.Embedding(5, 3, init="he"), ValueError, "he"),
        (lambda: nn.GroupNorm(0), ValueError, "'groups' is 0"),
        (lambda: nn.GroupNorm(True), TypeError, "'groups' is True"),
        (lambda: nn.GroupNorm(2, eps=0.0), ValueError, "'eps' is 0"),
        (lambda: nn.LayerNorm(eps=-1.0), ValueError, "'eps' is -1"),
        (lambda: nn.LayerNorm(epsilon=1.0), TypeError, "epsilon"),
        (lambda: nn.Dropout2d(1.0), ValueError, "'p' is 1"),
    ],
)
def test_settings_out_of_range(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(eps=1e-3),
        nn.GroupNorm(4, eps=1e-2),
        nn.Dropout2d(0.1),
        nn.Embedding(9, 4, init=nn.initializers.Normal(0.1)),
        nn.Add(),
        nn.Concat(),
    ],
    ids=lambda layer: layer.kind,
)
def test_layers_come_back_from_their_settings(layer):
    again = from_config(LAYERS, layer.kind, layer.config())
    assert type(again) is type(layer)
    assert again.config() == layer.config()


def image_model(dtype: str) -> tuple[nn.Model, np.ndarray]:
    """Branches that meet in every way, on images."""
    x = nn.Input((4, 3, 6))
    batch = nn.BatchNorm()(x)
    layer, group = nn.LayerNorm()(batch), nn.GroupNorm(3)(batch)
    joined = nn.Concat()(nn.Add()(layer, group, x), batch, layer)
    model = nn.Model(x, nn.Linear(2)(nn.Flatten()(nn.Dropout2d(0.2)(joined))), dtype=dtype)
    return model, rng_of("image model").standard_normal((96, 4, 3, 6)).astype(dtype)


def sentence_model(dtype: str) -> tuple[nn.Model, dict[str, np.ndarray]]:
    """Words that share a table with one more word, beside numbers."""
    words, word = nn.Input((4,), name="words", dtype="int64"), nn.Input((), name="word", dtype="int64")
    numbers = nn.Input((3,), name="numbers")
    table = nn.Embedding(7, 5, init=nn.initializers.Normal(0.5))
    hidden = nn.Concat()(nn.Flatten()(nn.LayerNorm()(table(words))), table(word), numbers)
    model = nn.Model([words, word, numbers], nn.Linear(2)(nn.ReLU()(nn.Linear(16)(hidden))), dtype=dtype)
    rng = rng_of("sentence model")
    X = {"words": rng.integers(0, 7, (96, 4)), "word": rng.integers(0, 7, 96), "numbers": rng.standard_normal((96, 3))}
    return model, {k: a if a.dtype == np.int64 else a.astype(dtype) for k, a in X.items()}


def labels_of(X) -> np.ndarray:
    if isinstance(X, dict):
        return (X["words"][:, 0] > X["word"]).astype(np.int64)
    return (X.mean(axis=(1, 2))[:, 0] > X.mean(axis=(1, 2))[:, 1]).astype(np.int64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [image_model, sentence_model])
def test_models_train_and_come_back_from_files(make, dtype, tmp_path):
    model, X = make(dtype)
    y = labels_of(X)
    trainer = fnn.Trainer(model, optimizer=fnn.optim.Adam(0.02), seed=1)
    assert trainer.compare(X, y) is None
    trainer.fit(X, y, epochs=40, batch_size=32, verbose=0)
    assert trainer.evaluate(X, y)["accuracy"] > 0.9
    model.save(tmp_path / "model.safetensors")
    again = fnn.load(tmp_path / "model.safetensors")
    assert repr(again) == repr(model)
    assert_same_bits(again(X), model(X))
    row = {k: a[7:8] for k, a in X.items()} if isinstance(X, dict) else X[7:8]
    assert_same_bits(model(row), model(X)[7:8])
    trainer.checkpoint(tmp_path / "checkpoint")
    second = fnn.Trainer.resume(tmp_path / "checkpoint")
    for each in (trainer, second):
        each.fit(X, y, epochs=1, batch_size=32, verbose=0)
    assert_same_bits(second.model(X), model(X), "continued")


@pytest.mark.parametrize("make", [image_model, sentence_model])
def test_threads_change_no_bit_of_a_training(make):
    found = []
    before = _core.parallel_cost()
    _core.set_parallel_cost(0.0)
    try:
        for threads in (1, 3):
            model, X = make("float32")
            fnn.Trainer(model, seed=1, threads=threads).fit(X, labels_of(X), epochs=2, batch_size=40, verbose=0)
            found.append(model.state_dict())
    finally:
        _core.set_parallel_cost(before)
    for name, array in found[0].items():
        assert_same_bits(found[1][name], array, name)


def test_normalized_chain_trains():
    rng = rng_of("trains")
    X = rng.standard_normal((200, 12)).astype(np.float32)
    y = (X[:, :3].sum(axis=1) > 0).astype(np.int64)
    model = nn.Sequential(nn.Linear(16), nn.LayerNorm(), nn.ReLU(), nn.Linear(8), nn.GroupNorm(2), nn.Linear(2))
    trainer = fnn.Trainer(model, optimizer=fnn.optim.Adam(0.02), seed=1)
    trainer.fit(X, y, epochs=15, batch_size=32, verbose=0)
    assert trainer.evaluate(X, y)["accuracy"] > 0.95


def test_an_unknown_word_behind_another_layer_gives_nan_scores():
    words = nn.Input((2, 2), dtype="int64")
    model = nn.Model(words, nn.Linear(2)(nn.Flatten()(nn.Embedding(7, 3)(nn.Flatten()(words)))))
    X = rng_of("unknown word").integers(0, 7, (8, 2, 2))
    X[5, 1, 0] = 7
    scores = model(X)
    assert np.isnan(scores[5]).all()
    assert np.isfinite(np.delete(scores, 5, axis=0)).all()
