"""One process per peer: it waits on its input, does what a line asks, answers with a line.

The parent starts all of them with the same environment and asks them in turn, so no two work at once. A waiting worker reads
from a pipe and needs no CPU.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ISA_VARIABLES = {
    "avx2": {
        "PYFASTNN_ISA": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
}
MODULES = {
    "ours": "pyfastnn.bench",
    "numpy": "bench.peer_numpy",
    "torch": "bench.peer_torch",
    "jax": "bench.peer_jax",
    "sklearn": "bench.peer_sklearn",
}


class Worker:
    """The parent's side of one process.

    Parameters
    ----------
    library : str
        A key of `MODULES`, or the name of a module with ``subject(bench, case, variant)`` and ``VARIANTS``.
    threads : int
        Threads it may use.
    isa : str, optional
        Instruction set all libraries are held to: ``"avx2"``.
    """

    def __init__(self, library: str, threads: int, isa: str | None = None) -> None:
        self.library, self.threads = library, threads
        environment = dict(os.environ) | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment |= ISA_VARIABLES[isa] if isa is not None else {}
        path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.workers", MODULES.get(library, library), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            self.hello = self._answer()
        except RuntimeError:
            self.close()
            raise

    def ask(self, do: str, **values: Any) -> Any:
        """Send a line and return the answer.

        Raises
        ------
        RuntimeError
            If the worker failed; holds its error.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.library}: the worker ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.library}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


class RemoteRunner:
    """One variant of a library in its worker; see `pyfastnn.bench.timing.Runner`."""

    def __init__(self, worker: Worker, variant: str) -> None:
        self.worker, self.variant = worker, variant

    def prepare(self, bench: str, case: dict[str, Any]) -> Any:
        """Set up a case and return its answer; None if the library cannot do it."""
        return self.worker.ask("prepare", bench=bench, case=case, variant=self.variant)

    def calls_for(self, seconds: float) -> int:
        """Return how many calls last about ``seconds``."""
        calls: int = self.worker.ask("calls", seconds=seconds, variant=self.variant)
        return calls

    def sample(self, calls: int) -> Any:
        """Take one sample."""
        from pyfastnn.bench.timing import Reading

        return Reading(**self.worker.ask("sample", calls=calls, variant=self.variant))


def serve(module_name: str, threads: int) -> None:
    """Answer lines until the input ends: the worker's side."""
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        from dataclasses import asdict

        from pyfastnn.bench.timing import LocalRunner

        module = importlib.import_module(module_name)
        if hasattr(module, "set_threads"):
            module.set_threads(threads)
        version = module.version() if hasattr(module, "version") else ""
        answer(value={"variants": module.VARIANTS, "version": version})
    except Exception as error:  # the parent raises it
        answer(error=f"{type(error).__name__}: {error}")
        return
    runners: dict[str, LocalRunner] = {}
    current: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            variant = question.get("variant", "")
            runner = runners.setdefault(variant, LocalRunner(module, variant))
            if question["do"] == "prepare":
                if current != (question["bench"], question["case"]):
                    for old in runners.values():
                        old.subject = None
                    current = (question["bench"], question["case"])
                try:
                    answer(value=runner.prepare(question["bench"], question["case"]))
                except NotImplementedError:
                    answer(value=None)
            elif question["do"] == "machine":
                from pyfastnn.bench import machine, peaks

                answer(value={"machine": machine.describe() | machine.rates(), "peaks": peaks.measure(threads)})
            elif question["do"] == "calls":
                answer(value=runner.calls_for(question["seconds"]))
            else:
                answer(value=asdict(runner.sample(question["calls"])))
        except Exception as error:  # the parent raises it
            answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
