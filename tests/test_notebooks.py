"""What models, histories, studies and the preflight report show in a notebook."""

from __future__ import annotations

import html.parser
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn, search
from pyfastnn.diagnose.sanity import Check, Preflight
from pyfastnn.report.html import paragraph, table
from pyfastnn.report.small_curves import small_curves
from pyfastnn.search.study import Study, Trial
from pyfastnn.train.history import SHOWN

EVIL = """<script>alert("1")</script>&amp;'"""
TAGS = {"div", "p", "table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "title", "path", "circle", "text"}
SVG = "{http://www.w3.org/2000/svg}"
RNG = np.random.default_rng(2)
X, Y = RNG.standard_normal((60, 4)).astype(np.float32), RNG.integers(0, 2, 60)


class Reader(html.parser.HTMLParser):
    """Takes a page apart: rows of cells, captions and paragraphs; refuses other tags than ours and tags left open."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.kinds: list[str | None] = []
        self.captions: list[str] = []
        self.paragraphs: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, tag
        assert not any(name.startswith("on") for name, _ in attributes)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.kinds.append(dict(attributes).get("class"))
        for name, kept in (("caption", self.captions), ("p", self.paragraphs)):
            if tag == name:
                kept.append("")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert tag in TAGS, tag

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        inner = self.open[-1]
        if inner in ("td", "th"):
            self.rows[-1][-1] += data
        elif inner == "caption":
            self.captions[-1] += data
        elif inner == "p":
            self.paragraphs[-1] += data


def drawings(page):
    """Return the SVG elements of a page, each read as XML."""
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def texts(drawing):
    return [element.text for element in drawing.iter(f"{SVG}text")]


def points(drawing):
    """Return the corners of each curve, which alone are not filled, and the dots."""
    lines = [p.get("d") for p in drawing.iter(f"{SVG}path") if p.get("fill") == "none"]
    pieces = [[corner(c) for c in piece.split("L")] for line in lines for piece in line.split("M")[1:]]
    return pieces, [(float(c.get("cx")), float(c.get("cy"))) for c in drawing.iter(f"{SVG}circle")]


def corner(text):
    x, y = text.split(" ")
    return float(x), float(y)


def history_of(**columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return fnn.History([{"epoch": place, **row} for place, row in enumerate(rows, start=1)])


# Tables


def test_text_stays_text():
    page = table([EVIL, "b"], [[EVIL, "1"]], caption=EVIL, kinds=['x" onclick="y']) + paragraph(EVIL)
    found = Reader(page)
    assert found.rows == [[EVIL, "b"], [EVIL, "1"]]
    assert found.kinds == [None, 'x" onclick="y']
    assert (found.captions, found.paragraphs) == ([EVIL], [EVIL])


def test_a_table_has_a_kind_for_every_row():
    with pytest.raises(ValueError, match="zip"):
        table(["a"], [["1"], ["2"]], kinds=["ok"])


def test_preflight():
    checks = (Check(EVIL, "1", "2", "failed", EVIL), Check("c", "3", "3", "ok"))
    found = Reader(Preflight(checks)._repr_html_())
    assert found.rows[1:] == [[EVIL, "1", "2", "failed", EVIL], ["c", "3", "3", "ok", ""]]
    assert found.kinds == [None, "failed", "ok"]
    assert found.captions == ["FAILED: 1 ok, 1 failed"]


# Models


@pytest.mark.parametrize("built", [True, False])
def test_a_model_shows_its_summary(built):
    model = nn.Sequential(nn.Linear(5), nn.ReLU(), nn.Linear(2))
    if built:
        model.build((4,))
        model.freeze("linear_1")
    found = Reader(model._repr_html_())
    printed = model.summary().splitlines()
    assert [re.split(r"  +", line) for line in printed[:-1]] == found.rows
    assert found.captions == [printed[-1]] == [f"total parameters: {37 if built else 0}"]
    assert found.rows[1] == [
        "linear_1",
        repr(model.layers["linear_1"]),
        *(["(5,)", "25 (frozen)"] if built else ["?", "0"]),
    ]


def test_a_layer_of_the_user_is_escaped():
    class Evil(nn.ReLU):
        def __repr__(self):
            return EVIL

    model = nn.Sequential(nn.Linear(2), Evil())
    assert Reader(model._repr_html_()).rows[2][1] == EVIL


# Histories


def test_a_history_shows_curves_and_its_last_rows():
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(2)), optimizer=fnn.optim.Adam(0.1))
    history = trainer.fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:], epochs=SHOWN + 2, verbose=0)
    page = history._repr_html_()
    found = Reader(page)
    printed = [line.split() for line in repr(history).splitlines()]
    assert found.rows == [printed[0], *printed[-SHOWN:]]
    assert found.captions == [f"{SHOWN + 2} epochs (finished), the last {SHOWN}:"]
    loss, accuracy = drawings(page)
    assert texts(loss)[0] == "loss"
    assert texts(accuracy)[0] == "accuracy"
    assert f"training {history['loss'][-1]:.3g}" in texts(loss)
    assert f"validation {100 * history['val_accuracy'][-1]:.1f} %" in texts(accuracy)
    both = history["loss"] + history["val_loss"]
    assert {f"{min(both):.3g}", f"{max(both):.3g}", "1", str(SHOWN + 2)} <= set(texts(loss))
    for name, drawing in (("loss", loss), ("accuracy", accuracy)):
        (train, validation), dots = points(drawing)
        assert dots == []
        assert_drawn(train, history[name], [*history[name], *history[f"val_{name}"]])
        assert_drawn(validation, history[f"val_{name}"], [*history[name], *history[f"val_{name}"]])


def assert_drawn(corners, values, among):
    """Heights are linear in the values, from 166 for the least to 40 for the greatest, written with one decimal."""
    low, high = min(among), max(among)
    want = [166 - 126 * (v - low) / (high - low) for v in values]
    np.testing.assert_allclose([y for _, y in corners], want, rtol=0, atol=0.051)
    np.testing.assert_allclose([x for x, _ in corners], np.linspace(62, 308, len(values)), rtol=0, atol=0.051)


def test_short_histories():
    assert fnn.History()._repr_html_() == "<p>History(no epochs yet)</p>"
    one = history_of(loss=[0.25])
    page = one._repr_html_()
    assert Reader(page).captions == ["1 epoch"]
    (drawing,) = drawings(page)
    assert points(drawing) == ([], [(185.0, 103.0)])
    assert texts(drawing) == ["loss", "0.25", "epoch", "1", "training 0.25"]
    assert drawings(history_of(penalty=[1.0, 2.0])._repr_html_()) == []
    assert texts(drawings(history_of(val_accuracy=[0.5, 1.0])._repr_html_())[0])[-1] == "validation 100.0 %"


def test_values_that_are_not_finite_leave_gaps():
    values = [1.0, math.nan, 3.0, 2.0, math.inf, -math.inf, 1.0]
    (drawing,) = drawings(small_curves(history_of(loss=values)))
    lines, dots = points(drawing)
    assert lines == [[(144.0, 40.0), (185.0, 103.0)]]
    assert dots == [(62.0, 166.0), (308.0, 166.0)]
    (nothing,) = drawings(small_curves(history_of(loss=[math.nan, math.inf])))
    assert points(nothing) == ([], [])
    assert "no finite values" in texts(nothing)


@pytest.mark.parametrize("values", [[-1.7e308, 0.0, 1.7e308], [0.0, 5e-324, 1e-323], [2.0, 2.0, 2.0]])
def test_extreme_values_stay_on_the_page(values):
    (drawing,) = drawings(small_curves(history_of(loss=values)))
    ((corners,), _) = points(drawing)
    assert all(40 <= y <= 166 for _, y in corners)
    assert corners[1][1] == pytest.approx(103, abs=64)


def test_long_curves_are_thinned_and_keep_their_spikes():
    values = RNG.uniform(0.4, 0.6, 50_000)
    values[12_345], values[23_456] = 1.0, 0.0
    page = small_curves(history_of(loss=values.tolist()))
    assert len(page) < 20_000
    ((corners,), _) = points(drawings(page)[0])
    heights = [y for _, y in corners]
    assert (min(heights), max(heights)) == (40.0, 166.0)
    assert sum(y < 80 for y in heights) == sum(y > 130 for y in heights) == 1
    assert corners[0][0] == 62.0
    assert corners[-1][0] == 308.0


def test_names_of_outputs_are_escaped():
    history = history_of(loss=[1.0, 0.5], **{f"loss.{EVIL}": [1.0, 0.5]})
    history.stop_reason = EVIL
    found = Reader(history._repr_html_())
    assert found.rows[0] == ["epoch", "loss", f"loss.{EVIL}"]
    assert found.captions == [f"2 epochs ({EVIL})"]


def test_no_library_that_draws_is_imported():
    program = (
        "import sys, pyfastnn as fnn\n"
        "fnn.History([{'epoch': 1, 'loss': 0.5}, {'epoch': 2, 'loss': 0.25}])._repr_html_()\n"
        "print(sorted({'matplotlib', 'IPython', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# Studies


def test_a_study_shows_its_ranking_and_warnings():
    def build(rate):
        return fnn.Trainer(nn.Sequential(nn.Linear(2)), optimizer=fnn.optim.SGD(rate))

    held = {"X_val": X[40:], "y_val": Y[40:], "epochs": 1, "verbose": 0}
    study = search.random(build, {"rate": search.log_uniform(1e-3, 1e-1)}, X[:40], Y[:40], trials=12, **held)
    study.warnings = ["best rate at the edge: widen it", EVIL]
    found = Reader(study._repr_html_())
    printed = repr(study).splitlines()
    assert found.captions == [printed[0]]
    assert found.rows == [line.split() for line in printed[1:12]]
    assert [int(row[0]) for row in found.rows[1:]] == [trial.number for trial in study.top(10)]
    assert found.paragraphs == ["warning: best rate at the edge: widen it", f"warning: {EVIL}"]


def test_text_of_a_search_is_escaped():
    study = Study({})
    study.scoring = EVIL
    study.trials = [Trial(0, 0, {EVIL: EVIL}, 1, score=0.5)]
    assert Reader(study._repr_html_()).rows == [["trial", EVIL, EVIL], ["0", "0.500000", EVIL]]
    study.trials = [Trial(0, 0, {EVIL: EVIL}, 1, error=f"ValueError: {EVIL}")]
    found = Reader(study._repr_html_())
    assert found.paragraphs == [repr(study)]
    assert found.paragraphs[0].endswith(EVIL)
    assert Reader(Study({})._repr_html_()).paragraphs == ["0 trials in 0.0 s (running), 0 without a score"]
