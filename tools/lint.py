"""Every check of form and of the repository's rules, with the tools of the environment this runs in: ``python tools/lint.py``.

The tools are the dependency group ``lint``. All checks run even if one fails; exit status 1 if any did. Kernel objects must have been
built (``pip install .`` leaves them under ``build``).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    """Return the files that git tracks or would track and that match a pattern."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def checks() -> dict[str, list[str]]:
    """Return every check with its command."""
    return {
        "ruff check": [str(TOOLS / "ruff"), "check", "."],
        "ruff format": [str(TOOLS / "ruff"), "format", "--check", "."],
        "mypy": [str(TOOLS / "mypy")],
        "clang-format": [str(TOOLS / "clang-format"), "--dry-run", "-Werror", *tracked("*.cpp", "*.hpp")],
        "codespell": [str(TOOLS / "codespell"), *tracked()],
        "numpydoc": [str(TOOLS / "numpydoc"), "lint", *tracked("pyfastnn/*.py")],
        "repository rules": [sys.executable, "tools/check_rules.py"],
        "ops page": [sys.executable, "tools/ops_page.py", "--check"],
        "kernel symbols": [sys.executable, "tools/check_symbols.py"],
    }


def main() -> int:
    """Run all checks and list those that failed."""
    failed = []
    for name, command in checks().items():
        begun = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        print(f"lint: {name}: {'ok' if status == 0 else 'FAILED'} ({time.perf_counter() - begun:.1f} s)", flush=True)
        if status != 0:
            failed.append(name)
    print(f"lint: FAILED: {', '.join(failed)}" if failed else "lint: all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
