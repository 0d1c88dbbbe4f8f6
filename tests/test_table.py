"""The table, the specs, the functional API and the gradient rules know the same ops."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyfastnn
from pyfastnn import _core, functional
from pyfastnn.graph.gradients import RULES
from pyfastnn.reference import HYPER_FIELDS, specs
from pyfastnn.testing import op_table, rng_of, samples_of

OPS = sorted(op_table())


def function_name(op: str) -> str:
    return op.removesuffix("_forward")


def test_table_and_specs_have_the_same_ops():
    assert set(specs()) == set(OPS)
    assert len(OPS) >= 30


def test_hyper_fields_stand_in_the_compiled_order():
    assert tuple(_core.hyper_fields()) == HYPER_FIELDS


@pytest.mark.parametrize("op", OPS)
def test_reference_takes_the_arguments_of_the_table(op):
    schema = op_table()[op]
    parameters = inspect.signature(specs()[op].reference).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert [p.name for p in positional] == [a["name"] for a in schema["inputs"]]
    assert [p.default is None for p in positional] == [a["optional"] for a in schema["inputs"]]
    assert set(keyword) == set(schema["attrs"]) | set(schema["hyper"])
    assert {k: keyword[k] for k in schema["attrs"]} == schema["attrs"]


@pytest.mark.parametrize("op", OPS)
def test_spec_is_complete(op):
    spec = specs()[op]
    for dtype in ("float32", "float64"):
        samples = samples_of(op, dtype)
        assert len(samples) >= 5
        assert len(spec.errors(rng_of(op), dtype)) >= 1
    assert spec.bench
    assert spec.source
    for sizes in spec.bench:
        cost = spec.cost(4, **sizes)
        assert cost.byte > 0
        assert cost.flop >= 0


@pytest.mark.parametrize("op", OPS)
def test_reference_returns_the_outputs_of_the_table(op):
    schema = op_table()[op]
    for sample in samples_of(op, "float32").values():
        results = specs()[op].evaluate(sample, "float32")
        assert len(results) == len(schema["outputs"])
        for arg, result in zip(schema["outputs"], results, strict=True):
            kind = {"T": "f", "f64": "f", "i64": "i", "u8": "u"}[arg["dtype"]]
            assert result.dtype.kind == kind, (sample.label, arg["name"], result.dtype)


@pytest.mark.parametrize("op", OPS)
def test_bounds_are_small_numbers(op):
    """Not negative wherever the result is finite, and for some sample sharp."""
    spec, sharpest = specs()[op], np.inf
    for sample in samples_of(op, "float32").values():
        wanted = spec.evaluate(sample, "float32")
        bounds = spec.error_bound(sample.inputs, sample.attrs, sample.hyper, "float32")
        for want, bound in zip(wanted, bounds, strict=True):
            with np.errstate(all="ignore"):
                finite = np.isfinite(want.astype(np.float32))
            limit = np.broadcast_to(bound, want.shape)[finite]
            assert (limit >= 0).all(), sample.label
            scale = np.abs(want[finite]).max(initial=0)
            if scale > 0:
                sharpest = min(sharpest, float(limit.max() / scale))
    assert sharpest < 2e-6


@pytest.mark.parametrize("op", OPS)
def test_backward_nodes_are_ops_of_the_table(op):
    spec, schema = specs()[op], op_table()[op]
    assert (op in RULES) == bool(spec.backward)
    for name, gradient in spec.backward.items():
        assert name in [a["name"] for a in schema["inputs"]]
        if gradient != "dy":
            backward_op, output = gradient.split(".")
            assert output in [a["name"] for a in op_table()[backward_op]["outputs"]]


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_documented_function(op):
    name = function_name(op)
    assert name in functional.__all__
    function = getattr(functional, name)
    doc = inspect.getdoc(function) or ""
    for section in ("Parameters", "Raises", "Examples"):
        assert section in doc, f"{name} has no section {section}"
    parameters = inspect.signature(function).parameters
    inputs = [a["name"] for a in op_table()[op]["inputs"]]
    assert list(parameters)[: len(inputs)] == inputs
    for parameter in parameters:
        assert parameter in doc, f"{name} does not document {parameter}"
    for attribute in op_table()[op]["attrs"]:
        assert attribute in parameters


def test_functions_have_the_defaults_of_the_table():
    for op in OPS:
        parameters = inspect.signature(getattr(functional, function_name(op))).parameters
        for attribute, default in op_table()[op]["attrs"].items():
            assert parameters[attribute].default == default, (op, attribute)


def test_reference_imports_numpy_and_the_graph_only():
    folder = Path(pyfastnn.__file__).parent / "reference"
    files = list(folder.glob("*.py"))
    assert len(files) >= 9
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file.name} has a relative import"
                names = [node.module or ""]
            for name in names:
                own = name.startswith(("pyfastnn.reference", "pyfastnn.graph"))
                root = name.split(".")[0]
                allowed = own or root == "numpy" or (root != "pyfastnn" and root in sys.stdlib_module_names)
                assert allowed, f"{file.name} imports {name}"


def test_reference_works_without_the_compiled_core():
    """Importing the oracle loads no kernel: checked in a fresh interpreter."""
    code = (
        "import sys, pyfastnn.reference as r; assert len(r.specs()) >= 30; "
        "assert 'pyfastnn._core' not in sys.modules and 'pyfastnn.functional' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
