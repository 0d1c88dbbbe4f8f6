"""The lectures' experiments in short form: each prints its numbers beside the published ones, with and without matplotlib."""

from __future__ import annotations

import functools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "lecture.md"
SCRIPTS = sorted((ROOT / "examples" / "lecture").glob("[0-9][0-9]_*.py"))
Rows = list[tuple[str, list[str]]]


def run(path: Path, *arguments: str, matplotlib: bool) -> subprocess.CompletedProcess[str]:
    """Run a script as ``python path ...`` does, if wanted as where matplotlib is not installed."""
    code = (
        f"import runpy, sys; sys.argv = {[str(path), *arguments]!r}; sys.path[0] = {str(path.parent)!r}; "
        + ("" if matplotlib else "sys.modules['matplotlib'] = None; ")
        + "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=600, check=False)


@functools.cache
def printed(path: Path) -> str:
    """Return what a script prints in short form, without matplotlib; it runs once for all tests."""
    done = run(path, "--short", matplotlib=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(text: str) -> Rows:
    """Return the rows of tables: the name, and the cells beside it."""
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    return [(name, others) for name, *others in cells if others]


def column(table: Rows, place: int = 0) -> dict[str, str]:
    """Return one cell of every row by the row's name."""
    return {name: cells[place] for name, cells in table if len(cells) > place}


def number(cell: str) -> float:
    """Return the first number of a cell; of a share the part of 1."""
    found = re.search(r"[-+]?[\d.]+(e[-+]?\d+)?", cell)
    assert found is not None, cell
    return float(found[0]) / (100.0 if cell[found.end() :].startswith("%") else 1.0)


def activations(table: Rows) -> None:
    for name in ("sigmoid", "tanh", "ReLU", "leaky ReLU", "ELU"):
        cells = dict(table)[name]
        assert cells[6] == cells[7], name
    ours = column(table)
    assert [dict(table)["sigmoid"][k] for k in (3, 4, 5)] == ["4.54e-05", "0.25", "4.54e-05"]
    assert ours["inputs 0 to 1: steps whose gradients have one sign"] == "100%"
    assert number(ours["inputs -0.5 to 0.5: steps whose gradients have one sign"]) < 0.8
    assert number(ours["inputs 0 to 1: steps to the goal"]) > number(ours["inputs -0.5 to 0.5: steps to the goal"])
    assert " at " in ours["ReLU: epochs until 25% wrong"]
    assert ours["Sigmoid: epochs until 25% wrong"].startswith("over")


def preprocessing(table: Rows) -> None:
    cells = dict(table)
    assert [cells[name][0] for name in ("centered", "normalized", "decorrelated", "whitened")] == ["(0.00, 0.00)"] * 4
    assert [cells[name][1] for name in ("normalized", "whitened")] == ["(1.00, 1.00)"] * 2
    assert [cells[name][2] for name in ("decorrelated", "whitened")] == ["0.00"] * 2
    assert cells["original"][2] == cells["normalized"][2] != "0.00"
    assert number(column(table)["variance on 32 of 64 axes"]) > 0.9


def initialization(table: Rows) -> None:
    # How far one draw lies from the mean is known from the 20 draws of the page; the mean of 2 and the published draw both vary.
    page = PAGE.read_text(encoding="utf-8").partition("## 3.")[2].partition("\n## ")[0]
    spread = {name: number(cell) for name, cell in column(rows(page), 3).items() if "layer" in name}
    found = [(name, cells) for name, cells in table if "layer" in name]
    assert len(found) == 14
    for name, (ours, _, published, _) in found:
        assert abs(float(ours) - float(published)) <= 5.0 * spread[name] * 1.5**0.5 + 1e-6, name


def batch_norm(table: Rows) -> None:
    ours = column(table)
    assert number(ours["largest rate over that without"]) >= 5.0
    smallest = [number(ours[f"{name}: first weights that work"]) for name in ("without", "with batch norm")]
    assert smallest[1] <= smallest[0] / 5.0
    assert number(ours["training: scores of a row in two batches differ by"]) > 0.01
    assert number(ours["testing: alone and in a batch they differ by"]) == 0.0
    assert number(ours["gamma and the deviation differ by"]) < 0.01
    assert number(ours["beta and the mean differ by"]) < 0.01
    assert number(ours["error of the identity"]) < 1e-4


def first_loss(table: Rows) -> None:
    plain, penalized = dict(table)["reg 0"], dict(table)["reg 1000"]
    assert abs(number(plain[0]) - number(plain[-1])) <= 1e-4  # scores of weights of 1e-4 are nearly 0
    # Of 3 draws, whose deviations are estimated from as few: ten times the formula's own spread, 0.0185 * sqrt(2 / 3700).
    assert abs(number(penalized[0]) - number(penalized[-1])) <= 10 * 0.0185 * (2 / 3700) ** 0.5
    for classes in ("2", "5", "10", "100", "1000"):
        assert number(dict(table)[classes][0]) == pytest.approx(math.log(int(classes)), abs=1e-3)


def overfit(table: Rows) -> None:
    ours = column(table)
    assert number(ours["cost, epoch 1"]) == pytest.approx(math.log(10), abs=1e-3)
    assert number(ours["cost, epoch 200, largest"]) < 0.01
    assert number(ours["accuracy, lowest"]) == 1.0
    assert number(ours["cost with pixels from 0 to 1"]) > 2.2


def learning_rates(table: Rows) -> None:
    low, high = [cells for name, cells in table if name == "1"]
    last_low, last_high = [cells for name, cells in table if name == "10"]
    assert abs(number(last_low[0]) - number(low[0])) < 0.01  # barely moves
    assert number(last_low[2]) > number(low[2]) + 0.03  # though the accuracy rises
    assert number(high[0]) < math.log(10)  # learns
    assert number(last_high[0]) > 3 * math.log(10)  # and explodes
    assert high[4] == high[5] and last_high[5] == "inf" and last_high[4] != "inf"


def coarse_to_fine(table: Rows) -> None:
    coarse, fine = [number(cells[0]) for name, cells in table if name == "best validation accuracy"]
    assert fine >= coarse > 0.8


def random_or_grid(table: Rows) -> None:
    assert dict(table)["rates tried by a grid"] == ["3", "3"]
    assert dict(table)["rates tried at random"] == ["9", "9"]
    assert number(dict(table)["random"][0]) > 0.9 and number(dict(table)["grid"][0]) > 0.9


def update_ratio(table: Rows) -> None:
    ratios = {name: number(cells[0]) for name, cells in table if len(cells) == 4 and name != "rate"}
    assert list(ratios.values()) == sorted(ratios.values()) and len(ratios) == 6
    accuracies = [number(cells[3]) for name, cells in table if name in ratios]
    assert max(accuracies) > 0.85 and accuracies[0] < 0.2


def convolution(table: Rows) -> None:
    sizes = [(name, cells) for name, cells in table if len(cells) == 5 and "x" in cells[0]]
    assert len(sizes) == 10
    for name, (_, ours, published, weights, of_theirs) in sizes:
        assert ours == published or name == "3x3, stride 3", name
        assert of_theirs in ("-", weights), name
    ours, by_hand = dict(table)["map 3 at (10, 20)"]
    assert float(ours) == pytest.approx(float(by_hand), rel=2e-5)  # six digits are printed
    assert dict(table)["max pool of the lecture's 4 x 4"] == ["[[6, 8], [3, 4]]"] * 2


def gates(table: Rows) -> None:
    compared = [(name, cells) for name, cells in table if name.startswith(("gradient of", "f =", "a neuron", "with a"))]
    compared = [(name, cells) for name, cells in compared if len(cells) == 2]
    assert len(compared) == 5 + 19
    for name, (ours, published) in compared:
        for a, b in zip(ours.split(), published.split(), strict=True):
            assert abs(float(a) - float(b)) <= 0.0105, (
                name
            )  # the lecture rounds to two digits on the way, ours are printed with three
    of_gates, of_layers = dict(table)["a net on the digits, accuracy"]
    assert of_gates == of_layers


def ensembles(table: Rows) -> None:
    ours = column(table)
    assert number(ours["one of 8 nets"]) > 0.85
    assert number(ours["all 8 together"]) > number(ours["one of 8 nets"]) - 0.01
    assert number(ours["8 or 9: a new head on frozen layers"]) > 0.6
    assert number(ours["8 or 9: then all layers, slowly"]) > number(ours["8 or 9: a new head on frozen layers"])


SHOWS: dict[str, Callable[[Rows], None]] = {
    "01_activations": activations,
    "02_preprocessing": preprocessing,
    "03_initialization": initialization,
    "04_batch_norm": batch_norm,
    "05_first_loss": first_loss,
    "06_overfit": overfit,
    "07_learning_rates": learning_rates,
    "08_coarse_to_fine": coarse_to_fine,
    "08_random_or_grid": random_or_grid,
    "09_update_ratio": update_ratio,
    "10_convolution": convolution,
    "11_gates": gates,
    "12_ensembles": ensembles,
}
"""What the numbers of a script must be."""


def parametrized(paths: Iterable[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def test_every_check_has_its_script() -> None:
    assert set(SHOWS) <= {path.stem for path in SCRIPTS}


@parametrized(SCRIPTS)
def test_prints_its_numbers_beside_the_published_ones(path: Path) -> None:
    text = printed(path)
    assert re.search(r"\bours\b.* published", text)
    assert any(len(cells) >= 2 and re.search(r"\d", cells[-1]) for _, cells in rows(text))
    if path.stem in SHOWS:
        SHOWS[path.stem](rows(text))


@parametrized(SCRIPTS)
def test_draws_its_picture(path: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    done = run(path, "--short", "-o", str(picture), matplotlib=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"picture: {picture}" in done.stdout
    drawn = ET.parse(picture).getroot()
    assert drawn.tag.endswith("svg") and len(list(drawn.iter())) > 50


def test_picture_without_matplotlib_names_the_extra(tmp_path: Path) -> None:
    done = run(SCRIPTS[0], "--short", "-o", str(tmp_path / "picture.svg"), matplotlib=False)
    assert done.returncode == 2
    assert "pip install pyfastnn[plot]" in done.stderr


@parametrized(SCRIPTS)
def test_stands_on_the_page(path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition(f"## {int(path.stem[:2])}. ")[2].partition("\n## ")[0]
    assert path.name in section
    pictures = re.findall(r"\]\((lecture/[^)]+)\)", section)
    assert pictures
    if (ROOT / "PKG-INFO").exists():
        pytest.skip("a source distribution has no pictures")
    for picture in pictures:
        assert (PAGE.parent / picture).stat().st_size < 150_000, picture
