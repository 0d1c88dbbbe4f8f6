"""Look at the pages of reports in a real browser: ``python tools/browser.py FOLDER`` (Chromium, its driver, and selenium).

Pages of made-up runs are opened wide and narrow, light and dark, and used by keyboard and pointer. Exit status 1 if anything was said on
the console, loaded from elsewhere, wider than the screen, or too slow; pictures for the eye stay in the folder.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pyfastnn.report import write_report
from pyfastnn.report.page import Report
from pyfastnn.testing.runs import HOSTILE, write_runs

SIZES = {"wide": (1280, 900), "narrow": (400, 800)}
SECONDS = 2.0
MEGABYTES = 5.0

_DRAW = """
const begun = performance.now();
pyfastnn.drawAll();
for (const canvas of document.querySelectorAll('canvas.curve')) canvas.getContext('2d').getImageData(0, 0, 1, 1);
return performance.now() - begun;
"""
_EMPTY = """
return [...document.querySelectorAll('canvas')].filter((c) => c.clientWidth && c.width && c.height).filter((c) => {
  const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  return !pixels.some((value) => value);
}).map((c) => c.id || c.getAttribute('aria-label') || '?');
"""


class Looker:
    """A browser and what was wrong so far."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver, self.folder = driver, folder
        self.wrong: list[str] = []

    def check(self, holds: bool, what: str) -> None:
        """Keep what does not hold."""
        print(f"{'ok   ' if holds else 'WRONG'} {what}", flush=True)
        if not holds:
            self.wrong.append(what)

    def open(self, page: Path, size: str, *, dark: bool = False) -> None:
        """Open a page at a size."""
        width, height = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get(page.as_uri())

    def picture(self, name: str, *, whole: bool = False) -> None:
        """Keep a picture of what is seen, or of the whole page."""
        import base64

        options = {"captureBeyondViewport": whole, "format": "png"}
        if whole:
            size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        (self.folder / f"{name}.png").write_bytes(base64.b64decode(found["data"]))

    def script(self, code: str) -> Any:
        """Run code on the page."""
        return self.driver.execute_script(code)

    def quiet(self, what: str) -> None:
        """Check what every page must keep."""
        said = [line["message"] for line in self.driver.get_log("browser")]
        self.check(not said, f"{what}: nothing on the console {said or ''}")
        loaded = self.script("return performance.getEntriesByType('resource').map((e) => e.name)")
        self.check(not loaded, f"{what}: nothing loaded {loaded or ''}")
        wide = self.script("return [document.documentElement.scrollWidth, innerWidth]")
        self.check(wide[0] <= wide[1], f"{what}: no wider than the screen {wide}")
        self.check(self.script("return window.hacked === undefined"), f"{what}: no name ran as code")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start Chromium without a window."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options)
    try:
        yield driver
    finally:
        driver.quit()


def look_at_a_search(looker: Looker, page: Path) -> None:
    """Take pictures of a search of 40 runs in both schemes and sizes, and do all that can be done with it."""
    for size in SIZES:
        for dark in (False, True):
            looker.open(page, size, dark=dark)
            name = f"search-{size}-{'dark' if dark else 'light'}"
            looker.script("pyfastnn.drawAll()")
            looker.picture(name, whole=not dark)
            looker.quiet(name)
    looker.open(page, "wide")
    find = looker.driver.find_element
    rows = "return [...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden).map((r) => [...r.cells].map((c) => c.textContent))"
    heads = looker.script("return [...document.querySelectorAll('thead button')].map((b) => b.textContent)")
    at = next(k for k, text in enumerate(heads) if text.startswith("loss"))
    button = looker.driver.find_elements(By.CSS_SELECTOR, "thead button")[at]
    button.send_keys(Keys.ENTER)
    losses = [float(row[at]) for row in looker.script(rows)]
    looker.check(losses == sorted(losses), "the table is sorted by the keyboard")
    button.send_keys(Keys.ENTER)
    losses = [float(row[at]) for row in looker.script(rows)]
    looker.check(losses == sorted(losses, reverse=True), "and the other way round")
    box = find(By.ID, "filter")
    box.send_keys("lr<1e-3 status=finished")
    left = looker.script(rows)
    rate = next(k for k, text in enumerate(heads) if text.startswith("learning_rate"))
    looker.check(
        0 < len(left) < 40 and all(float(row[rate]) < 1e-3 for row in left), f"the filter leaves {len(left)} runs"
    )
    cards = looker.script("return [...document.querySelectorAll('.card')].filter((c) => !c.hidden).length")
    looker.check(cards == len(left), "and their cards")
    looker.driver.refresh()
    looker.check(len(looker.script(rows)) == len(left), "a page that is loaded anew is as it was left")
    box = find(By.ID, "filter")
    box.clear()
    box.send_keys("nothing>3")
    looker.check("no column 'nothing'" in find(By.ID, "shown").text, "an unknown column is named")
    box.clear()
    box.send_keys(" ", Keys.BACKSPACE)
    scatter = find(By.ID, "scatter")
    scatter.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    looker.check(
        find(By.ID, "picked").text.startswith("trial-"), "arrow keys go from run to run: " + find(By.ID, "picked").text
    )
    looker.check(
        looker.script("return document.querySelectorAll('tr.chosen, .card.chosen').length") == 2,
        "the run is marked everywhere",
    )
    looker.picture("search-chosen")
    scatter.send_keys(Keys.ENTER)
    chosen = "const c = document.querySelector('.card.chosen'); return document.activeElement === c"
    looker.check(looker.script(chosen), "Enter goes to the card of the run")
    canvas = find(By.CSS_SELECTOR, ".card.chosen canvas.curve")
    canvas.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    readout = find(By.CSS_SELECTOR, ".card.chosen .readout").text
    looker.check(readout.startswith("epoch 2: loss "), "arrow keys read the curves: " + readout)
    ActionChains(looker.driver).move_to_element(canvas).perform()
    readout = find(By.CSS_SELECTOR, ".card.chosen .readout").text
    looker.check(readout.startswith("epoch "), "and so does the pointer: " + readout)
    find(By.CSS_SELECTOR, ".card.chosen summary").send_keys(Keys.ENTER)
    looker.script("return new Promise((done) => setTimeout(done, 200))")
    looker.picture("search-layers")
    looker.script("pyfastnn.drawAll()")
    looker.check(not (empty := looker.script(_EMPTY)), f"no canvas is empty {empty or ''}")
    looker.quiet("used by keyboard and pointer")


def look_at_a_running_run(looker: Looker, folder: Path) -> None:
    """Let the page load itself anew while a run goes on."""
    runs, page = folder / "live-runs", folder / "live.html"
    runs.mkdir()
    write_runs(runs, 4, 5)
    report = Report([runs])
    report.look()
    report.write(page, 1.0)
    looker.open(page, "wide")
    box = looker.driver.find_element(By.ID, "filter")
    box.send_keys("trial-1")
    history = runs / "trial-1" / "history.jsonl"
    history.write_text(
        history.read_text() + json.dumps({"kind": "epoch", "epoch": 6, "loss": 0.25, "accuracy": 0.9}) + "\n"
    )
    report.look()
    report.write(page, 1.0)
    cards = "[...document.querySelectorAll('.card')].filter((c) => !c.hidden).map((c) => c.textContent)"
    shown = f"return [document.getElementById('live').hidden, {cards}]"
    deadline = time.monotonic() + 30
    while "6 epochs" not in (found := looker.script(shown))[1][0] and time.monotonic() < deadline:
        time.sleep(0.2)
    looker.check("6 epochs" in found[1][0], "a page that follows shows the next epoch")
    looker.check(found[0] is False and len(found[1]) == 1, "and the filter is as it was")
    looker.picture("live")
    looker.quiet("live")


def main(folder: Path) -> int:
    """Look at all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    shapes: dict[str, tuple[int, int, dict[str, Any]]] = {
        "one": (1, 30, {}),
        "search": (40, 60, {}),
        "hostile": (len(HOSTILE), 12, {"names": HOSTILE}),
        "large": (200, 1000, {}),
    }
    for name, (runs, epochs, settings) in shapes.items():
        (folder / f"{name}-runs").mkdir()
        write_runs(folder / f"{name}-runs", runs, epochs, **settings)
        made[name] = folder / f"{name}.html"
        write_report(folder / f"{name}-runs", made[name], title=HOSTILE[0] if name == "hostile" else name)
    with browser() as driver:
        looker = Looker(driver, folder)
        look_at_a_search(looker, made["search"])
        look_at_a_running_run(looker, folder)
        for name in ("one", "hostile"):
            for size in SIZES:
                looker.open(made[name], size)
                looker.script("pyfastnn.drawAll(); return new Promise((done) => setTimeout(done, 300))")
                looker.picture(f"{name}-{size}", whole=True)
                looker.quiet(f"{name} {size}")
        looker.open(made["large"], "wide")
        whole = looker.script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
        drawn = looker.script(_DRAW) / 1000
        size = made["large"].stat().st_size / 1e6
        looker.check(
            whole < SECONDS and drawn < SECONDS,
            f"200 runs x 1000 points: loaded in {whole:.2f} s, all drawn in {drawn:.2f} s",
        )
        looker.check(size < MEGABYTES, f"the page has {size:.2f} MB")
        looker.picture("large")
        looker.quiet("large")
    print(f"browser: {'WRONG: ' + '; '.join(looker.wrong) if looker.wrong else 'all is well'}; pictures in {folder}")
    return 1 if looker.wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
