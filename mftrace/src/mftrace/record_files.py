"""Where the tracer ``record`` writes: to memory, or to a file of events and one of arrays."""

from __future__ import annotations

import json
import secrets
import zipfile
from pathlib import Path
from typing import Any, Protocol

from mftrace.blocks import Array
from mftrace.errors import RecordingError
from mftrace.reading import SCHEMA, Assembly, read
from mftrace.recording import Recording
from mftrace.recording_arrays import MemoryArrays, arrays_path, npy_header


class Sink(Protocol):
    """Where a recording goes; ``size`` is the bytes that went there."""

    size: int
    closed: bool

    def line(self, line: dict[str, Any]) -> None:
        """Take an event."""

    def add(self, name: str, array: Array) -> None:
        """Take an array."""

    def close(self) -> None:
        """Take no more."""

    def recording(self) -> Recording:
        """Return all that was taken."""


class MemorySink:
    """Keeps a recording in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.closed = False
        self._arrays = MemoryArrays()
        self._assembly = Assembly(self._arrays)

    def line(self, line: dict[str, Any]) -> None:
        """Take an event."""
        self._assembly.add(line)

    def add(self, name: str, array: Array) -> None:
        """Take an array."""
        self.size += array.nbytes
        self._arrays.add(name, array)

    def close(self) -> None:
        """Take no more."""
        self.closed = True

    def recording(self) -> Recording:
        """Return all that was taken."""
        return self._assembly.recording()


def _line_text(line: dict[str, Any]) -> str:
    """Return a line as JSON; the two that are written most are put together by hand."""
    event = line["event"]
    if event == "pass":
        step, epoch = line["step"], line["epoch"]
        return (
            f'{{"event":"pass","block":{line["block"]},"row":{line["row"]},"run":{line["run"]},'
            f'"step":{"null" if step is None else step},'
            f'"epoch":{"null" if epoch is None else epoch},'
            f'"training":{"true" if line["training"] else "false"},'
            f'"complete":{"true" if line["complete"] else "false"},'
            f'"seconds":{line["seconds"]!r}}}\n'
        )
    if event == "step" and type(line["loss"]) is float:
        epoch = line["epoch"]
        return (
            f'{{"event":"step","step":{line["step"]},"loss":{line["loss"]!r},'
            f'"epoch":{"null" if epoch is None else epoch}}}\n'
        )
    return _ENCODE(line) + "\n"


_ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class FileSink:
    """Writes a recording to two files."""

    def __init__(self, path: Path) -> None:
        self.closed = False
        self._path = path
        identity = secrets.token_hex(16)
        try:
            self._text = path.open("w", encoding="utf-8", newline="\n")
            try:
                self._archive = zipfile.ZipFile(arrays_path(path), "w", zipfile.ZIP_STORED)
            except OSError:
                self._text.close()
                path.unlink()
                raise
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror or error}") from None
        self._archive.comment = identity.encode("ascii")
        self.size = 0
        self.line({"event": "recording", "schema": SCHEMA, "id": identity})

    def line(self, line: dict[str, Any]) -> None:
        """Take an event."""
        text = _line_text(line)
        self.size += len(text)
        self._text.write(text)

    def add(self, name: str, array: Array) -> None:
        """Take an array."""
        data = npy_header(array.shape, array.dtype) + array.tobytes()
        self.size += len(data) + 160  # and what a zip file says of a member, twice
        self._archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)

    def close(self) -> None:
        """Take no more."""
        self.closed = True
        try:
            self._archive.close()
        finally:
            self._text.close()

    def recording(self) -> Recording:
        """Return all that was taken."""
        if not self.closed:
            raise RecordingError(
                f"{self._path} is still being written: leave the `with` block, or close the "
                f"tracer, before reading it"
            )
        return read(self._path)
