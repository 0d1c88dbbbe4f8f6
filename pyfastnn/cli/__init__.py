"""The command line: ``pyfastnn demo|train|check|predict|search|report|info|bench``.

Each command is a module with ``add_options(parser)`` and ``run(options) -> int``; it is imported when it is asked for.
Bad input gets one line on standard error and exit status 2, never a traceback.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, TextIO

from pyfastnn._names import unknown
from pyfastnn.cli.options import CommandError, Parser

__all__ = ["main"]

COMMANDS = {
    "demo": "train on the built-in digits and draw the curves; needs no data",
    "train": "train a network on a data set",
    "check": "check a data set and a network before training",
    "predict": "predict with a saved model",
    "search": "search for a good learning rate and weight decay",
    "report": "write a page about runs: curves, layers, what a search shows",
    "info": "show version, instruction set, threads and compiler",
    "bench": "time kernels and training steps on this machine",
}
"""Every command with its line in the help."""

REFUSED, INTERRUPTED = 2, 130
"""Exit statuses: bad input, and Ctrl-C (128 + SIGINT, as shells do)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status: 0 done, 1 the work failed (the training diverged, a check failed), 2 bad input, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("pyfastnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has closed it, as `head` does
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 - lives until the process ends
        return 0
    except (CommandError, ValueError, TypeError, OSError, ImportError, MemoryError, RuntimeError) as error:
        print(f"pyfastnn: error: {_one_line(error)}", file=sys.stderr)
        return REFUSED


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else None
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        from pyfastnn._core import __version__

        print(f"pyfastnn {__version__}")
        return 0
    if name is None:
        raise CommandError(f"no command given; expected one of {', '.join(COMMANDS)} (pyfastnn --help says more)")
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise CommandError(unknown(kind, name, [*COMMANDS, "--help", "--version"] if kind == "option" else COMMANDS))
    if name == "bench":
        from pyfastnn.bench import main as bench

        run: Callable[[list[str]], int] = bench
        return run(arguments[1:])
    command: ModuleType = import_module(f"pyfastnn.cli.{name}")
    parser = Parser(prog=f"pyfastnn {name}", description=command.__doc__)
    command.add_options(parser)
    options = parser.read(arguments[1:])
    if options is None:
        return 0
    status: int = command.run(options)
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: pyfastnn COMMAND [options]\n\n"
        "Train small and medium neural networks on NumPy arrays at the speed of the machine.\n\n"
        f"commands:\n{lines}\n\n'pyfastnn COMMAND --help' shows the options of a command; 'pyfastnn --version' the version."
    )


def _one_line(error: BaseException) -> str:
    """Return the message of an error as one line."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"'{error.filename}': {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: Any = None,
) -> None:
    """Show a warning as one line, without the place in our sources."""
    print(f"pyfastnn: warning: {' '.join(str(message).split())}", file=file or sys.stderr)
