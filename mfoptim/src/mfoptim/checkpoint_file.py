"""The file of a checkpoint: safetensors' layout with a digest; written at once, read as hostile.

Eight bytes hold the length of a JSON header, little-endian; the header says of each array its
dtype, shape and place in the bytes that follow (https://github.com/huggingface/safetensors).
What is no array is JSON, in the header's metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import Array
from mfcore.errors import type_name
from mfoptim.errors import CheckpointError

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""The format's names of the dtypes that a checkpoint can hold."""

LONGEST_HEADER = 100_000_000
"""Bytes; safetensors has the same limit."""

_NO_DIGEST = "0" * 64
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write(path: Path, document: Any) -> None:
    """Write a document so that the file is there whole or not at all, whatever happens.

    Parameters
    ----------
    path : Path
        Where to; what is there is replaced.
    document : object
        Numbers, strings, ``None``, arrays, and lists, tuples and dicts (with strings as
        keys) of such.

    Raises
    ------
    CheckpointError
        If the document holds something else.
    OSError
        If it cannot be written.
    """
    arrays: dict[str, Array] = {}
    packed = json.dumps(_packed(document, "", arrays))
    entries: dict[str, Any] = {"__metadata__": {"digest": _NO_DIGEST, "training": packed}}
    offset = 0
    for name, array in arrays.items():
        entries[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    digest = hashlib.sha256(header)
    for array in arrays.values():
        digest.update(array.tobytes())
    # The metadata come first, and the digest first of them.
    header = header.replace(_NO_DIGEST.encode(), digest.hexdigest().encode(), 1)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(len(header).to_bytes(8, "little"))
            file.write(header)
            for array in arrays.values():
                file.write(array.tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def read(path: Path) -> Any:
    """Return the document in a file, which may be damaged, or made to do harm.

    Nothing is executed, and no more memory used than the file is long.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is not as ``write`` left it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise CheckpointError(f"{path} is no checkpoint, or was cut off")
            header = file.read(length)
            entries = _json(path, header)
            places = _places(path, entries, size - 8 - length)
            body = file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    metadata = entries["__metadata__"]
    said = metadata["digest"].encode()
    found = hashlib.sha256(header.replace(said, _NO_DIGEST.encode(), 1))
    found.update(body)
    if found.hexdigest().encode() != said:
        raise CheckpointError(f"{path} is damaged: its content does not have the digest it names")
    arrays = {
        name: np.frombuffer(body, dtype, prod(shape), start).reshape(shape).copy()
        for name, (dtype, shape, start) in places.items()
    }
    try:
        return _unpacked(_json(path, metadata["training"]), arrays)
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {type_name(error)} in its metadata") from None


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# Documents


def _packed(value: Any, name: str, arrays: dict[str, Array]) -> Any:
    """Return a value as JSON, its arrays put aside."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_packed(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [_packed(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]}
    if isinstance(value, dict) and all(type(key) is str for key in value):
        items = {
            key: _packed(item, f"{name}/{key}" if name else key, arrays)
            for key, item in value.items()
        }
        return {"dict": items}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        little = array.dtype.newbyteorder("<")
        if little in _NAMES:
            while name in arrays or name == "__metadata__":
                name += "'"
            arrays[name] = np.asarray(array, little)
            return {"array" if isinstance(value, np.ndarray) else "scalar": name}
        raise CheckpointError(f"a checkpoint cannot hold {name}, which has dtype {array.dtype}")
    raise CheckpointError(f"a checkpoint cannot hold {name}, which is {type_name(value)}")


def _unpacked(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind: str
    content: Any
    [(kind, content)] = value.items() if len(value) == 1 else [("", None)]
    if kind == "tuple" and isinstance(content, list):
        return tuple([_unpacked(item, arrays) for item in content])
    if kind == "dict" and isinstance(content, dict):
        return {key: _unpacked(item, arrays) for key, item in content.items()}
    if kind == "array":
        return arrays[content]
    if kind == "scalar" and arrays[content].ndim == 0:
        return arrays[content][()]
    raise TypeError(kind)


# Headers


def _json(path: Path, text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is no JSON ({error})") from None


def _places(
    path: Path, entries: Any, size: int
) -> dict[str, tuple[np.dtype[Any], tuple[int, ...], int]]:
    """Return dtype, shape and start of each array; they lie one behind the other."""
    metadata = entries.pop("__metadata__", None) if isinstance(entries, dict) else None
    if (
        not isinstance(metadata, dict)
        or not all(isinstance(metadata.get(key), str) for key in ("digest", "training"))
        or not metadata["digest"].isascii()
        or len(metadata["digest"]) != len(_NO_DIGEST)
    ):
        raise CheckpointError(f"{path} is no checkpoint: its header lacks the metadata of one")
    places = {}
    end = 0
    for name, entry in entries.items():
        place = _place(entry, end)
        if place is None:
            raise CheckpointError(f"{path} is damaged: {entry!r:.200} cannot be the array {name}")
        dtype, shape = place
        places[name] = dtype, shape, end
        end += prod(shape) * dtype.itemsize
    if end != size:
        raise CheckpointError(
            f"{path} is damaged: it holds {size} bytes of arrays, its header speaks of {end}"
        )
    entries["__metadata__"] = metadata
    return places


def _place(entry: Any, start: int) -> tuple[np.dtype[Any], tuple[int, ...]] | None:
    if not isinstance(entry, dict):
        return None
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or dtype not in DTYPES or not isinstance(shape, list):
        return None
    # An empty array could still claim axes that NumPy has no integers for.
    if len(shape) > 64 or not all(type(axis) is int and 0 <= axis < 2**48 for axis in shape):
        return None
    kind = DTYPES[dtype]
    if prod(filter(None, shape)) * kind.itemsize >= 2**62:
        return None
    if entry.get("data_offsets") != [start, start + prod(shape) * kind.itemsize]:
        return None
    return kind, tuple(shape)
