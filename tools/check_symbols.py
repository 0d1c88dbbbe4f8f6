"""No kernel object defines a weak symbol outside its own instruction set's namespace.

``python tools/check_symbols.py [FOLDER]``: the check behind the kernels' dispatch.

The linker keeps one copy of each weak symbol (inline function, template) of the whole module. Were that the copy compiled for AVX-512,
a CPU without it would stop at an illegal instruction in code that has nothing to do with kernels. So everything a kernel object
defines for others must live in ``pfn::<isa>``.

FOLDER (default ``build``) is searched for ``pfn_kernels_<isa>.dir/**/*.o``. Exit status 1 names every breach, 2 means that there were no
objects to check.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

OBJECTS = re.compile(r"pfn_kernels_(\w+)\.dir/")
DEFINED = re.compile(r"^[0-9a-f]+\s+([A-Zuvw])\s+(.*)$")
SHARED = "TDBRGSWVuvw"
"""Kinds of nm that other objects see: code, data and constants, and all weak ones."""


def objects(folder: Path) -> list[tuple[str, Path]]:
    """Return the kernel objects under a folder with their instruction set."""
    found = [(OBJECTS.search(p.as_posix()), p) for p in sorted(folder.rglob("*.o"))]
    return [(match[1], p) for match, p in found if match is not None]


def breaches(isa: str, path: Path) -> list[str]:
    """Return the symbols of an object that do not live in its namespace."""
    listed = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
    wrong = []
    for line in listed.splitlines():
        found = DEFINED.match(line)
        if found is not None and found[1] in SHARED and f"pfn::{isa}::" not in found[2]:
            wrong.append(f"{path}: {found[1]} {found[2]}")
    return wrong


def main(folder: Path) -> int:
    """Check every kernel object under a folder."""
    checked = objects(folder)
    if not checked:
        print(f"check_symbols: no kernel objects under {folder}; build first: pip install .", file=sys.stderr)
        return 2
    wrong = [breach for isa, path in checked for breach in breaches(isa, path)]
    isas = ", ".join(sorted({isa for isa, _ in checked}))
    print(
        "\n".join(wrong) if wrong else f"check_symbols: {len(checked)} kernel objects ({isas}) keep to their namespaces"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build")))
