"""Output files are checked before the work that fills them begins; errors about model files name the file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pyfastnn.cli.options import CommandError


def check_writable(option: str, path: str | None) -> None:
    """Raise CommandError if a file could not be written there; None is no file."""
    if path is None:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path) or path.endswith("/"):
        raise CommandError(f"{option}: '{path}' is a folder, expected the name of a file")
    if not os.path.isdir(folder):
        raise CommandError(f"{option}: there is no folder '{os.path.dirname(path) or folder}'")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{option}: the folder '{folder}' is not writable")


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Make errors about a model file name the file."""
    from pyfastnn.io import ModelFileError

    try:
        yield
    except ModelFileError as error:
        text = str(error)
        raise CommandError(text if path in text else f"'{path}': {text}") from None
