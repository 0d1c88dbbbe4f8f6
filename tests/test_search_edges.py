"""The warning that the best lies outside of a range: who gets it, and who does not."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import search
from pyfastnn.search.edges import beyond, warnings_of
from pyfastnn.search.study import Study, Trial

CASES = 2500
NOISE = 0.02


def share(n: int, low: float, high: float, name: str, cases: int = CASES) -> float:
    """Return how often an end is named when the best lies between ``low`` and ``high``: the valley of the docstring."""
    rng = np.random.default_rng([n, cases])
    found = 0
    for _ in range(cases):
        u = rng.random(n)
        found += beyond(u, -((u - rng.uniform(low, high)) ** 2) + NOISE * rng.standard_normal(n)) == name
    return found / cases


@pytest.mark.parametrize("n", [30, 60])
def test_the_best_outside_is_found(n):
    assert 1 - share(n, 1.0, 1.5, "upper") < 0.05
    assert 1 - share(n, -0.5, 0.0, "lower") < 0.05


@pytest.mark.parametrize("n", [30, 60])
def test_the_best_inside_is_left_alone(n):
    assert 1 - share(n, 0.0, 1.0, "") < 0.05


@pytest.mark.parametrize("n", [30, 60])
def test_equality_with_the_largest_tried_would_miss_many(n):
    """The simulation is the hard one: the common rule misses a third at 30 trials and half at 60."""
    rng = np.random.default_rng(n)
    missed = 0
    for _ in range(CASES):
        u = rng.random(n)
        s = -((u - rng.uniform(1.0, 1.5)) ** 2) + NOISE * rng.standard_normal(n)
        missed += u[s.argmax()] < u.max()
    assert missed / CASES > {30: 0.30, 60: 0.45}[n]


SECOND = {
    ("a valley of its own", 30): 0.22,
    ("a valley of its own", 60): 0.10,
    ("half spoiled", 30): 0.51,
    ("half spoiled", 60): 0.34,
}
"""What docs/search.md says."""


def missed_beside_another(kind: str, n: int, cases: int) -> float:
    """Return how often an edge is missed where a second parameter, ``v``, moves the score too."""
    rng = np.random.default_rng([n, 7])
    found = 0
    for _ in range(cases):
        u, v = rng.random(n), rng.random(n)
        s = -((u - rng.uniform(1.0, 1.5)) ** 2) + NOISE * rng.standard_normal(n)
        s -= (v - rng.random()) ** 2 if kind == "a valley of its own" else (v > 0.5) * rng.random(n)
        found += beyond(u, s) == "upper"
    return 1 - found / cases


@pytest.mark.parametrize(("kind", "n"), SECOND)
def test_a_second_parameter_hides_edges_as_often_as_is_said(kind, n):
    """Four standard deviations of the number of searches on either side, and half a percent for rounding."""
    said = SECOND[kind, n]
    assert abs(missed_beside_another(kind, n, CASES) - said) < 4 * np.sqrt(said * (1 - said) / CASES) + 0.005


def other(kind: str, n: int, rng: np.random.Generator):
    u = rng.random(n)
    if kind == "does not matter":
        s = np.zeros(n)
    elif kind == "plateau, then chance":
        s = 0.1 + 0.3 * (u < 0.5) * rng.random(n)
    else:
        s = np.where(u < 0.8, 0.1 + 0.4 * u, 0.1)
    return u, s + NOISE * rng.standard_normal(n)


@pytest.mark.parametrize("kind", ["does not matter", "plateau, then chance", "rises, then fails"])
@pytest.mark.parametrize("n", [30, 60])
def test_other_shapes_are_rarely_blamed(kind, n):
    """No parabolas: a plateau that ends at the edge may be blamed now and then, nothing else."""
    rng = np.random.default_rng(n)
    blamed = sum(beyond(*other(kind, n, rng)) != "" for _ in range(CASES)) / CASES
    assert blamed < {"does not matter": 0.05, "plateau, then chance": 0.15, "rises, then fails": 0.10}[kind]


def test_both_scales_and_directions_mirror():
    rng = np.random.default_rng(3)
    for _ in range(50):
        u = rng.random(40)
        s = -((u - rng.uniform(-0.5, 1.5)) ** 2) + NOISE * rng.standard_normal(40)
        mirrored = {"upper": "lower", "lower": "upper", "": ""}[beyond(u, s)]
        assert beyond(1 - u, s) == mirrored


def test_little_to_go_by_says_nothing():
    u = np.linspace(0, 1, 9)
    assert beyond(u, u) == ""
    assert beyond(np.tile([0.2, 0.5, 0.8], 10), np.tile([0.2, 0.5, 0.8], 10)) == ""
    assert beyond(np.linspace(0, 1, 10), np.zeros(10)) == ""


@pytest.mark.parametrize(("u", "s"), [([0.1, 0.2], [1.0]), ([[0.1]], [[1.0]]), ([np.nan], [1.0]), ([0.5], [np.inf])])
def test_bad_numbers_are_refused(u, s):
    with pytest.raises(ValueError, match="beyond: 'positions'"):
        beyond(u, s)


def planted(space, score, n=40, *, maximize=True) -> Study:
    study = Study(space)
    study.maximize = maximize
    rng = np.random.default_rng(0)
    for k in range(n):
        params = {name: part.draw(rng) for name, part in space.items()}
        study.trials.append(Trial(k, 0, params, 0, score(params)))
    return study


@pytest.mark.parametrize("maximize", [True, False])
def test_words_name_the_parameter_the_edge_and_a_wider_range(maximize):
    sign = 1 if maximize else -1
    space = {"learning_rate": search.log_uniform(1e-6, 1e-3), "decay": search.uniform(0.0, 1.0)}
    study = planted(space, lambda p: sign * (np.log10(p["learning_rate"]) + 0.01 * p["decay"] ** 2), maximize=maximize)
    found = warnings_of(study)
    best = study.best.params["learning_rate"]
    wider = "log_uniform(1e-06, 0.01)"
    assert found == [f"best learning_rate {best:.3g} lies at the upper edge 0.001: widen it to {wider}"]


def test_a_lower_edge_of_whole_numbers():
    space = {"width": search.integers(8, 64)}
    found = warnings_of(planted(space, lambda p: -float(p["width"])))
    assert len(found) == 1
    assert "lies at the lower edge 8: widen it to integers(1, 64)" in found[0]


def test_what_ends_at_zero_is_not_blamed_there():
    space = {"dropout": search.uniform(0.0, 0.8), "layers": search.integers(1, 20)}
    assert warnings_of(planted(space, lambda p: -p["dropout"])) == []
    assert warnings_of(planted(space, lambda p: -float(p["layers"]))) == []


def test_choices_and_failed_trials_are_left_out():
    space = {"name": search.choice(["a", "b"]), "x": search.uniform(0, 1)}
    study = planted(space, lambda p: float("nan") if p["x"] > 0.5 else 1.0)
    assert warnings_of(study) == []
    assert warnings_of(Study(space)) == []


def test_only_declared_edges_of_a_finer_range_count():
    space = {"x": search.uniform(0, 1)}
    for low, high, count in ((0.5, 1.0, 1), (0.2, 0.8, 0)):
        study = planted({"x": search.uniform(low, high)}, lambda p: p["x"])
        study.spaces.insert(0, space)
        for trial in study.trials:
            trial.stage = 1
        assert len(warnings_of(study)) == count


def test_a_grid_is_at_the_edge_when_its_best_is():
    space = {"x": search.log_uniform(1e-3, 1e3), "y": search.uniform(0, 1)}
    study = Study(space)
    for k, (x, y) in enumerate((x, y) for x in space["x"].points(5) for y in space["y"].points(3)):
        study.trials.append(Trial(k, 0, {"x": x, "y": y}, 0, np.log(x) - (y - 0.5) ** 2))
    found = warnings_of(study, grid=True)
    assert found == ["best x 1e+03 lies at the upper edge 1000: widen it to log_uniform(0.001, 10000)"]
    study.trials.append(Trial(15, 0, {"x": 1.0, "y": 0.5}, 0, study.best.score))
    assert warnings_of(study, grid=True) == []
