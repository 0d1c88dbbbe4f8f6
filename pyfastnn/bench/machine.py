"""What the times were taken on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from pyfastnn import _core


def describe() -> dict[str, Any]:
    """Return CPU, instruction set, system and versions."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "caches": caches(),
        "isa": _core.active_isa(),
        "threads": _core.num_threads(),
        "openmp": _core.openmp_runtime(),
        "compiler": _core.compiler(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "pyfastnn": _core.__version__,
        "numpy": np.__version__,
    }
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def rates() -> dict[str, float]:
    """Return what one thread reaches here in about 50 ms: two rates to hold the others against.

    Returns
    -------
    dict
        ``gemm_gflops``: our float32 product of 256 x 256 x 256, close to the peak of the multiply-add units;
        ``copy_l2_gbs`` and ``copy_memory_gbs``: NumPy copying 256 KiB and 64 MiB, bytes read plus bytes written.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((256, 256), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    threads = _core.num_threads()
    _core.set_num_threads(1)
    try:
        gemm = _best(lambda: _core.call("linear_forward", (a, b, None), (out,)), 30)
    finally:
        _core.set_num_threads(threads)
    found = {"gemm_gflops": 2 * 256**3 / gemm * 1e-9}
    for name, size, repeats in (("copy_l2_gbs", 1 << 18, 200), ("copy_memory_gbs", 1 << 26, 3)):
        source, target = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)
        found[name] = 2 * size / _best(lambda t=target, s=source: np.copyto(t, s), repeats) * 1e-9
    return {k: round(v, 1) for k, v in found.items()}


def title(found: dict[str, Any]) -> str:
    """Return the machine in one line."""
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['isa']}, {found['threads']} thread(s), load {found.get('load', '?')}; "
        f"pyfastnn {found['pyfastnn']}, NumPy {found['numpy']}, Python {found['python']}"
    )


def _best(work: Any, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """Return the sizes of the caches of the first core, as Linux tells them."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / f).read_text().strip() for f in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found
