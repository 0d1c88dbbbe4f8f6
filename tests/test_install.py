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
    assert {name for name in bare if name.split(".")[0] not in sys.stdlib_module_names} == {"pyfastnn"}
    rooms = {name.split(".")[1] for name in everything if name.startswith("pyfastnn.")}
    for late in ("reference", "bench", "cli", "gates", "testing", "search", "cs231n"):
        assert late not in rooms, f"{late} is loaded before anything of it is used"
    watching = {"fit_checks", "monitor", "statistics", "verdicts"}  # what a fit does by default
    assert {name.split(".")[2] for name in everything if name.startswith("pyfastnn.diagnose.")} == watching


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


FILES = """
import numpy
numpy.save("rows.npy", Xt)
labels = yt
"""
"""What the block on streams finds."""


def test_readme_programs_run(tmp_path: Path) -> None:
    first, second, gates, streams = blocks("python")  # as one program: they use the names of those before
    out = python("\n".join([first, second, gates, FILES, streams, "print(trainer.epoch)"]), tmp_path)
    assert out.count("val_accuracy") == 20
    assert float(re.findall(r"val_accuracy (\S+)", out)[-1]) > 0.95
    assert (tmp_path / "digits.safetensors").exists()
    assert "\npassed: " in out  # the gradients
    assert re.search(r"^x -+\+", out, re.MULTILINE)  # the drawing
    assert out.endswith("\n23\n")  # the digits fit into one block


def test_readme_names_exist() -> None:
    section = README.partition("## What is in it")[2].partition("\n## ")[0]
    lists = [line for line in section.splitlines() if line.startswith(("* ", "  "))]
    names = [name for line in lists for name in re.findall(r"`([A-Za-z_.0-9]+)`", line)]
    assert len(names) > 60
    known = {
        name for module in (fnn, fnn.nn, fnn.optim, fnn.data, fnn.diagnose, fnn.metrics) for name in module.__all__
    }
    known |= {"replace_head"} | {f"Trainer.{name}" for name in vars(fnn.Trainer)}
    assert [name for name in names if name not in known] == []


SHOWN = {"fine_tuning": (0, -1), "residual": (-2, -1)}
"""For each example the places of two of its percentages: what it is about makes the second one larger."""


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_and_show_what_they_say(path: Path, tmp_path: Path) -> None:
    out = python(path.read_text(encoding="utf-8"), tmp_path)
    numbers = [float(number) for number in re.findall(r"(\S+)%", out)]
    without, given = (numbers[place] for place in SHOWN[path.stem])
    assert given > max(without, 85.0)


def test_readme_links_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
