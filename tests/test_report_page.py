"""The page of a report: it needs nothing else, takes no name for markup, stays small, and holds what was recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, optim
from pyfastnn.cli import main
from pyfastnn.diagnose import Monitor
from pyfastnn.report import read_run, write_report
from pyfastnn.report.page import Report, follow
from pyfastnn.report.page_data import MISSING, codes, curve, extremes, packed, strips
from pyfastnn.report.page_search import declared_range, overview
from pyfastnn.report.runs import Run
from pyfastnn.search import integers, log_uniform, uniform
from pyfastnn.testing import rng_of
from pyfastnn.testing.runs import HOSTILE, write_runs

MEGABYTE = 1_000_000


class Page(HTMLParser):
    """A page as a browser takes it apart: its elements in order, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(attrs)))
        self._open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_data(self, text):
        if self._open:
            self.texts[self._open][-1] += text

    def handle_endtag(self, tag):
        self._open = ""

    @property
    def data(self):
        return json.loads(self.texts["script"][0])


def page_of(*folders: Path, **settings) -> tuple[str, Page]:
    report = Report(folders, **settings)
    report.look()
    text = report.html()
    return text, Page(text)


def test_the_page_needs_nothing_else(tmp_path):
    """No address but the name space of SVG, no element that loads, and a policy that lets in the page's own script and style alone."""
    write_runs(tmp_path, 3, 5)
    text, page = page_of(tmp_path)
    assert text.isascii()
    assert {part for part in text.split("'") if "://" in part} == {"http://www.w3.org/2000/svg"}
    assert not {tag for tag, _ in page.elements} & {"link", "img", "iframe", "object", "embed", "base", "source"}
    assert not {name for _, attributes in page.elements for name, _ in attributes} & {"src", "href", "style", "onclick"}
    policy = dict(page.elements[[tag for tag, _ in page.elements].index("meta") + 2][1])["content"]
    for kind, content in (("script", page.texts["script"][1]), ("style", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")


def test_no_name_becomes_markup(tmp_path):
    """A page with hostile names has the elements of one with harmless names, and hands on every name as it is."""
    for folder in ("good", "bad"):
        (tmp_path / folder).mkdir()
    write_runs(tmp_path / "good", len(HOSTILE), 4)
    write_runs(tmp_path / "bad", len(HOSTILE), 4, names=HOSTILE)
    _, good = page_of(tmp_path / "good", title="t")
    text, bad = page_of(tmp_path / "bad", title=HOSTILE[0])
    assert [tag for tag, _ in bad.elements] == [tag for tag, _ in good.elements]
    assert text.count("<script") == 2
    assert bad.texts["title"] == [HOSTILE[0]]
    assert {run["name"] for run in bad.data["runs"]} == {name.replace("/", "\u2044") for name in HOSTILE}
    by_name = {run["name"]: run for run in bad.data["runs"]}
    assert by_name["__proto__"]["params"][HOSTILE[0]] == "__proto__"
    assert any(HOSTILE[0] in run["ratios"][0]["name"] for run in bad.data["runs"])


def test_the_scripts_write_no_markup():
    """Text reaches the page as text: what parses markup or code is not used."""
    folder = Path(fnn.__file__).parent / "report"
    scripts = sorted(folder.glob("page*.js"))
    assert len(scripts) >= 5
    for script in scripts:
        source = script.read_text("ascii")
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "DOMParser",
            "fetch(",
        ):
            assert word not in source, f"{script.name}: {word}"


def test_size(tmp_path):
    """200 runs of 1000 epochs and five layers are under 5 MB; more runs do not make it grow without end."""
    write_runs(tmp_path, 200, 1000, watched=60, layers=5)
    size = len(page_of(tmp_path)[0])
    assert MEGABYTE < size < 5 * MEGABYTE


def test_many_runs_have_fewer_points(tmp_path):
    write_runs(tmp_path, 1, 1000)
    run = read_run(tmp_path / "trial-0")
    few, many = (packed(run, "a", count)["curves"]["loss"]["codes"] for count in (200, 1000))
    assert len(base64.b64decode(few)) == 2000
    assert len(base64.b64decode(many)) == 2 * 204
    assert packed(run, "a", 10**6)["curves"]["loss"]["rows"] == 1000


def test_what_the_page_holds(tmp_path):
    """A trained run: the last row exactly, curves within half a code, verdicts, layers."""
    rng = rng_of("report_page")
    X = rng.standard_normal((96, 5)).astype("f4")
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(2)), monitor=Monitor(every=3))
    y = (X[:, 0] > 0).astype(int)
    trainer.fit(X, y, X_val=X[:30], y_val=y[:30], epochs=7, run_dir=tmp_path / "a", verbose=0)
    (run,) = page_of(tmp_path)[1].data["runs"]
    assert (run["name"], run["status"], run["epochs"], run["planned"]) == ("a", "finished", 7, 7)
    assert run["last"] == trainer.history.rows[-1]
    assert run["params"] == {"learning_rate": 0.001, "weight_decay": 0.0, "batch_size": 32}
    assert run["network"] == {"layers": [repr(layer) for layer in trainer.model.layers.values()], "parameters": 66}
    for key, packed_curve in run["curves"].items():
        found = decoded(packed_curve)
        wanted = trainer.history[key]
        span = math.log(max(wanted) / min(wanted)) if packed_curve["log"] else max(wanted) - min(wanted)
        error = np.abs(np.log(found / wanted) if packed_curve["log"] else found - wanted)
        assert error.max() <= span / (2 * (MISSING - 1)) + 1e-12, key
    assert [ratio["name"] for ratio in run["ratios"]] == ["linear_1.w", "linear_2.w"]
    assert [layer["name"] for layer in run["histograms"]] == ["relu_1"]
    assert run["span"] == [1.0, 7.0]
    last = trainer.history.statistics[-1]["layers"]
    assert run["ratios"][0]["last"] == last["linear_1.w"]["update_ratio"]
    assert run["histograms"][0]["dead"] == last["relu_1"]["dead"]


def decoded(packed_curve):
    """What the page makes of a curve, written down a second time."""
    found = np.frombuffer(base64.b64decode(packed_curve["codes"]), "<u2").astype(float)
    found[found == MISSING] = np.nan
    low, high = packed_curve["low"], packed_curve["high"]
    if packed_curve["log"]:
        return low * (high / low) ** (found / (MISSING - 1))
    return low + found / (MISSING - 1) * (high - low)


@pytest.mark.parametrize("count", [64, 65, 1000, 4097])
def test_extremes_keep_the_ink_of_every_column(count):
    """Least and largest of each column, in their order; NaN is left out."""
    values = rng_of("extremes", count).standard_normal(count)
    values[::7] = np.nan
    values[5 * count // 64 : 6 * count // 64] = np.nan
    columns = 64
    found = extremes(values, columns).reshape(columns, 2)
    rows = [[i for i in range(count) if i * columns // count == column] for column in range(columns)]
    assert sum(map(len, rows)) == count
    for column, of in enumerate(rows):
        known = [i for i in of if not math.isnan(values[i])]
        if not known:
            assert np.isnan(found[column]).all()
            continue
        by_value = sorted(known, key=lambda i: values[i])
        ends = sorted([by_value[0], by_value[-1]])
        assert found[column].tolist() == values[ends].tolist()


def test_codes_at_the_ends():
    assert codes(np.array([1.0, 2.0, np.nan, np.inf, 3.0]), 1.0, 3.0, False).tolist() == [
        0,
        32767,
        MISSING,
        MISSING,
        65534,
    ]
    assert codes(np.array([1e-8, 1e-4, 0.0, 1.0]), 1e-8, 1.0, True).tolist() == [0, 32767, MISSING, 65534]
    assert codes(np.array([5.0, np.nan]), 5.0, 5.0, False).tolist() == [0, MISSING]
    widest = np.array([-1.7e308, 0.0, 1.7e308])
    assert codes(widest, widest[0], widest[2], False).tolist() == [0, 32767, 65534]


def test_a_curve_of_nothing_is_none():
    assert curve(Run(Path(), {}, [{"epoch": 1, "loss": math.nan}]), "loss", 100) is None
    assert curve(Run(Path(), {}, []), "loss", 100) is None


def test_strips_show_the_worst_ratio():
    """Of the steps of a column the one farthest from 1e-3; an update of 0 is the smallest there is."""
    rows = [{"step": 50 * (k + 1), "layers": {"w": {"update_ratio": 1e-3}}} for k in range(256)]
    rows[0]["layers"]["w"]["update_ratio"] = math.nan
    rows[1]["layers"]["w"]["update_ratio"] = 0.0
    rows[5]["layers"]["w"]["update_ratio"] = 1.0
    rows[7]["layers"]["w"]["update_ratio"] = 1e-9
    found = strips(rows, 100.0, 10**6)
    shown = list(base64.b64decode(found["ratios"][0]["codes"]))
    assert shown[:5] == [1, 128, 255, 1, 128]
    assert len(shown) == 128
    assert found["span"] == [0.5, 128.0]


def test_histograms_are_not_pressed_flat_by_one_step():
    rows = []
    for k in range(100):
        most = 1e20 if k == 40 else 2.0
        rows.append({"step": k + 1, "layers": {"relu": {"min": 0.0, "max": most, "histogram": [3, 0, 6]}}})
    (found,) = strips(rows, 1.0, 10**6)["histograms"]
    assert (found["low"], found["high"]) == (0.0, 4.0)
    heights = np.frombuffer(base64.b64decode(found["heights"]), np.uint8).reshape(-1, 3)
    assert heights[0].tolist() == [128, 0, 255]
    assert len(heights) == 100


def test_strips_of_many_layers_keep_to_the_budget():
    layers = {f"relu_{k}": {"min": 0.0, "max": 1.0, "histogram": [1] * 24} for k in range(40)}
    rows = [{"step": k + 1, "layers": layers} for k in range(500)]
    found = strips(rows, 1.0, 40 * 28 * 20)["histograms"]
    assert len(found) == 40
    assert {len(base64.b64decode(layer["heights"])) for layer in found} == {20 * 24}


# Searches


@pytest.mark.parametrize(
    "part", [log_uniform(1e-5, 0.1), uniform(-1.5, 2), integers(1, 64), integers(16, 512, log=True), uniform(0, 1e9)]
)
def test_declared_ranges_are_read_from_their_text(part):
    assert declared_range(str(part)) == part


@pytest.mark.parametrize(
    "text", ["choice([1, 2])", "", None, 3, "uniform(2, 1)", "log_uniform(0, 1)", "uniform(a, b)", "uniform(0, nan)"]
)
def test_other_texts_are_no_ranges(text):
    assert declared_range(text) is None


def row(score, **params):
    return {"last": {"val_accuracy": score}, "params": params}


def test_overview_of_a_search():
    """Parameters that differ, the declared ends, the best; a failed trial has no score."""
    space = {"lr": "log_uniform(1e-06, 0.001)"}
    rows = [
        row(0.3, lr=1e-5, act="relu", same=1),
        row(0.5, lr=1e-4, act="tanh", same=1),
        row(None, lr=1e-3, act="relu", same=1),
    ]
    found = overview(rows, [space] * 3)
    assert (found["score"], found["higher"], found["best"], found["scores"]) == (
        "val_accuracy",
        True,
        1,
        [0.3, 0.5, None],
    )
    assert found["params"] == [
        {"name": "lr", "low": 1e-6, "high": 1e-3, "log": True, "declared": True},
        {"name": "act", "values": ["relu", "tanh"], "at": [0, 1, 0]},
    ]
    assert found["edges"] == []
    alone = overview([{"last": {"loss": 2.0}, "params": {}}, {"last": {"loss": 1.0}, "params": {}}], [{}, {}])
    assert (alone["score"], alone["higher"], alone["best"], alone["params"]) == ("loss", False, 1, [])
    assert overview([], [])["best"] is None


@pytest.mark.parametrize(("peak", "said"), [(0.3, False), (1.3, True)])
def test_the_best_at_an_end_is_said(peak, said):
    """The lectures' case: the rate rises to the end of its range."""
    space = {"lr": "log_uniform(1e-06, 0.001)"}
    places = np.linspace(0.01, 0.99, 40)
    rows = [row(1 - (u - peak) ** 2, lr=1e-6 * 1000**u) for u in places]
    found = overview(rows, [space] * 40)["edges"]
    assert len(found) == said
    if said:
        assert found[0].startswith(
            "best lr 0.000933 lies at the upper edge 0.001: widen it to log_uniform(1e-06, 0.01)"
        )


def test_the_page_says_what_the_search_says(tmp_path):
    """A real search whose range ends too early: the same warning, the same scores, the same best."""
    rng = rng_of("report_search")
    X = rng.standard_normal((300, 6)).astype("f4")
    y = X @ rng.standard_normal(6)

    def build(learning_rate):
        optimizer = optim.SGD(learning_rate)
        return fnn.Trainer(nn.Sequential(nn.Linear(1, init="zeros")), "mean_squared_error", optimizer, monitor=None)

    space = {"learning_rate": log_uniform(1e-6, 1e-3)}
    settings = {"X_val": X[200:], "y_val": y[200:], "trials": 30, "epochs": 3, "verbose": 0, "run_dir": tmp_path / "s"}
    study = fnn.search.random(build, space, X[:200], y[:200], **settings)
    data = page_of(tmp_path / "s")[1].data
    found = data["search"]
    assert len(study.warnings) == 1
    assert found["edges"] == study.warnings
    assert (found["score"], found["scores"]) == ("val_loss", [trial.score for trial in study.trials])
    assert found["best"] == study.best.number
    assert [run["params"] for run in data["runs"]] == [trial.params for trial in study.trials]
    assert found["params"] == [{"name": "learning_rate", "low": 1e-6, "high": 1e-3, "log": True, "declared": True}]


# Writing and following


def test_write_report(tmp_path):
    write_runs(tmp_path, 3, 4)
    assert fnn.report.write_report(tmp_path, tmp_path / "page.html") == 3
    page = Page((tmp_path / "page.html").read_text("ascii"))
    assert [run["name"] for run in page.data["runs"]] == ["trial-0", "trial-1", "trial-2"]
    assert page.texts["title"] == [str(tmp_path)]
    assert page.data["reload"] == 0


def test_a_damaged_run_is_named(tmp_path):
    write_runs(tmp_path, 3, 4)
    (tmp_path / "trial-1" / "config.json").write_text("{")
    assert write_report([tmp_path], tmp_path / "page.html") == 2
    data = Page((tmp_path / "page.html").read_text("ascii")).data
    assert len(data["runs"]) == 2
    assert data["unread"][0].startswith("trial-1: ")


def test_a_whole_number_that_no_float_holds_is_a_name(tmp_path):
    runs = [packed(Run(tmp_path, {"params": {"key": value}}), "a", 2) for value in (10**400, 3, -(10**400))]
    assert [run["params"]["key"] for run in runs] == [str(10**400), 3, str(-(10**400))]
    (axis,) = overview(runs, [{}, {}, {}])["params"]
    assert axis["values"] == [str(10**400), "3", str(-(10**400))]


def test_no_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        write_report(tmp_path, tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_report(tmp_path / "none", tmp_path / "page.html")
    for runs in (3, [3]):
        with pytest.raises(TypeError, match="write_report: 3 is no path"):
            write_report(runs, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_following(tmp_path, monkeypatch):
    """Each look that finds news writes the page; the last one does not load itself anew."""
    path = tmp_path / "page.html"
    (tmp_path / "runs").mkdir()
    report, seen, said = Report([tmp_path / "runs"]), [], []
    mine = "untouched where nothing is new"

    def wait(seconds):
        if len(seen) == 2:
            assert path.read_text() == mine
            raise KeyboardInterrupt
        seen.append((seconds, Page(path.read_text("ascii")).data))
        if len(seen) == 1:
            write_runs(tmp_path / "runs", 2, 3)
        else:
            path.write_text(mine)

    monkeypatch.setattr("time.sleep", wait)
    follow(report, path, 7.0, said.append)
    assert [(s, len(d["runs"]), d["reload"]) for s, d in seen] == [(7.0, 0, 7.0), (7.0, 2, 7.0)]
    assert said == ["0 runs, 0 running", "2 runs, 0 running"]
    data = Page(path.read_text("ascii")).data
    assert (len(data["runs"]), data["reload"]) == (2, 0)


def test_followed_runs_come_further(tmp_path):
    """A run that is being written is read anew; one that has ended is not, unless its files change."""
    write_runs(tmp_path, 2, 3)
    report = Report([tmp_path])
    assert report.look()
    assert not report.look()
    history = tmp_path / "trial-1" / "history.jsonl"
    history.write_text(history.read_text() + '{"kind": "epoch", "epoch": 4, "loss": 0.5}\n')
    assert report.look()
    assert [run["epochs"] for run in Page(report.html()).data["runs"]] == [3, 4]


def test_names_are_paths_below_what_runs_share(tmp_path):
    for folder in ("coarse", "fine"):
        (tmp_path / folder).mkdir()
        write_runs(tmp_path / folder, 1, 2)
    assert [run["name"] for run in page_of(tmp_path)[1].data["runs"]] == ["coarse/trial-0", "fine/trial-0"]
    assert [run["name"] for run in page_of(tmp_path / "fine")[1].data["runs"]] == ["trial-0"]


# The command line


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--epochs", "2", "--run-dir", "runs/a", "--verbose", "0"]) == 0
    assert read_run("runs/a").status == "finished"
    assert main(["report", "runs"]) == 0
    assert capsys.readouterr().out.endswith("written to report.html (1 run)\n")
    (run,) = Page(Path("report.html").read_text("ascii")).data["runs"]
    assert (run["name"], run["epochs"]) == ("a", 2)


def test_command_live(tmp_path, capsys, monkeypatch):
    write_runs(tmp_path, 2, 3)

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", stop)
    assert main(["report", str(tmp_path), "--live", "-o", str(tmp_path / "p.html")]) == 0
    assert "2 runs, 0 running" in capsys.readouterr().out
    assert Page((tmp_path / "p.html").read_text("ascii")).data["reload"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder 'nowhere'"),
        (["."], "there is no run in .: no folder has a readable config.json"),
        ([".", "-o", "no/page.html"], "--output: there is no folder"),
        ([".", "--every", "3"], "--every has no meaning without --live"),
    ],
)
def test_command_refuses(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
