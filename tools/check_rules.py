"""The repository's own rules, those no other tool knows.

``python tools/check_rules.py [ROOT]``; exit status 1 names every breach.

Each rule is a function that yields ``path[:line]: what is wrong``; the reason stands in its docstring.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = (".py", ".pyi", ".pyx", ".cpp", ".hpp", ".def", ".cmake", ".toml", ".md", ".txt", ".yml", ".yaml")
CPP = (".cpp", ".hpp", ".def")
LIMIT, HARD_LIMIT = 600, 800
KERNEL_INCLUDES = re.compile(
    r'"(kernels/[a-z0-9_]+\.hpp|ops/op_call\.hpp)"|<(cfloat|climits|cstddef|cstdint|immintrin\.h|arm_neon\.h|limits|type_traits)>'
)
FAST_MATH = re.compile(
    "-f" + r"(fast-math|associative-math|reciprocal-math|finite-math-only|no-signed-zeros|unsafe-math)|-O" + "fast"
)
OUTPUT = re.compile(r"\b(f?printf|puts|abort|exit)\s*\(|std::c(out|err|log)\b|\bassert\s*\(")
UNPICKLERS = ("pickle", "marshal", "shelve", "dill", "joblib")
SENDER = ("pyfastnn/search/elsewhere.py", "joblib")
"""Sends trials to processes that it starts or that the user names, and reads what they answer; no file."""
# Spelled in pieces so that this file keeps its own rule.
PLACES = re.compile(
    "|".join(
        (
            "/wor" + r"k/(main|shared|\.)",
            "/tm" + r"p/(venv|team|h\d)",
            "pypi" + r"\.[a-z0-9-]+\.",
            "arti" + "factory",
            "/ro" + "ot/",
        )
    )
)


def files(root: Path) -> list[Path]:
    """Return the files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    return sorted(p for name in set(names) if name and (p := root / name).is_file())


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers."""
    yield from enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)


def size(root: Path, path: Path) -> Iterator[str]:
    """Find long files, which hide their seams; one over 600 lines says why in a line ``Size: ...`` of its header, none is over 800."""
    if path.suffix not in (".py", ".pyx", *CPP):
        return
    text = [line for _, line in lines(path)]
    if len(text) > HARD_LIMIT:
        yield f"{path.relative_to(root)}: {len(text)} lines, at most {HARD_LIMIT} are allowed"
    elif len(text) > LIMIT and not any("Size:" in line for line in text[:30]):
        yield f"{path.relative_to(root)}: {len(text)} lines; over {LIMIT} the header needs a line 'Size: <reason>'"


def ascii_only(root: Path, path: Path) -> Iterator[str]:
    """Find other characters: sources read the same everywhere."""
    if path.suffix in SOURCES:
        for number, line in lines(path):
            if not line.isascii():
                yield f"{path.relative_to(root)}:{number}: not ASCII: {next(c for c in line if not c.isascii())!r}"


def includes(root: Path, path: Path) -> Iterator[str]:
    """Find includes out of place: one file owns OpenMP, and kernels include nothing with inline functions.

    The linker keeps one copy of an inline function: that of a kernel would be compiled for one instruction set only.
    """
    if path.suffix not in CPP:
        return
    name = path.relative_to(root).as_posix()
    for number, line in lines(path):
        found = re.match(r"\s*#\s*include\s+(\S+)", line)
        if found is None:
            continue
        if found[1] == "<omp.h>" and name != "csrc/core/parallel.cpp":
            yield f"{name}:{number}: <omp.h> belongs in csrc/core/parallel.cpp alone"
        if name.startswith("csrc/kernels/") and not KERNEL_INCLUDES.fullmatch(found[1]):
            yield f"{name}:{number}: kernels must not include {found[1]}"


def output(root: Path, path: Path) -> Iterator[str]:
    """Find output: native code reports through exceptions and results; a library never prints or ends the process."""
    name = path.relative_to(root).as_posix()
    if path.suffix in CPP and name.startswith("csrc/") and name != "csrc/ops/linkcheck.cpp":
        for number, line in lines(path):
            if OUTPUT.search(line.partition("//")[0].replace("static_assert", "")):
                yield f"{name}:{number}: no printing, assert or ending of the process in csrc"


def flags(root: Path, path: Path) -> Iterator[str]:
    """Find fast-math, which changes results and the meaning of NaN."""
    if path.suffix in (".txt", ".cmake", ".toml", ".py", *CPP):
        for number, line in lines(path):
            if FAST_MATH.search(line):
                yield f"{path.relative_to(root)}:{number}: fast-math flags are never used"


def places(root: Path, path: Path) -> Iterator[str]:
    """Find paths and hosts of one machine: the repository means the same on all."""
    if path.suffix in SOURCES or path.suffix == "":
        for number, line in lines(path):
            if found := PLACES.search(line):
                yield f"{path.relative_to(root)}:{number}: names a place of one machine: {found[0]}"


def python(root: Path, path: Path) -> Iterator[str]:
    """Find code run from data, and a reference that shares something with what it checks."""
    name = path.relative_to(root).as_posix()
    if path.suffix != ".py" or not name.startswith("pyfastnn/"):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), name)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("eval", "exec", "compile")
        ):
            yield f"{name}:{node.lineno}: {node.func.id}() runs code from data"
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and getattr(node.value, "value", None) is not False
        ):
            yield f"{name}:{node.value.lineno}: allow_pickle must be False"
        for module in imported(node):
            if module.partition(".")[0] in UNPICKLERS and (name, module) != SENDER:
                yield f"{name}:{getattr(node, 'lineno', 0)}: {module} runs code from data"
            if name.startswith("pyfastnn/reference/") and not reference_may(module):
                yield f"{name}:{getattr(node, 'lineno', 0)}: the reference must not import {module}"


def imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." if node.level else node.module or ""]
    return []


def reference_may(module: str) -> bool:
    """Return whether the reference may import a module: NumPy, the standard library, the graph, itself."""
    top = module.partition(".")[0]
    ours = module.startswith(("pyfastnn.graph", "pyfastnn.reference"))
    return top == "numpy" or ours or (top != "pyfastnn" and top in sys.stdlib_module_names)


RULES = (size, ascii_only, includes, output, flags, places, python)


def main(root: Path) -> int:
    """Check every file by every rule."""
    breaches = [breach for path in files(root) for rule in RULES for breach in rule(root, path)]
    print("\n".join(breaches) if breaches else f"check_rules: {len(files(root))} files keep the rules")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])))
