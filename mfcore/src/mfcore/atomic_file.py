"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from errno import EACCES, EINVAL, EISDIR, ELOOP
from pathlib import Path
from uuid import uuid4

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:  # Windows, which does not remove a file that is open
    _LOCKS = False
else:
    _LOCKS = True

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows alone has it
_SUFFIX = ".partial"
_LONGEST_STEM = 40
"""Characters of a name that its temporary file repeats: names have at most 255 bytes."""


def write_parts(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]) -> None:
    """Write the parts of a file; what was there stays until all of them are on the disk.

    They are written to a hidden file beside it, which then takes its name. A process that is
    killed meanwhile leaves the old file as it was, and that hidden one, which nobody reads and
    which the next writing of the same file removes. An error, of the parts too, leaves none.

    Parameters
    ----------
    path : path
        The file; if it is a link, what it points to is replaced. A file that is there keeps
        its permissions.
    parts : iterable of bytes or memoryview
        Its contents, one after the other.

    Raises
    ------
    OSError
        If it cannot be written, or what is there is no file, or is read-only.
    """
    target = _target(path)
    remove_abandoned(target.parent, target.name)
    handle, temporary = _new_file_beside(target)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o777)
            if _LOCKS:  # while it is locked, so that nobody takes it for abandoned
                os.replace(temporary, target)
        if not _LOCKS:
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def remove_abandoned(folder: Path, name: str = "") -> None:
    """Remove what processes left that were killed while they wrote to a folder.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str, optional
        The file that they wrote, or how its name begins.
    """
    begin = f".{name[:_LONGEST_STEM]}"
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(begin) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file to replace."""
    target = Path(path)
    if target.is_symlink():
        try:
            target = target.resolve()  # the file changes, not the link to it
        except RuntimeError:
            raise OSError(ELOOP, os.strerror(ELOOP), os.fspath(path)) from None
    if target.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), os.fspath(path))
    if target.exists():
        if not target.is_file():
            raise OSError(EINVAL, "what is there is no regular file", os.fspath(path))
        if not os.access(target, os.W_OK):
            raise PermissionError(EACCES, "what is there is read-only", os.fspath(path))
    return target


def _new_file_beside(target: Path) -> tuple[int, Path]:
    """Create the hidden file, open and locked for as long as it is written."""
    while True:
        temporary = target.with_name(f".{target.name[:_LONGEST_STEM]}.{uuid4().hex[:16]}{_SUFFIX}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
        if not _LOCKS:
            return handle, temporary
        with suppress(OSError):  # some network drives have no locks
            flock(handle, LOCK_EX)
        if temporary.exists():  # else another writer came between the last two steps
            return handle, temporary
        os.close(handle)


def _remove_if_abandoned(path: str) -> None:
    """Remove a file, unless a living process writes it: then the lock is refused."""
    if not _LOCKS:
        os.unlink(path)
        return
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        flock(handle, LOCK_EX | LOCK_NB)
        os.unlink(path)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
