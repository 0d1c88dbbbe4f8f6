"""The repository's own checks find what they are for: each is given one planted breach."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for name, text in CLEAN.items():
        plant(tmp_path, name, text)
    return tmp_path


def plant(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


CLEAN = {
    "csrc/core/parallel.cpp": "#include <omp.h>\n",
    "csrc/kernels/relu.cpp": '#include "kernels/vec.hpp"\n#include <cstdint>\nstatic_assert(sizeof(float) == 4, "no");\n',
    "csrc/ops/linkcheck.cpp": '#include <cstdio>\nint main() { std::printf("%d", 1); }\n',
    "pyfastnn/reference/relu.py": "import numpy as np\nfrom pyfastnn.graph import Graph\nfrom functools import partial\n",
    "pyfastnn/data/x.py": "import numpy as np\nnp.load('f', allow_pickle=False)\n",
    "pyfastnn/long.py": '"""Long.\n\nSize: a table of constants.\n"""\n' + "A = 1\n" * 700,
}

BREACHES = [
    ("size", "pyfastnn/a.py", "A = 1\n" * 601, "601 lines"),
    ("hard size", "pyfastnn/a.py", "# Size: big\n" + "A = 1\n" * 800, "801 lines"),
    ("ascii", "pyfastnn/a.py", "A = 1  # \u00b5s\n", "a.py:1: not ASCII"),
    ("ascii text", "README.md", "caf\u00e9\n", "not ASCII"),
    ("omp", "csrc/core/plan.cpp", "#include <omp.h>\n", "<omp.h>"),
    ("kernel include", "csrc/kernels/a.cpp", "#include <vector>\n", "must not include <vector>"),
    ("kernel core", "csrc/kernels/a.hpp", '#include "core/arena.hpp"\n', "must not include"),
    ("printf", "csrc/core/a.cpp", 'void f() { printf("x"); }\n', "a.cpp:1: no printing"),
    ("cout", "csrc/core/a.cpp", "void f() { std::cout << 1; }\n", "no printing"),
    ("abort", "csrc/core/a.cpp", "void f() { std::abort(); }\n", "no printing"),
    ("fast math", "CMakeLists.txt", "add_compile_options(-f" + "fast-math)\n", "fast-math"),
    ("Ofast", "cmake/a.cmake", "set(X -O" + "fast)\n", "fast-math"),
    ("pickle", "pyfastnn/a.py", "import pickle\n", "pickle runs code"),
    ("pickle from", "pyfastnn/io/a.py", "def f():\n    from pickle import loads\n", "pickle runs code"),
    ("allow_pickle", "pyfastnn/a.py", "import numpy as np\nnp.load('f', allow_pickle=True)\n", "allow_pickle"),
    ("eval", "pyfastnn/a.py", "x = eval('1')\n", "eval()"),
    ("exec", "pyfastnn/a.py", "exec('1')\n", "exec()"),
    ("reference core", "pyfastnn/reference/a.py", "from pyfastnn import _core\n", "must not import pyfastnn"),
    (
        "reference functional",
        "pyfastnn/reference/a.py",
        "import pyfastnn.functional\n",
        "must not import pyfastnn.functional",
    ),
    ("reference scipy", "pyfastnn/reference/a.py", "def f():\n    import scipy.special\n", "must not import scipy"),
    ("place", "tests/a.py", "X = '/ro" + "ot/x'\n", "place of one machine"),
]


def test_a_clean_repository_passes(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("check_rules").main(repository) == 0, capsys.readouterr().out


@pytest.mark.parametrize(("name", "text", "expected"), [row[1:] for row in BREACHES], ids=[row[0] for row in BREACHES])
def test_a_breach_is_named(
    repository: Path, name: str, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(repository, name, text)
    assert tool("check_rules").main(repository) == 1
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1
    assert out[0].startswith(name)
    assert expected in out[0]


def test_ignored_files_are_not_checked(repository: Path) -> None:
    plant(repository, ".gitignore", "build/\n")
    plant(repository, "build/a.py", "eval('1')\n")
    assert tool("check_rules").main(repository) == 0


SYMBOLS = {
    "inline": (
        "inline int helper(int x) { return x + 1; } namespace pfn { namespace avx2 { int f(int x) { return helper(x); } } }",
        1,
        "helper(int)",
    ),
    "other": ("namespace pfn { namespace avx512 { int f(int x) { return x; } } }", 1, "pfn::avx512::f(int)"),
    "good": (
        "namespace pfn { namespace avx2 { inline int g(int x) { return x; } int f(int x) { return g(x); } } }",
        0,
        "keep to",
    ),
    "static": (
        "static int h(int x) { return x; } namespace pfn { namespace avx2 { int f(int x) { return h(x); } } }",
        0,
        "keep to",
    ),
}


@pytest.mark.skipif(shutil.which("g++") is None or shutil.which("nm") is None, reason="needs g++ and nm")
@pytest.mark.parametrize("case", SYMBOLS)
def test_symbols_outside_the_namespace_are_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, status, expected = SYMBOLS[case]
    folder = tmp_path / "CMakeFiles" / "pfn_kernels_avx2.dir" / "csrc"
    folder.mkdir(parents=True)
    (tmp_path / "a.cpp").write_text(text)
    subprocess.run(["g++", "-O0", "-c", str(tmp_path / "a.cpp"), "-o", str(folder / "a.cpp.o")], check=True)
    assert tool("check_symbols").main(tmp_path) == status
    assert expected in capsys.readouterr().out


def test_no_objects_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("check_symbols").main(tmp_path) == 2
    assert "no kernel objects" in capsys.readouterr().err
