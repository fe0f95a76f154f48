"""The safetensors file format: named arrays and some text in one file, read and written.

A file is the length of its header (8 bytes, little-endian), the header (JSON: for each
array its dtype, shape and place; under ``__metadata__`` strings by name), then the arrays'
bytes without gaps. The format is that of the package ``safetensors``, version 0.x
(https://huggingface.co/docs/safetensors). Nothing in a file is believed before it is
checked, and nothing is allocated that the file itself is not large enough for.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from errno import EINVAL
from reprlib import Repr
from typing import Any, BinaryIO

import attrs
import numpy as np

from mfcore.errors import GraphFormatError, ModelFileError
from mfcore.node import Array

LONGEST_HEADER = 100_000_000
"""More bytes than this are no header; the limit is the format's own."""

_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_CODES = {(dtype.kind, dtype.itemsize): code for code, dtype in _DTYPES.items()}
MOST_AXES = 64
"""Of NumPy's arrays."""
_METADATA = "__metadata__"
_ENTRY = frozenset(("dtype", "shape", "data_offsets"))


_REPR = Repr()
_REPR.maxstring, _REPR.maxother, _REPR.maxlevel = 80, 80, 2


def brief(value: Any) -> str:
    """Show a value of a file in a message, however large or deep it is."""
    return _REPR.repr(value)


@attrs.frozen
class Tensor:
    """Where one array of a file is: its dtype, its shape, and its bytes from the file's start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


@attrs.frozen
class Header:
    """What a file holds, read and checked; the arrays are still in the file."""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]


class Tensors:
    """The arrays of an open file by name; each is given once, so that none is multiplied."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._all = header.tensors
        self._left = dict(header.tensors)

    def __call__(self, name: str) -> Array:
        """Read the array of a name.

        Raises
        ------
        GraphFormatError
            If there is none, or it was given before, or cannot be read.
        """
        tensor = self._left.pop(name, None)
        if tensor is None:
            problem = "used twice" if name in self._all else "not in the file"
            raise GraphFormatError(f"the array {brief(name)} is {problem}")
        try:
            return read_tensor(self._file, tensor)
        except ModelFileError as error:
            raise GraphFormatError(f"the array {brief(name)}: {error}") from None


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read, which must be a regular one: others may never end, or never begin.

    Raises
    ------
    OSError
        If it cannot be opened, or is none.
    """
    if stat.S_ISREG(os.stat(path).st_mode) or os.path.isdir(path):
        return open(path, "rb")
    raise OSError(EINVAL, "it is no regular file", os.fspath(path))


def encoded(
    tensors: Mapping[str, Array], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Return the parts of a file, one by one: the header's length, the header, the arrays.

    Parameters
    ----------
    tensors : mapping of str to array
        Arrays of bools, integers or floats of at most 64 bits.
    metadata : mapping of str to str
        Text to go with them.

    Raises
    ------
    ModelFileError
        If the format cannot hold an array, or a name.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    place = 0
    # The largest elements first: then all are aligned, as readers that map the file want.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in names:
        if name == _METADATA:
            raise ModelFileError(f"an array cannot be called {_METADATA!r}")
        array = tensors[name]
        code = _CODES.get((array.dtype.kind, array.dtype.itemsize))
        if code is None:
            raise ModelFileError(
                f"{name!r} is of dtype {array.dtype}, which the safetensors format cannot hold"
            )
        header[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [place, place + array.nbytes],
        }
        place += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > LONGEST_HEADER:
        raise ModelFileError(
            f"the description takes {len(text)} bytes; the format holds {LONGEST_HEADER}"
        )
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        array = tensors[name]
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        yield little.reshape(-1).view(np.uint8).data


def read_header(file: BinaryIO) -> Header:
    """Read and check what an open file says about itself.

    Raises
    ------
    ModelFileError
        If it is no safetensors file, or a damaged one.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ModelFileError(
            f"no safetensors file, or a truncated one: it has {size} bytes, and its header "
            f"alone would take {8 + length}"
        )
    if length > LONGEST_HEADER:
        raise ModelFileError(f"its header takes {length} bytes, more than {LONGEST_HEADER}")
    header = parsed(file.read(length), "its header")
    if not isinstance(header, dict):
        raise ModelFileError("its header is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ModelFileError(f"{_METADATA} in its header must hold strings by name")
    begin = 8 + length
    tensors = {name: _tensor(name, entry, begin) for name, entry in header.items()}
    _check_places(tensors, begin, size)
    return Header(metadata, tensors)


def read_tensor(file: BinaryIO, tensor: Tensor) -> Array:
    """Read one array of an open file, in the byte order of this machine."""
    file.seek(tensor.start)
    try:
        data = bytearray(tensor.stop - tensor.start)
    except MemoryError:  # a file with holes may be larger than any memory
        raise ModelFileError(
            f"of shape {tensor.shape} it takes {tensor.stop - tensor.start} bytes, for which there "
            f"is no memory"
        ) from None
    if file.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise ModelFileError("the file became shorter while it was read")
    array = np.frombuffer(data, tensor.dtype).reshape(tensor.shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def parsed(text: bytes | str, what: str) -> Any:
    """Parse JSON in which no key stands twice, no number is NaN, and all text is text.

    Raises
    ------
    ModelFileError
        If it is anything else.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        check_text(text, value)
        return value
    except ModelFileError as error:
        raise ModelFileError(f"{what}: {error}") from None
    except RecursionError:
        raise ModelFileError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise ModelFileError(f"{what} is no JSON: {error}") from None


def check_text(text: str, value: Any) -> None:
    """Check that there is no half of a character in JSON, where it can stand, and nowhere else.

    Parameters
    ----------
    text : str
        The JSON.
    value : object
        What it stands for.

    Raises
    ------
    UnicodeError
        If there is.
    """
    if "\\ud" in text or "\\uD" in text:  # seldom; the other half may follow
        json.dumps(value, ensure_ascii=False).encode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ModelFileError(f"the key {brief(twice)} stands there twice")
    return found


def _no_constant(text: str) -> Any:
    raise ModelFileError(f"{text} is no JSON")


def is_size(value: Any) -> bool:
    """Whether a value of a file is an integer from 0 on that fits 63 bits."""
    return type(value) is int and 0 <= value < 2**63


def _tensor(name: str, entry: Any, begin: int) -> Tensor:
    try:
        return _described(entry, begin)
    except ModelFileError as error:
        raise ModelFileError(f"the array {brief(name)} {error}") from None


def _described(entry: Any, begin: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _ENTRY:
        raise ModelFileError(f"must be described by {', '.join(sorted(_ENTRY))}")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise ModelFileError(f"is of dtype {brief(code)}; those known are {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MOST_AXES or not all(map(is_size, shape)):
        raise ModelFileError(f"has no shape of at most {MOST_AXES} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_size, offsets)):
        raise ModelFileError("must have two data_offsets")
    start, stop = offsets
    if math.prod(filter(None, shape)) * dtype.itemsize >= 2**63:  # NumPy has no such axes
        raise ModelFileError(f"has no shape: {brief(shape)} is too large")
    if math.prod(shape) * dtype.itemsize != stop - start:
        raise ModelFileError(
            f"of shape {tuple(shape)} and dtype {dtype} does not take the {stop - start} bytes "
            f"that it is given"
        )
    return Tensor(dtype, tuple(shape), begin + start, begin + stop)


def _check_places(tensors: Mapping[str, Tensor], begin: int, size: int) -> None:
    """Check that the arrays follow each other and fill the file, no byte shared or left."""
    place = begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != place:
            what = "overlaps another" if tensor.start < place else "leaves a gap before it"
            raise ModelFileError(f"the array {brief(name)} {what}")
        place = tensor.stop
    if place != size:
        raise ModelFileError(
            f"truncated, or longer than it says: its arrays end at byte {place} of {size}"
        )
