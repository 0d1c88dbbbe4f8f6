"""Run folders as a search leaves them, made up: for tests of what reads many of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=2>",
    "a\"b'c`d${window.hacked=3}",
    "<!--<script>",
    "]]>&lt;&amp;\u2028\u2029\x07",
    "__proto__",
    "\u202egnitset \u4e2d\u6587 \U0001f600",
    "x" * 180,
)
"""Names that a careless page takes for markup or code."""


def write_runs(
    folder: str | os.PathLike[str],
    runs: int,
    epochs: int,
    *,
    watched: int = 60,
    layers: int = 3,
    names: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Write run folders of a search over learning rate, regularisation and width.

    Parameters
    ----------
    folder : path
        Where; must exist.
    runs, epochs : int
        How many, and of how many rows.
    watched : int, default 60
        Rows of statistics of each.
    layers : int, default 3
        Weights of each; the activations are one fewer.
    names : sequence of str
        Names in place of ``trial-0`` and so on; a slash in them becomes a fraction slash. They name a parameter, a layer and an error too.
    seed : int, default 0
        Fixes all numbers.
    """
    for place in range(runs):
        rng = np.random.default_rng([seed, place])
        name = names[place] if place < len(names) else f"trial-{place}"
        run = Path(folder) / name.replace("/", "\u2044")
        run.mkdir()
        params = {
            "learning_rate": 10 ** rng.uniform(-6, -1.5),
            "weight_decay": 10 ** rng.uniform(-5, 1),
            "width": int(rng.choice([16, 32, 64])),
        }
        config = {
            "format": 1,
            "begun": f"2025-01-01T{place // 60 % 24:02d}:{place % 60:02d}:00+00:00",
            "model": [
                {
                    "layer": "linear_1",
                    "settings": f"Linear({params['width']})",
                    "output": [10],
                    "parameters": 1000,
                    "frozen": False,
                }
            ],
            "optimizer": {
                "kind": "adam",
                "learning_rate": params["learning_rate"],
                "weight_decay": params["weight_decay"],
            },
            "seed": place,
            "fit": {"after_epoch": 0, "epochs": epochs, "batch_size": 32, "steps_per_epoch": 50},
            "params": params,
            "space": {
                "learning_rate": "log_uniform(1e-06, 0.1)",
                "weight_decay": "log_uniform(1e-05, 10)",
                "width": "choice([16, 32, 64])",
            },
        }
        if names:
            config["params"] = {**params, names[0]: names[place % len(names)]}
        (run / "config.json").write_text(json.dumps(config))
        lines = _lines(rng, params, epochs, watched, layers, names[place % len(names)] if names else "")
        (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _lines(
    rng: np.random.Generator, params: dict[str, Any], epochs: int, watched: int, layers: int, name: str
) -> list[dict[str, Any]]:
    """Return the lines of a history: slow below a rate of 3e-4 or so, exploding far above, strongly regularised ones stuck."""
    rate, decay = params["learning_rate"], params["weight_decay"]
    speed = 8 * rate / 3e-4
    floor = 0.05 + 2.2 * decay / (decay + 0.5)
    explodes = rate > 0.02
    lines: list[dict[str, Any]] = []
    for k in range(watched):
        found: dict[str, Any] = {}
        for n in range(layers):
            ratio = 1e-3 * math.sqrt(rate / 3e-4) * 10 ** rng.normal(0, 0.15) / (1 + 2 * k / watched)
            found[f"linear_{n + 1}{name}.w"] = {"update_ratio": ratio, "gradient_norm": 1.0, "weight_norm": 1.0}
        for n in range(layers - 1):
            spread = 1 + k / watched + 0.3 * n
            counts = rng.poisson(40 * np.exp(-(((np.arange(24) - 7 - n) / 4) ** 2)))
            numbers = {
                "mean": 0.2,
                "std": spread,
                "min": -spread,
                "max": 3 * spread,
                "dead": 0.02 * n,
                "saturated": 0.0,
            }
            found[f"relu_{n + 1}{name}"] = {**numbers, "histogram": counts.tolist()}
        step = (k + 1) * epochs * 50 // watched
        lines.append(
            {"kind": "statistics", "step": step, "epoch": max(1, -(-step // 50)), "loss": 1.0, "layers": found}
        )
    noise = (rng.normal(size=(epochs, 3)) * [0.02, 0.008, 0.012]).tolist()
    for epoch, (of_loss, of_accuracy, of_validation) in enumerate(noise, start=1):
        done = 1 - math.exp(-speed * epoch / epochs)
        loss = floor + (2.3 - min(floor, 2.2)) * (1 - done) + of_loss
        accuracy = min(0.999, max(0.05, 0.1 + 0.85 * done * 0.6 / (0.6 + floor) + of_accuracy))
        val_accuracy = max(0.05, accuracy - 0.12 * done * math.exp(-decay) * epoch / epochs + of_validation)
        val_loss = max(loss, 0.01) + 0.4 * (accuracy - val_accuracy)
        if explodes and epoch > epochs // 3:
            loss = val_loss = min(1e30, 2.3 * math.exp(min(60.0, epoch - epochs // 3)))
        row = {
            "epoch": epoch,
            "loss": max(loss, 0.01),
            "accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
        lines.append({"kind": "epoch", **row, "learning_rate": rate, "seconds": 0.21, "samples_per_second": 1e5})
    if explodes:
        text, remedy = f"the loss is 1e+12, it began at 2.303 {name}", f"try a smaller learning_rate than {rate:.3g}"
        said = {"verdict": "exploding", "text": text, "remedy": remedy, "step": 17 * epochs, "layer": "", "value": None}
        lines += [
            {"kind": "verdict", **said},
            {"kind": "end", "reason": "limit", "epoch": epochs, "step": 50 * epochs, "error": name},
        ]
    elif rate > 3e-6:
        lines.append({"kind": "end", "reason": "finished", "epoch": epochs, "step": 50 * epochs})
    return lines
