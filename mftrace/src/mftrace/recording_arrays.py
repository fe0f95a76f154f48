"""The arrays of a recording, in memory or in a file of which nothing is believed."""

from __future__ import annotations

import math
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mftrace.blocks import Array
from mftrace.errors import RecordingError

T = TypeVar("T")


def arrays_path(path: Path) -> Path:
    """Return where the arrays of a recording are: ``run.npz`` for ``run.jsonl``."""
    return path.with_suffix(".npz")


class MemoryArrays:
    """The arrays of a recording that is kept in memory."""

    def __init__(self) -> None:
        self._members: dict[str, Array] = {}

    def add(self, name: str, array: Array) -> None:
        """Keep an array."""
        self._members[name] = array

    def check(self, _name: str, _shape: tuple[int, ...], _dtype: np.dtype[Any]) -> None:
        """Accept everything: what is in memory was just put there."""

    def member(self, name: str, _shape: tuple[int, ...], _dtype: np.dtype[Any]) -> Array:
        """Return an array."""
        return self._members[name]


class FileArrays:
    """The arrays of a recording, in a file written by ``record``.

    The file is an ordinary ``.npz`` that ``numpy.load`` opens. Here nothing of what it says
    about itself is believed: every member must begin with the very bytes that NumPy writes
    for the shape and dtype that the events call for, be as long as these need, and not be
    compressed.
    """

    KEPT = 8  # members that were looked at last

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        self._id = header["id"].encode("ascii", "replace")
        self._sizes: dict[str, int] = {}
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._guarded(self._list)

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Find a member of the right size, without reading it.

        Raises
        ------
        RecordingError
            If there is none.
        """
        size = self._sizes.get(f"{name}.npy")
        if size is None:
            raise RecordingError(f"{self._path} has no array {name!r}: it was cut off or changed")
        needed = len(npy_header(shape, dtype)) + math.prod(shape) * dtype.itemsize
        if size != needed:
            raise RecordingError(
                f"{self._path}: the array {name!r} takes {size} bytes, and {dtype}{list(shape)} "
                f"needs {needed}"
            )

    def member(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return an array of the shape and dtype that the events call for.

        Raises
        ------
        RecordingError
            If the file no longer holds it.
        """
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        self.check(name, shape, dtype)
        array = self._guarded(lambda: self._load(name, shape, dtype))
        self._kept[name] = array
        if len(self._kept) > self.KEPT:
            self._kept.popitem(last=False)
        return array

    def _list(self) -> None:
        total = self._path.stat().st_size
        with zipfile.ZipFile(self._path) as archive:
            if archive.comment != self._id:
                raise RecordingError(f"{self._path} belongs to another recording")
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED:
                    raise RecordingError(f"{self._path}: {info.filename!r} is compressed")
                if info.file_size > total or info.filename in self._sizes:
                    raise RecordingError(f"{self._path}: {info.filename!r} cannot be right")
                self._sizes[info.filename] = info.file_size

    def _load(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        start = npy_header(shape, dtype)
        with zipfile.ZipFile(self._path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise RecordingError(f"{self._path}: {info.filename!r} is compressed")
            needed = len(start) + math.prod(shape) * dtype.itemsize
            with archive.open(info) as file:
                data = file.read(needed + 1)
        if len(data) != needed or not data.startswith(start):
            raise RecordingError(
                f"{self._path}: the array {name!r} is not of dtype {dtype} and shape {shape}"
            )
        return np.frombuffer(data, dtype, offset=len(start)).reshape(shape)

    def _guarded(self, action: Callable[[], T]) -> T:
        """Do something with the file; whatever goes wrong is an error of the recording."""
        try:
            return action()
        except RecordingError:
            raise
        except FileNotFoundError:
            raise RecordingError(
                f"{self._path} is missing: it holds the arrays of the recording"
            ) from None
        except Exception as error:  # zipfile raises many kinds for damaged files
            raise RecordingError(
                f"{self._path} cannot be read, it was cut off or changed: {error}"
            ) from None


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the bytes that NumPy's file format puts before an array in C order."""
    buffer = BytesIO()
    about = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()
