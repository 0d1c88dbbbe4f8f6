"""Ctrl-C: a fit ends at its last finished step, everything else is a KeyboardInterrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

INTERRUPTED = r"""
import json, sys, time
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn, optim

rows, validation = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (max(rows, 1000), 16)).astype(np.uint8)
y = rng.integers(0, 3, len(X))
wide = 256 if validation else 24


def trainer():
    layers = nn.Linear(wide), nn.ReLU(), nn.Dropout(0.1), nn.Linear(wide), nn.Linear(3)
    return fnn.Trainer(nn.Sequential(*layers, preprocess=fnn.data.Rescale()), optimizer=optim.SGD(1e-3, momentum=0.9))


val = {"X_val": np.resize(X, (validation, 16)), "y_val": np.resize(y, validation)} if validation else {}
run = trainer()
run.fit(X[:64], y[:64], epochs=1, verbose=0)  # all is loaded and compiled once
run.reset()
print("ready", flush=True)
history = run.fit(X[:rows], y[:rows], epochs=10**8, batch_size=16, verbose=0, **val)
ended = time.time()
again = trainer()
again.fit(X[:rows], y[:rows], epochs=10**8, batch_size=16, verbose=0, max_steps=run.step_count)
arrays, want = run.model.state_dict(), again.model.state_dict()
print(json.dumps({
    "ended": ended,
    "reason": history.stop_reason,
    "steps": run.step_count,
    "epochs": [run.epoch, len(history), again.epoch],
    "same": all(a.tobytes() == want[k].tobytes() for k, a in arrays.items()),
    "same slots": all(a.tobytes() == again.slots[k].tobytes() for k, a in run.slots.items()),
    "finite": all(np.isfinite(list(row.values())).all() for row in history),
    "val": ["val_loss" in row for row in history][-1:],
    "handler": __import__("signal").getsignal(2) is __import__("signal").default_int_handler,
}))
"""


def interrupt(script: str, after: float, *arguments: str) -> tuple[float, subprocess.CompletedProcess]:
    """Start a script, press Ctrl-C some seconds after it says that it is ready; return the time of that, and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after)
    pressed = time.time()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return pressed, subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("rows", "validation", "after"),
    [(1_000_000, 0, 0.4), (1_000_000, 0, 0.05), (40, 0, 0.3), (40, 0, 0.21), (64, 2_000_000, 0.3)],
    ids=["long epoch", "early", "short epochs", "short epochs again", "validation"],
)
def test_ctrl_c_ends_a_fit_at_its_last_finished_step(rows, validation, after):
    """At once, without a traceback, with the weights of exactly as many steps as are counted and a whole history."""
    pressed, ran = interrupt(INTERRUPTED, after, str(rows), str(validation))
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert found["ended"] - pressed < 0.5  # looked for every 0.1 s; the rest is a busy machine
    assert found["reason"] == "interrupted"
    assert found["steps"] > 0
    assert len(set(found["epochs"])) == 1
    assert found["same"]
    assert found["same slots"]
    assert found["finite"]
    assert found["handler"]
    if validation:
        assert found["val"] == [False], "the validation was cut short and must not be reported"


OUTSIDE = r"""
import sys
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn

X = np.zeros((400_000, 64), np.uint8)
y = np.arange(len(X)) % 3
trainer = fnn.Trainer(nn.Sequential(nn.Linear(512), nn.ReLU(), nn.Linear(512), nn.Linear(3)), preflight=False)
trainer.fit(X[:64], y[:64], epochs=1, verbose=0)
jobs = {
    "predict": lambda: trainer.model.predict(X),
    "evaluate": lambda: trainer.evaluate(X, y),
    "step": lambda: [trainer.step(X[:3000], y[:3000]) for _ in range(10000)],
}
trainer.step(X[:3000], y[:3000])
print("ready", flush=True)
try:
    jobs[sys.argv[1]]()
    print("returned")
except KeyboardInterrupt:
    print("interrupted", trainer.step_count)
    trainer.evaluate(X[:64], y[:64])
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("job", ["predict", "evaluate", "step"])
def test_ctrl_c_elsewhere_is_a_keyboard_interrupt(job):
    """Never half a result that looks like a whole one, and never swallowed by a loop of steps."""
    _, ran = interrupt(OUTSIDE, 0.3, job)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("interrupted")
