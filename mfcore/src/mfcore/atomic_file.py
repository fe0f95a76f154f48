"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from errno import EISDIR
from pathlib import Path
from uuid import uuid4

_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows alone has it


def write_parts(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Write the parts of a file; what was there stays until all of them are on the disk.

    A process that is killed meanwhile leaves the old file as it was, and beside it at most
    a hidden one that nobody reads. An error, of the parts too, leaves none.

    Parameters
    ----------
    path : path
        The file; if it is a link, what it points to is replaced.
    parts : iterable of bytes
        Its contents, one after the other.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()  # the file changes, not the link to it
    if target.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), os.fspath(path))
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
