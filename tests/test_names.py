"""Unknown names and keywords are answered with the nearest known one."""

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn._names import helpful_keywords, nearest, unknown
from pyfastnn.nn import losses

CALLS = {
    "layer": (lambda: nn.Linear(3, out_feature=2), r"Linear: unknown keyword 'out_feature', did you mean"),
    "batch norm": (
        lambda: nn.BatchNorm(momentun=0.1),
        r"BatchNorm: unknown keyword 'momentun', did you mean 'momentum'\?",
    ),
    "optimizer": (
        lambda: optim.Adam(learning_rat=0.1),
        r"Adam: unknown keyword 'learning_rat', did you mean 'learning_rate'\?",
    ),
    "model": (
        lambda: nn.Sequential(nn.ReLU(), preproces=None),
        r"Sequential: unknown keyword 'preproces', did you mean 'preprocess'\?",
    ),
    "trainer": (lambda: fnn.Trainer(nn.Sequential(nn.ReLU()), optimiser="adam"), r"did you mean 'optimizer'\?"),
    "fit": (
        lambda: fnn.Trainer(nn.Sequential(nn.Linear(2))).fit(np.zeros((2, 1)), [0, 1], epoch=3),
        r"Trainer.fit: unknown keyword 'epoch', did you mean 'epochs'\?",
    ),
}

CALLS |= {
    "initials": (lambda: optim.Adam(lr=0.1), r"Adam: unknown keyword 'lr', did you mean 'learning_rate'\?"),
    "too many": (lambda: nn.BatchNorm(64), "BatchNorm: 64 is a positional argument too many; keywords: momentum, eps"),
    "too many of a crop": (
        lambda: nn.RandomCrop(4),
        "RandomCrop: 4 is a positional argument too many; keywords: padding",
    ),
    "too many for fit": (
        lambda: fnn.Trainer(nn.Sequential(nn.Linear(2))).fit(np.zeros((2, 1)), [0, 1], 10),
        "Trainer.fit: 10 is a positional argument too many; keywords: X, y, rows",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_unknown_keywords(case):
    call, message = CALLS[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_other_type_errors_stay():
    @helpful_keywords
    def half(number=1):
        return number / 2

    assert half(number=4) == 2
    with pytest.raises(TypeError, match="unsupported operand"):
        half(number="4")


def test_nearest_ignores_case_and_answers_nothing_for_nothing_similar():
    assert nearest("ADM", ["sgd", "Adam"]) == "Adam"
    assert nearest("qqq", ["sgd", "adam"]) is None
    assert unknown("optimizer", "qqq", ["sgd"]) == "unknown optimizer 'qqq'; known: sgd"


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: nn.Dense, "Linear"),
        (lambda: nn.CrossEntropyLoss, "SoftmaxCrossEntropy"),
        (lambda: nn.BatchNorm2d, "BatchNorm"),
        (lambda: optim.RMSprop, "RMSProp"),
        (lambda: optim.Adagrad, "AdaGrad"),
        (lambda: optim.Adam(lr=0.1), "learning_rate"),
        (lambda: nn.Dropout(rate=0.1), "p"),
        (lambda: losses.get("mse"), "mean_squared_error"),
        (lambda: losses.get("cross_entropy"), "softmax_cross_entropy"),
    ],
)
def test_names_of_other_libraries_lead_to_ours(call, wanted):
    with pytest.raises((AttributeError, TypeError, ValueError), match=f"did you mean '{wanted}'"):
        call()


def test_nearest_knows_initials_and_beginnings():
    assert nearest("mse", ["mean_absolute_error", "mean_squared_error"]) == "mean_squared_error"
    assert nearest("he", ["xavier_normal", "he_normal", "he_uniform"]) == "he_normal"
    assert nearest("acc", ["loss", "accuracy"]) == "accuracy"
    assert nearest("a", ["accuracy"]) is None


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        (nn, "Conv2D", "Conv2d"),
        (nn, "ReLu", "ReLU"),
        (optim, "Adagrad", "AdaGrad"),
        (fnn.functional, "leakyrelu", "leaky_relu"),
        (fnn.gates, "multiply", "Multiply"),
    ],
)
def test_unknown_names_of_modules(module, name, meant):
    with pytest.raises(AttributeError, match=f"unknown name in {module.__name__} '{name}', did you mean '{meant}'"):
        getattr(module, name)
    assert not hasattr(module, "__wrapped__")
