"""What users hand to a trainer: rows, targets, names, settings and models, right and wrong."""

from __future__ import annotations

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.testing import assert_same_bits, rng_of


def toy(rows: int = 61, features: int = 7, classes: int = 3, dtype: str = "float32"):
    """Return rows and labels that a small network learns in a few epochs."""
    rng = rng_of("toy", rows, features, classes)
    y = rng.integers(0, classes, rows)
    centers = 2.0 * rng.standard_normal((classes, features))
    return (centers[y] + rng.standard_normal((rows, features))).astype(dtype), y


def small(*layers: nn.Layer, dtype: str = "float32", preprocess=None, **settings) -> fnn.Trainer:
    layers = layers or (nn.Linear(9), nn.ReLU(), nn.Linear(3))
    return fnn.Trainer(nn.Sequential(*layers, dtype=dtype, preprocess=preprocess), **settings)


def state_of(trainer: fnn.Trainer) -> dict[str, np.ndarray]:
    """Return everything of a run that must have equal bits."""
    columns = ("loss", "accuracy", "val_loss")
    seen = {c: np.array(trainer.history[c]) for c in columns if c in trainer.history.columns}
    slots = {f"slot {k}": a.copy() for k, a in trainer.slots.items()}
    return {**trainer.model.state_dict(), **slots, **seen, "steps": np.array(trainer.step_count)}


def assert_same_state(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for name, array in want.items():
        assert_same_bits(got[name], array, name)


# Targets


LABELS = {
    "strings": np.array(["red", "green", "blue"]),
    "gaps": np.array([-4, 10, 70]),
    "unsigned": np.array([1, 2, 9], np.uint8),
    "floats": np.array([0.0, 1.0, 2.0]),
    "objects": np.array(["x", "yy", "zzz"], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_kind(kind):
    X, y = toy(200)
    names = LABELS[kind]
    trainer = small(seed=1, optimizer=optim.Adam(0.02))
    trainer.fit(X, names[y], X_val=X, y_val=names[y].reshape(-1, 1), epochs=20, verbose=0)
    np.testing.assert_array_equal(trainer.model.classes_, np.unique(names.astype(trainer.model.classes_.dtype)))
    predicted = trainer.model.predict(X)
    assert (predicted == names[y]).mean() == trainer.history["val_accuracy"][-1] > 0.8


def test_two_truth_values():
    X, y = toy(200, classes=2)
    trainer = small(nn.Linear(2))
    trainer.fit(X, y == 1, epochs=20, verbose=0)
    assert trainer.model.predict(X).dtype == bool
    assert (trainer.model.predict(X) == (y == 1)).mean() > 0.8


def test_whole_numbers_stand_for_themselves():
    """A class that does not occur keeps its place."""
    X, y = toy(200)
    trainer = small(nn.Linear(5))
    trainer.fit(X, np.where(y == 1, 4, y), epochs=5, verbose=0)
    np.testing.assert_array_equal(trainer.model.classes_, np.arange(5))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["n", "n1"])
def test_regression_targets(shape):
    X, _ = toy(200)
    y = X[:, 0] - 2 * X[:, 1]
    trainer = small(nn.Linear(1), loss="mean_squared_error", optimizer=optim.Adam(0.05))
    trainer.fit(X, y.reshape(shape), X_val=X, y_val=y, epochs=60, verbose=0)
    assert "accuracy" not in trainer.history.columns
    predicted = trainer.model.predict(X)
    assert predicted.shape == (200,)
    assert trainer.history["val_loss"][-1] == pytest.approx(float(((predicted - y) ** 2).mean()), rel=1e-4, abs=1e-9)
    assert trainer.history["val_loss"][-1] < 0.01 * y.var()
    with pytest.raises(RuntimeError, match="no trained classifier"):
        trainer.model.predict_proba(X)


def test_several_outputs():
    X, _ = toy(200)
    trainer = small(nn.Linear(2), loss="mean_squared_error", optimizer=optim.Adam(0.05))
    trainer.fit(X, X[:, :2], epochs=40, verbose=0)
    assert trainer.model.predict(X).shape == (200, 2)
    assert trainer.history["loss"][-1] < 0.1


def changed(X: np.ndarray, *places: tuple[int, int, float]) -> np.ndarray:
    X = X.copy()
    for row, column, value in places:
        X[row, column] = value
    return X


X0, Y0 = toy()
BAD_DATA = {
    "label outside": ((X0, Y0 + 1), {}, ValueError, "'y' holds the label 3, which is none of the model's 3 classes"),
    "label below": ((X0, Y0 - 1), {}, ValueError, "'y' holds the label -1"),
    "other kind": ((X0, Y0.astype(str)), {}, ValueError, "'y' holds the label '0'"),
    "fractions": ((X0, Y0 + 0.5), {}, TypeError, "'y' holds floats that are no whole numbers"),
    "NaN label": ((X0, np.where(Y0 == 1, np.nan, Y0)), {}, TypeError, "no whole numbers"),
    "mixed objects": (
        (X0, np.array([None, "a", 1] * 20 + ["a"], object)),
        {},
        TypeError,
        "labels of type NoneType, int, str",
    ),
    "one-hot": ((X0, np.eye(3)[Y0]), {}, ValueError, r"\(61, 3\), expected one label a row.*y.argmax"),
    "length": ((X0, Y0[:-1]), {}, ValueError, r"'y' has shape \(60,\), expected 61 rows as 'X' has"),
    "no targets": ((X0, None), {}, ValueError, "'X' was given without 'y'"),
    "one-dimensional": ((X0[0], Y0), {}, ValueError, r"'X' has shape \(7,\).*X.reshape\(-1, 1\)"),
    "features": ((X0[:, :4], Y0), {}, ValueError, "4 values a row, expected 7"),
    "no rows": ((X0[:0], Y0[:0]), {}, ValueError, "'X' has no rows"),
    "text": ((X0.astype(str), Y0), {}, TypeError, "'X' has dtype <U32, expected numbers"),
    "complex": ((X0.astype(complex), Y0), {}, TypeError, "complex128"),
    "masked": ((np.ma.masked_array(X0, X0 > 1), Y0), {}, TypeError, "'X' is a masked array"),
    "val without targets": ((X0, Y0), {"X_val": X0}, ValueError, "'X_val' was given without 'y_val'"),
    "val without rows": ((X0, Y0), {"y_val": Y0}, ValueError, "'y_val' was given without 'X_val'"),
    "val features": ((X0, Y0), {"X_val": X0[:, 1:], "y_val": Y0}, ValueError, "'X_val' has shape"),
    "val label": ((X0, Y0), {"X_val": X0, "y_val": Y0 + 7}, ValueError, "'y_val' holds the label"),
    "epochs": ((X0, Y0), {"epochs": 0}, ValueError, "'epochs' is 0, expected a whole number of 1 or more"),
    "epochs float": ((X0, Y0), {"epochs": 2.0}, ValueError, "'epochs' is 2.0"),
    "batch_size": ((X0, Y0), {"batch_size": True}, ValueError, "'batch_size' is True"),
    "max_steps": ((X0, Y0), {"max_steps": 2.5}, ValueError, "'max_steps' is 2.5"),
    "max_seconds": ((X0, Y0), {"max_seconds": -1}, ValueError, "'max_seconds' is -1"),
    "max_seconds NaN": ((X0, Y0), {"max_seconds": float("nan")}, ValueError, "'max_seconds' is nan"),
    "NaN": (
        (changed(X0, (3, 2, np.nan), (5, 2, np.inf), (9, 6, np.nan)), Y0),
        {},
        ValueError,
        "'X' holds 3 NaN or infinite values, 2 of them in column 2",
    ),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_refused_and_nothing_trained(case):
    arguments, named, error, message = BAD_DATA[case]
    trainer = small(seed=1)
    trainer.fit(X0, Y0, epochs=1, verbose=0)
    before = state_of(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(*arguments, **{"verbose": 0, **named})
    assert_same_state(state_of(trainer), before)
    assert trainer.epoch == 1


def test_first_fit_that_is_refused_leaves_no_trace():
    """Classes of rows that could not be used do not stick."""
    trainer = small(preprocess=fnn.data.Standardize())
    with pytest.raises(ValueError, match="column 2"):
        trainer.fit(changed(X0, (3, 2, np.nan)), Y0 * 10, verbose=0)
    assert (trainer.model.built, trainer.model.classes_, trainer.model.task) == (False, None, None)
    trainer.fit(X0, Y0.astype(str), epochs=1, verbose=0)
    assert list(trainer.model.classes_) == ["0", "1", "2"]


def test_classes_that_do_not_fit_the_head():
    with pytest.raises(ValueError, match=r"'y' has 4 different labels .* 3 outputs; end the model with nn.Linear\(4\)"):
        small().fit(X0, np.arange(61) % 4, verbose=0)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (X0[:, :2], ValueError, r"expected \(n,\) or \(n, 1\) because the model has 1 outputs"),
        (changed(X0, (4, 0, np.nan))[:, 0], ValueError, "'y' holds 1 NaN or infinite targets"),
        (Y0.astype(str), TypeError, "expected numbers; for classes use loss='softmax_cross_entropy'"),
        (np.float32(3), ValueError, r"'y' has shape \(\)"),
        (X0[:-1, 0], ValueError, "expected 61 rows"),
    ],
    ids=["columns", "NaN", "text", "scalar", "length"],
)
def test_regression_targets_that_are_refused(targets, error, message):
    trainer = small(nn.Linear(1), loss="mean_squared_error")
    with pytest.raises(error, match=message):
        trainer.fit(X0, targets, verbose=0)
    assert not trainer.model.built


# Names, settings, models


WRONG_SETTINGS = {
    "optimizer": ({"optimizer": "adm"}, ValueError, "did you mean 'adam'"),
    "optimizer type": ({"optimizer": 3}, TypeError, "expected a name or an object of pyfastnn.optim"),
    "loss": ({"loss": "softmax_crossentropy"}, ValueError, "did you mean 'softmax_cross_entropy'"),
    "loss type": ({"loss": nn.ReLU()}, TypeError, "expected a name or a loss of pyfastnn.nn"),
    "guard": ({"guard": "non-finite"}, ValueError, "did you mean 'nonfinite'"),
    "metric": ({"metrics": ["acuracy"]}, ValueError, "did you mean 'accuracy'"),
    "seed": ({"seed": -1}, ValueError, "'seed' is -1"),
    "seed float": ({"seed": 1.0}, ValueError, "'seed' is 1.0"),
    "seed large": ({"seed": 2**53}, ValueError, "'seed' is 9007199254740992"),
    "threads": ({"threads": -1}, ValueError, "'threads' is -1"),
    "threads type": ({"threads": "2"}, ValueError, "'threads' is '2'"),
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_settings_of_the_trainer(case):
    named, error, message = WRONG_SETTINGS[case]
    with pytest.raises(error, match=message):
        small(**named)


def test_trainer_needs_a_model():
    with pytest.raises(TypeError, match=r"'model' is .*, expected a model such as nn.Sequential"):
        fnn.Trainer(nn.Linear(3))


@pytest.mark.parametrize("metrics", ["accuracy", ["accuracy"], ()], ids=str)
def test_metrics_by_name(metrics):
    small(metrics=metrics)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Linear(3, 4), TypeError, r"write Linear\(out_features\), not Linear\(3, 4\)"),
        (lambda: nn.Linear(), TypeError, "takes one size"),
        (lambda: nn.Linear(2.0), TypeError, "expected a whole number"),
        (lambda: nn.Linear(0), ValueError, "size is 0, expected 1 or more"),
        (lambda: nn.Linear(3, init="he"), ValueError, "unknown initializer 'he'"),
        (lambda: nn.Dropout(1.0), ValueError, "Dropout: 'p' is 1, expected from 0 to under 1"),
        (lambda: nn.ELU(-1), ValueError, "ELU: 'alpha' is -1"),
        (lambda: nn.BatchNorm(eps=0), ValueError, "'eps' is 0, expected above 0"),
        (lambda: optim.SGD(nesterov=True), ValueError, "nesterov=True needs a momentum"),
        (lambda: optim.Adam(-1), ValueError, "Adam: 'learning_rate' is -1"),
        (lambda: optim.Adam("fast"), ValueError, "Adam: 'learning_rate': unknown schedule 'fast'"),
        (lambda: optim.Adam([1e-3]), TypeError, r"'learning_rate' is \[0.001\], expected a number"),
        (lambda: nn.Sequential(), TypeError, "no layers given"),
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, "is no layer object"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, "is no layer object"),
        (lambda: nn.Sequential(nn.ReLU(), dtype="float16"), ValueError, "dtype is 'float16'"),
        (lambda: nn.Sequential(*[nn.ReLU()] * 2), ValueError, "stands twice"),
        (
            lambda: nn.Sequential(nn.Linear(3, in_features=4)).build((5,)),
            ValueError,
            "linear_1: Linear: the input has 5",
        ),
        (lambda: nn.Sequential(nn.Linear(3)).build((2, 2)), ValueError, r"linear_1: .*put nn.Flatten\(\) before it"),
        (lambda: nn.Sequential(nn.Linear(3)).build((0,)), ValueError, r"'input_shape' is \(0,\), expected sizes of 1"),
        (lambda: nn.Sequential(nn.Linear(3)).build((2.0,)), TypeError, "expected whole numbers"),
        (lambda: nn.Sequential(nn.Linear(3)).parameters, RuntimeError, r"call model.build\(\(784,\)\)"),
        (lambda: nn.Sequential(nn.Linear(3))(X0), RuntimeError, r"call model.build\(\(784,\)\)"),
        (lambda: fnn.Trainr, AttributeError, "did you mean 'Trainer'"),
    ],
)
def test_wrong_parts_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_sizes_are_named_or_not():
    assert nn.Linear(out_features=3).config() == nn.Linear(3).config()


def test_unfitted_preprocessing_is_named():
    model = nn.Sequential(nn.Linear(3), preprocess=fnn.data.Standardize()).build((7,))
    with pytest.raises(RuntimeError, match=r"Standardize\(per='feature', with_mean=True\) is not fitted yet"):
        model(X0)


def test_evaluation_before_training_is_refused():
    trainer = small()
    with pytest.raises(RuntimeError, match="no parameters yet"):
        trainer.evaluate(X0, Y0)
    trainer.model.build((7,))
    with pytest.raises(RuntimeError, match="knows no classes yet"):
        trainer.evaluate(X0, Y0)


def test_names_count_per_model():
    for _ in range(2):
        model = nn.Sequential(nn.Linear(4), nn.ReLU(), nn.Linear(4), nn.ReLU(), nn.Linear(2)).build(6)
        assert list(model.layers) == ["linear_1", "relu_1", "linear_2", "relu_2", "linear_3"]
        assert list(model.parameters)[:2] == ["linear_1.w", "linear_1.b"]


def test_state_goes_in_and_out():
    model, other = (nn.Sequential(nn.Linear(4), nn.BatchNorm()).build(6, seed=k) for k in (1, 2))
    state = model.state_dict()
    other.load_state_dict(state)
    assert_same_bits(other(X0[:, :6].copy()), model(X0[:, :6].copy()))
    state["linear_1.w"][...] = 0
    assert model.parameters["linear_1.w"].any()
    before = model.state_dict()
    for wrong, message in [
        ({"linear1.b": state["linear_1.b"]}, "unknown parameter 'linear1.b', did you mean 'linear_1.b'"),
        ({**state, "linear_1.b": np.zeros(3)}, r"'linear_1.b' has shape \(3,\), expected \(4,\)"),
        ({"linear_1.w": state["linear_1.w"]}, "state has no 'linear_1.b'"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.load_state_dict(wrong)
        assert all((model.state_dict()[k] == a).all() for k, a in before.items())
    model.load_state_dict({"linear_1.w": state["linear_1.w"], "other": state["linear_1.b"]}, strict=False)
    assert not model.parameters["linear_1.w"].any()


def test_parameters_are_views():
    model = nn.Sequential(nn.Linear(3)).build(7)
    model.parameters["linear_1.w"][...] = 0
    np.testing.assert_array_equal(model(X0), 0)


def test_images_are_flattened_and_stay_uint8():
    rng = rng_of("images")
    images = rng.integers(0, 256, (90, 4, 3, 2)).astype(np.uint8)
    y = rng.integers(0, 3, 90)
    flat, square = (small(nn.Flatten(), nn.Linear(3), preprocess=fnn.data.Rescale()) for _ in range(2))
    square.fit(images, y, epochs=2, verbose=0)
    flat.fit(images.reshape(90, -1), y, epochs=2, verbose=0)
    assert square.model.input_shape == (4, 3, 2)
    assert_same_bits(square.model(images), flat.model(images.reshape(90, -1)))


@pytest.mark.parametrize("kind", ["float64", "int32", "list", "strided", "big-endian", "float16"])
def test_rows_of_other_kinds_mean_the_same_numbers(kind):
    X = np.round(4 * X0) / 4  # quarters are exact in all of them
    if kind == "int32":
        X = np.round(X)
    wide = np.zeros((61, 14), np.float32)
    wide[:, ::2] = X
    given = {
        "list": lambda: X.tolist(),
        "strided": lambda: wide[:, ::2],
        "big-endian": lambda: X.astype(">f4"),
    }.get(kind, lambda: X.astype(kind))()
    want, got = small(seed=1), small(seed=1)
    want.fit(X.astype(np.float32), Y0, epochs=2, verbose=0)
    got.fit(given, Y0, epochs=2, verbose=0)
    assert_same_state(state_of(got), state_of(want))


def test_no_rows_to_predict():
    trainer = small()
    trainer.fit(X0, Y0, epochs=1, verbose=0)
    assert trainer.model.predict(X0[:0]).shape == (0,)
    assert trainer.model.predict_proba(X0[:0]).shape == (0, 3)


def test_summary_counts_parameters():
    model = nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.ReLU(), nn.Linear(3, bias=False))
    assert model.summary().endswith("total parameters: 0")
    lines = model.build((7,)).summary().splitlines()
    assert [line.split()[0] for line in lines] == ["layer", *model.layers, "total"]
    assert [line.split()[-1] for line in lines[1:]] == ["32", "8", "0", "12", "52"]


def test_trainer_compares_itself_and_leaves_the_weights():
    trainer = small(nn.Linear(9), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3), optimizer="adamw")
    trainer.fit(X0, Y0, epochs=1, verbose=0)
    before = state_of(trainer)
    assert trainer.compare(X0, Y0) is None
    assert_same_state(state_of(trainer), before)
    assert "adamw_step" in trainer.describe()
    values, _ = trainer.trace(X0, Y0)
    assert_same_bits(values["linear_1.w"], trainer.model.parameters["linear_1.w"])
    assert trainer.step_count == int(before["steps"]) + 1


def test_describe_before_anything_is_compiled():
    with pytest.raises(RuntimeError, match="nothing is compiled yet"):
        small().describe()


def test_update_rule_may_change_between_fits():
    X, y = toy(200)
    trainer = small(optimizer="sgd")
    trainer.fit(X, y, epochs=1, verbose=0)
    for rule in (optim.Adam(0.01), optim.SGD(0.1, momentum=0.9), optim.SGD(0.1, momentum=0.9, nesterov=True)):
        trainer.optimizer = rule
        before = trainer.model.state_dict()
        trainer.fit(X, y, epochs=1, verbose=0)
        assert (trainer.model.state_dict()["linear_1.w"] != before["linear_1.w"]).any()
        assert list(trainer.slots) == [f"{p}.{s}" for p in trainer.model.parameters for s in rule.slots]
