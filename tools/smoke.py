"""What an installed package must do outside the repository: ``python tools/smoke.py``; asserts, and prints one line.

Runs in an empty folder, so that nothing but the installed package can be imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
import pyfastnn as fnn
from pyfastnn import nn
X, y = fnn.data.load_digits()
trainer = fnn.Trainer(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10)), seed=1)
history = trainer.fit(X, y, epochs=2, batch_size=64, verbose=0)
trainer.model.save("m.safetensors")
assert np.array_equal(fnn.load("m.safetensors").predict(X), trainer.model.predict(X))
assert history["loss"][1] < history["loss"][0]
print(fnn.__file__, fnn.__version__)
"""


def main() -> int:
    """Train, save, load and predict from Python and from the command line."""
    script = Path(sys.executable).parent / "pyfastnn"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str) -> str:
            done = subprocess.run(
                command, cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=120
            )
            if done.returncode != 0:
                raise SystemExit(
                    f"smoke: {' '.join(command[:3])} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
                )
            return done.stdout

        where = run(sys.executable, "-c", PROGRAM).strip()
        assert run(str(script), "info").startswith("version:")
        run(str(script), "train", "digits", "--epochs", "2", "--save", "d.safetensors")
        assert len(run(str(script), "predict", "d.safetensors", "digits").splitlines()) == 1797
    print(f"smoke: ok: {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
