"""docs/coming_from.md: every call on the page exists with these arguments and defaults, here and in the peers that are installed."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import data, nn, optim

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "coming_from.md").read_text(encoding="utf-8")
COLUMNS = ("pyfastnn", "PyTorch", "Keras 3", "MLX", "what differs")
LECTURES = "\n## The CS231n lectures\n"
WORDS = {"forward", "__call__"}
"""What stands in code but is no call: a method that the user writes."""


class Instance:
    """Stands for an object of a class: its methods are called without ``self``."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def rows() -> list[list[str]]:
    """Return the cells of all tables of the page."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [cells for cells in found if cells[0] != "pyfastnn" and not set(cells[0]) <= set("-")]


def spans(column: int) -> Iterator[ast.expr]:
    """Yield every piece of code in a column; what is no Python fails here."""
    for cells in rows():
        for text in re.findall(r"`([^`]+)`", cells[column]):
            yield ast.parse(text, mode="eval").body


def resolve(node: ast.expr, names: dict[str, Any]) -> tuple[Any, bool]:
    """Return what a dotted name means, and whether it is a method of an object."""
    if isinstance(node, ast.Name):
        assert node.id in names, f"the test knows no {node.id!r}"
        return names[node.id], False
    assert isinstance(node, ast.Attribute), ast.unparse(node)
    holder, _ = resolve(node.value, names)
    if isinstance(holder, Instance):
        return getattr(holder.cls, node.attr), True
    return getattr(holder, node.attr), False


def parameters(target: Any, bound: bool) -> list[inspect.Parameter] | None:
    """Return what may be given to a call; None for built-in functions that do not tell."""
    if isinstance(target, Instance):
        return None
    try:
        found = list(inspect.signature(target).parameters.values())
    except ValueError:
        return None
    return found[1:] if bound else found


def check(call: ast.Call, names: dict[str, Any]) -> bool:
    """Hold a call against the signature; False if there is none to hold it against."""
    shown = ast.unparse(call)
    target, bound = resolve(call.func, names)
    known = parameters(target, bound)
    if known is None:
        return False
    by_name = {p.name: p for p in known}
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in known)
    places = [p for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    more = next((p for p in places if p.kind is p.VAR_POSITIONAL), None)
    for place, argument in enumerate(call.args):
        if isinstance(argument, ast.Starred):
            assert more is not None and isinstance(argument.value, ast.Name), shown
            assert argument.value.id == more.name, f"{shown}: it is *{more.name}"
            continue
        found = places[place] if place < len(places) else more
        assert found is not None, f"{shown} has too many arguments"
        if isinstance(argument, ast.Name) and found is not more:
            assert argument.id == found.name, f"{shown}: argument {place} is {found.name!r}"
        elif isinstance(argument, ast.Name) and not any_keyword:  # ``*size``, which may be given by name as well
            assert argument.id in by_name and argument.id != found.name, (
                f"{shown}: no argument is called {argument.id!r}"
            )
    for keyword in call.keywords:
        assert keyword.arg in by_name, f"{shown}: no argument is called {keyword.arg!r}"
        default = by_name[keyword.arg].default
        assert default == ast.literal_eval(keyword.value), f"{shown}: {keyword.arg} is {default!r}"
    return True


def ours() -> dict[str, Any]:
    model, trainer = Instance(nn.Model), Instance(fnn.Trainer)
    return {"fnn": fnn, "nn": nn, "optim": optim, "data": data, "model": model, "trainer": trainer}


def torch_names() -> dict[str, Any]:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's signatures")
    return {
        "torch": torch,
        "nn": torch.nn,
        "optim": torch.optim,
        "lr_scheduler": torch.optim.lr_scheduler,
        "init": torch.nn.init,
        "net": Instance(torch.nn.Module),
        "tensor": Instance(torch.Tensor),
        "optimizer": Instance(torch.optim.Optimizer),
    }


def keras_names() -> dict[str, Any]:
    if "KERAS_BACKEND" not in os.environ:
        pytest.skip("compares with Keras's signatures: set KERAS_BACKEND to a backend that is installed")
    keras = pytest.importorskip("keras", reason="compares with Keras's signatures")
    modules = ("activations", "callbacks", "constraints", "initializers", "layers", "losses", "optimizers", "utils")
    return {
        "keras": keras,
        **{name: getattr(keras, name) for name in (*modules, "regularizers")},
        "model": Instance(keras.Model),
        "layer": Instance(keras.Layer),
        "optimizer": Instance(keras.optimizers.Optimizer),
    }


def mlx_names() -> dict[str, Any]:
    mx = pytest.importorskip("mlx.core", reason="compares with MLX's signatures")
    mlx_nn = pytest.importorskip("mlx.nn", reason="compares with MLX's signatures")
    mlx_optim = pytest.importorskip("mlx.optimizers", reason="compares with MLX's signatures")
    net, optimizer = Instance(mlx_nn.Module), Instance(mlx_optim.Optimizer)
    return {"mx": mx, "nn": mlx_nn, "optim": mlx_optim, "net": net, "optimizer": optimizer}


def test_the_page_has_the_tables_this_file_reads() -> None:
    headers = [line for line in PAGE.splitlines() if line.startswith("| pyfastnn |")]
    assert headers == ["| " + " | ".join(COLUMNS) + " |"] * len(headers)
    assert len(headers) == PAGE.count("\n## ") - 2  # one a section, but for the first and the last
    assert all(len(cells) == len(COLUMNS) for cells in rows())


def test_our_calls_are_as_shown() -> None:
    calls = list(spans(0))
    assert len(calls) == len(rows())
    for call in calls:
        assert isinstance(call, ast.Call)
        assert check(call, ours())


@pytest.mark.parametrize("module", [nn, optim, nn.initializers], ids=["nn", "optim", "initializers"])
def test_every_name_of_ours_is_on_the_page(module: Any) -> None:
    bases = (nn.Layer, nn.Loss, optim.Optimizer, optim.Schedule, nn.initializers.Initializer)
    named = {resolve(call.func, ours())[0] for call in spans(0) if isinstance(call, ast.Call)}
    wanted = [v for k in module.__all__ if inspect.isclass(v := getattr(module, k)) and issubclass(v, bases)]
    assert len(wanted) > 10
    assert [v.__name__ for v in wanted if v not in named and v not in bases] == []


@pytest.mark.parametrize(("column", "names"), [(1, torch_names), (2, keras_names), (3, mlx_names)], ids=COLUMNS[1:4])
def test_the_calls_of_peers_are_as_shown(column: int, names: Any) -> None:
    known = names()
    told = 0
    for node in spans(column):
        if isinstance(node, ast.Call):
            told += check(node, known)
        elif isinstance(node, ast.Attribute):
            resolve(node, known)
        else:
            assert isinstance(node, ast.BinOp) or (isinstance(node, ast.Name) and node.id in WORDS), ast.unparse(node)
    assert told > 50


def test_a_wrong_call_is_noticed() -> None:
    for text in (
        "nn.Dropout(q=0.5)",
        "nn.Dropout(p=0.4)",
        "nn.Embedding(dim, vocabulary)",
        "nn.Linear(width)",
        "nn.Dropout2d(p, q)",
        "nn.Sequential(*modules)",
        "model.freeze(names)",
    ):
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        with pytest.raises(AssertionError):
            check(call, ours())


def programs(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_program_of_the_lectures_runs() -> None:
    (program,) = programs(PAGE.partition(LECTURES)[2])
    found: dict[str, Any] = {}
    exec(compile(program, "docs/coming_from.md", "exec"), found)
    assert found["stats"]["native"]
    assert len(found["stats"]["loss_history"]) == 5 * 2
    assert set(found["best_model"]) == set(found["grads"]) == set(found["model"])


def test_the_weights_of_a_torch_network_are_copied_as_shown() -> None:
    torch = pytest.importorskip("torch", reason="copies the weights of a PyTorch network")
    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    names = SimpleNamespace(scope={"net": net})
    for program in programs(PAGE.partition(LECTURES)[0]):
        exec(compile(program, "docs/coming_from.md", "exec"), names.scope)
    X = np.random.default_rng(0).standard_normal((7, 64)).astype(np.float32)
    scores = names.scope["model"].predictor(7)(X)
    with torch.no_grad():
        theirs = net(torch.from_numpy(X)).numpy()
    # Two chained products of float32 with sums of 64 and 128 terms: some hundred roundings of numbers of order 1.
    assert np.abs(scores - theirs).max() <= 256 * np.finfo(np.float32).eps * max(1.0, np.abs(theirs).max())
