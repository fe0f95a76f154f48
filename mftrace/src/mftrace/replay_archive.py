"""The archive of a replay file: JSON and arrays in one npz file, read back without trust.

It is a zip archive of uncompressed ``.npy`` arrays and of ``replay.json``. Nothing in it is
executed: no pickle is read, and sizes are checked before anything is allocated.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mfcore.errors import MiniFlowError
from mftrace.guard_report import printable

_JSON = "replay.json"
_JSON_LIMIT = 2**20
_LARGEST = 2**31  # bytes; beyond it zip archives have another form
_ARRAYS = 10_000
_DIMENSIONS = 32
_DIRECTORY_LIMIT = 2**21  # bytes of a zip archive's table of contents
_END = 22  # bytes of the record at the end of a zip archive
_HEADER = re.compile(  # exactly as NumPy writes it: nothing here is evaluated
    rb"\{'descr': '([<>|][biufc][0-9]{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{0,20}(?:, ?[0-9]{1,20})*),?\), \} *\n"
)


class ReplayError(MiniFlowError, ValueError):
    """A replay file cannot be written or read, or what it holds cannot be run."""


def archive_bytes(about: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    """Return the contents of a file. The same values give the same bytes.

    Raises
    ------
    ReplayError
        If they would be more than a reader accepts.
    """
    text = json.dumps(about, indent=1, allow_nan=False)
    size = sum(array.nbytes for array in arrays)
    if len(text) > _JSON_LIMIT or len(arrays) > _ARRAYS or size > _LARGEST - _DIRECTORY_LIMIT:
        raise ReplayError(f"{len(arrays):,} arrays of {size:,} bytes are too large for a file")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_JSON), text)
        for i, array in enumerate(arrays):
            contents = io.BytesIO()
            np.lib.format.write_array(contents, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(_member(i)), contents.getvalue())
    return file.getvalue()


def _member(i: int) -> str:
    return f"array_{i}.npy"


def read_archive(
    path: str | os.PathLike[str], limit: int
) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Return the description and the arrays of a file of at most ``limit`` bytes.

    Raises
    ------
    ReplayError
        If it is no such file, was changed or cut off, or is too large.
    OSError
        If it cannot be opened.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise ReplayError(f"it has more than {limit:,} bytes; allow more with limit=")
        _check_directory(file)
        try:
            with zipfile.ZipFile(file) as archive:
                sizes = _sizes(archive, limit)
                about = _json(_member_bytes(archive, _JSON, sizes[_JSON]))
                arrays = [
                    _array(_member_bytes(archive, _member(i), sizes[_member(i)]))
                    for i in range(len(sizes) - 1)
                ]
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ReplayError(f"it is no replay file, or was cut off: {error}") from error
        except (ValueError, RuntimeError, UnicodeError, KeyError, IndexError) as error:
            if isinstance(error, ReplayError):
                raise
            raise ReplayError(f"it is damaged: {printable(str(error))}") from error
    return about, arrays


def _check_directory(file: BinaryIO) -> None:
    """Raise unless a zip archive's table of contents is small; it is read as a whole."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _END - 20, 0))
    tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or end[:4] != b"PK\5\6":
        raise ReplayError("it is no replay file, or was cut off")
    directory = int.from_bytes(end[12:16], "little")
    if directory > _DIRECTORY_LIMIT or tail[:-_END].startswith(b"PK\6\7"):
        raise ReplayError("it has too many parts")
    file.seek(0)


def _sizes(archive: zipfile.ZipFile, limit: int) -> dict[str, int]:
    """Return the sizes of an archive's members; all are checked before any is read."""
    members = archive.infolist()
    if len(members) > _ARRAYS + 1:
        raise ReplayError(f"it has {len(members):,} parts, more than {_ARRAYS:,}")
    sizes = {member.filename: member.file_size for member in members}
    expected = {_JSON, *map(_member, range(len(members) - 1))}
    if sizes.keys() != expected or len(sizes) != len(members):
        raise ReplayError("it is no replay file: it has other parts than such a file")
    for member in members:
        # Nothing is compressed, so that no small file can become large.
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
            raise ReplayError(f"its part {member.filename} is compressed or encrypted")
        if member.compress_size != member.file_size:
            raise ReplayError(f"its part {member.filename} is damaged: two sizes are given")
    if sizes[_JSON] > _JSON_LIMIT:
        raise ReplayError(f"its part {_JSON} has more than {_JSON_LIMIT:,} bytes")
    if sum(sizes.values()) > limit:
        raise ReplayError(f"its parts have more than {limit:,} bytes; allow more with limit=")
    return sizes


def _member_bytes(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    with archive.open(name) as file:
        contents = file.read()
    if len(contents) != size:
        raise ReplayError(f"its part {name} is cut off")
    return contents


def _json(contents: bytes) -> dict[str, Any]:
    def refuse(text: str) -> Any:
        raise ReplayError(f"it is damaged: {text} in {_JSON}")

    about = json.loads(contents.decode("utf-8"), parse_constant=refuse)
    if type(about) is not dict:
        raise ReplayError("it is no replay file")
    return about


def _array(contents: bytes) -> NDArray[Any]:
    """Return an array in NumPy's format, whose header must fit the number of bytes."""
    start = len(np.lib.format.MAGIC_PREFIX) + 4  # two bytes of version, two of length
    stop = start + int.from_bytes(contents[start - 2 : start], "little")
    found = _HEADER.fullmatch(contents[start:stop])
    if not contents.startswith(np.lib.format.MAGIC_PREFIX + b"\x01\x00") or found is None:
        raise ReplayError("it is damaged: an array has no header that this reads")
    kind, order, lengths = (part.decode("ascii") for part in found.groups())
    try:
        dtype = np.dtype(kind)
    except TypeError as error:
        raise ReplayError("it is damaged: an array has no dtype") from error
    shape = tuple(int(n) for n in lengths.replace(",", " ").split())
    if len(shape) > _DIMENSIONS or math.prod(shape) * dtype.itemsize != len(contents) - stop:
        raise ReplayError("it is damaged: an array's shape does not fit its size")
    flat = np.frombuffer(contents, dtype, offset=stop)
    if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise ReplayError("it is damaged: an array of bools holds something else")
    return flat.reshape(shape, order="F" if order == "True" else "C").copy(order="K")
