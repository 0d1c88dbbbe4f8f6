"""Write a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from typing import IO

__all__ = ["atomic_write", "try_lock"]

POSIX = os.name == "posix"
NEW_FILE_MODE = 0o666  # before the umask, as open() does


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file whose content replaces ``path`` when the block ends without an error.

    Whoever opens ``path`` finds the old content or the new, also after a crash or a power cut:
    the bytes go to a temporary file in the same folder, which is flushed to the disk and renamed.
    If the block raises, the temporary file is removed and ``path`` is as it was.

    Parameters
    ----------
    path : str or path-like
        File to write. Of a symbolic link the target is replaced. An existing file keeps its
        permission bits; a new one gets those of the process's umask.

    Yields
    ------
    file
        Binary file open for writing.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError, ValueError
        If ``path`` is a folder, or something else that is not a plain file.
    OSError
        If the disk is full or writing fails for another reason.

    Notes
    -----
    Temporary files are named ``.NAME.<16 hex digits>.tmp`` and locked while they are written. Ones
    left behind by a killed process are removed by the next write to the same path. Of several
    writers at the same time the last to finish wins, with a whole file.
    """
    target = os.path.realpath(os.fspath(path))
    folder, name = os.path.split(target)
    mode = _existing_mode(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "the folder does not exist", folder)
    _sweep(folder, name)
    temporary, fd = _create(folder, name, 0o600 if mode is not None else NEW_FILE_MODE)
    try:
        # closefd=False: the lock goes with the descriptor and must outlive the rename.
        with os.fdopen(fd, "wb", closefd=False) as file:
            yield file
            file.flush()
            if mode is not None and POSIX:
                os.fchmod(fd, mode)
            os.fsync(fd)
        if not POSIX:  # an open file cannot be renamed there
            os.close(fd)
            fd = -1
        os.replace(temporary, target)
    except BaseException:
        if fd >= 0:
            os.close(fd)
            fd = -1
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        if fd >= 0:
            os.close(fd)
    _sync_folder(folder)


def _existing_mode(target: str) -> int | None:
    """Return the permission bits of a plain file, None when there is none."""
    try:
        found = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected a file name", target)
    if not stat.S_ISREG(found):
        raise ValueError(f"'{target}' is not a plain file")
    return stat.S_IMODE(found)


def _create(folder: str, name: str, mode: int) -> tuple[str, int]:
    """Create and lock a temporary file that nobody else has."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        temporary = os.path.join(folder, f".{name[:50]}.{secrets.token_hex(8)}.tmp")
        try:
            fd = os.open(temporary, flags, mode)
        except FileExistsError:
            continue
        # Between creation and lock another writer may have swept the file away: then start over.
        if try_lock(fd) and os.fstat(fd).st_nlink == 1:
            return temporary, fd
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file, against writers alone if ``shared``; false only when somebody else holds it.

    The lock ends with the descriptor, also where its process is killed.
    """
    if not POSIX:
        return True
    import fcntl

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: nothing is swept there either
    return True


def _sweep(folder: str, name: str) -> None:
    """Remove temporary files whose writer is gone, told by the lock."""
    if not POSIX:
        return
    import fcntl

    hexadecimal = "[0-9a-f]" * 16
    for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name[:50])}.{hexadecimal}.tmp")):
        with contextlib.suppress(OSError):
            fd = os.open(left, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)
            finally:
                os.close(fd)


def _sync_folder(folder: str) -> None:
    """Make a rename durable."""
    if not POSIX:
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot
            raise
    finally:
        os.close(fd)
