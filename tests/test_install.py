"""What an installation promises: cheap importing, nothing but NumPy, one version, and a README whose commands exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

import pyfastnn as fnn
from pyfastnn import _core
from pyfastnn.cli import COMMANDS
from pyfastnn.cli.options import Parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

USED = """
import sys, numpy
before = set(sys.modules)
import pyfastnn
bare = set(sys.modules) - before
pyfastnn.Trainer, pyfastnn.nn, pyfastnn.optim, pyfastnn.data.load_digits, pyfastnn.load, pyfastnn.functional
print(*sorted(bare))
print(*sorted(set(sys.modules) - before))
"""

TRAINED = """
import sys
import pyfastnn as fnn
loaded = set(sys.modules)
assert "numpy" not in loaded, "import pyfastnn alone must not load NumPy"
X, y = fnn.data.load_digits()
trainer = fnn.Trainer(fnn.nn.Sequential(fnn.nn.Linear(10), preprocess=fnn.data.Standardize()))
trainer.fit(X, y, epochs=1)
trainer.model.save("m.safetensors")
fnn.load("m.safetensors").predict(X)
tops = {name.partition(".")[0] for name in sys.modules}
print(*sorted(t for t in tops - set(sys.stdlib_module_names) if not t.startswith("_")))
"""


def python(program: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_what_is_used(tmp_path: Path) -> None:
    """Loading modules is what importing costs; time itself would be another process's."""
    bare, everything = (set(line.split()) for line in python(USED, tmp_path).splitlines())
    assert bare <= {"pyfastnn", "__future__"}
    rooms = {name.split(".")[1] for name in everything if name.startswith("pyfastnn.")}
    for late in ("reference", "bench", "cli", "gates", "diagnose", "testing"):
        assert late not in rooms, f"{late} is loaded before anything of it is used"


def test_training_loads_nothing_but_numpy(tmp_path: Path) -> None:
    loaded = set(python(TRAINED, tmp_path).split()) - {"sitecustomize", "usercustomize"}
    assert {"numpy", "pyfastnn"} <= loaded
    foreign = {"matplotlib", "tqdm", "scipy", "sklearn", "pandas", "torch", "pytest", "hypothesis"}
    assert not loaded & foreign


def test_only_numpy_is_required() -> None:
    required = metadata.requires("pyfastnn") or []
    assert [r for r in required if "extra ==" not in r] == ["numpy>=2.0"]


def test_one_version_everywhere() -> None:
    written = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert written is not None
    assert written[1] == fnn.__version__ == _core.__version__ == metadata.version("pyfastnn")


def test_every_public_name_can_be_had_and_misspelled() -> None:
    for module in (fnn, fnn.data, import_module("pyfastnn.io"), import_module("pyfastnn.report")):
        assert all(getattr(module, name) is not None for name in module.__all__)
        with pytest.raises(AttributeError, match="did you mean"):
            getattr(module, module.__all__[0] + "s")


def test_the_stub_knows_the_native_module() -> None:
    assert fnn.__file__ is not None
    package = Path(fnn.__file__).parent
    stub = ast.parse((package / "_core.pyi").read_text())
    declared = {n.name: n for n in stub.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    native = {name for name in dir(_core) if not name.startswith("__")}
    assert set(declared) == native
    plan = declared["Plan"]
    assert isinstance(plan, ast.ClassDef)
    methods = {n.name for n in plan.body if isinstance(n, ast.FunctionDef)} - {"__init__"}
    assert methods == {name for name in vars(_core.Plan) if not name.startswith("_")}
    assert (package / "py.typed").exists()


# README


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def shell_lines() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_readme_has_one_line_for_the_demo_and_one_for_the_tests() -> None:
    setups = [line for line in shell_lines() if line.startswith("python3 -m venv .venv && ")]
    assert [line.rpartition("/")[2] for line in setups] == ["pyfastnn demo", "pytest"]
    extras = metadata.metadata("pyfastnn").get_all("Provides-Extra") or []
    for extra in re.findall(r"\.\[(\w+)\]", README):
        assert extra in extras
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '([^']+)' README.md", script)
    assert pattern is not None
    assert len([line for line in README.splitlines() if re.search(pattern[1], line)]) == 1


def test_readme_commands_are_understood() -> None:
    commands = [line.split() for line in shell_lines() if line.startswith("pyfastnn ")]
    commands += [["pyfastnn", "train", "DATA", *row.split()] for row in re.findall(r"\| `(--[^`]+)` \|", README)]
    assert len(commands) >= 6
    for _, name, *arguments in commands:
        assert name in COMMANDS
        parser = Parser(prog=name)
        import_module(f"pyfastnn.cli.{name}").add_options(parser)
        assert parser.read(arguments) is not None


def test_readme_program_runs(tmp_path: Path) -> None:
    (program,) = blocks("python")
    out = python(program, tmp_path)
    assert out.count("epoch ") == 20
    assert float(re.findall(r"val_accuracy (\S+)", out)[-1]) > 0.95
    assert (tmp_path / "digits.safetensors").exists()


def test_readme_links_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
