"""The file of a checkpoint: a safetensors file with a digest over all of it, read as hostile.

Arrays are stored as in model files; what is no array is JSON in the header's metadata, as
hyperparameters are written there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mfcore import Array
from mfcore.atomic_file import write_parts
from mfcore.errors import GraphFormatError, ModelFileError
from mfcore.json_values import Decoder, Encoder
from mfcore.safetensors import Tensors, encoded, opened, parsed, read_header
from mfoptim.errors import CheckpointError

_DIGEST, _TRAINING = "digest", "training"
_NO_DIGEST = "0" * 64
_BLOCK = 2**20


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document so that the file is there whole or not at all, whatever happens.

    Parameters
    ----------
    path : Path
        Where to; what is there is replaced.
    document : mapping of str to object
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

    def store(array: Array, label: str) -> str:
        while label in arrays:
            label += "_"
        arrays[label] = array
        return label

    encoder, packed = Encoder(store, data_only=True), {}
    for name, value in document.items():
        try:
            packed[name] = encoder.value(value, name)
        except GraphFormatError as error:
            raise CheckpointError(f"a checkpoint cannot hold {name}: {error}") from None
    metadata = {_DIGEST: _NO_DIGEST, _TRAINING: json.dumps(packed, allow_nan=False)}
    digest = hashlib.sha256()
    for place, part in enumerate(encoded(arrays, metadata)):
        if place:  # the first is the header's length
            digest.update(part)
    write_parts(path, encoded(arrays, {**metadata, _DIGEST: digest.hexdigest()}))


def read(path: Path) -> dict[str, Any]:
    """Return the document in a file, which may be damaged, or made to do harm.

    Nothing is executed, and no more memory used than the file is long.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is not as ``write`` left it.
    """
    try:
        with opened(path) as file:
            header = read_header(file)
            said, training = (header.metadata.get(key) for key in (_DIGEST, _TRAINING))
            if said is None or training is None:
                raise CheckpointError(f"{path} is no checkpoint: its header says nothing of one")
            if _digest(file, said) != said:
                raise CheckpointError(
                    f"{path} is damaged: its content does not have the digest it names"
                )
            content = parsed(training, "its metadata")
            if not isinstance(content, dict):
                raise CheckpointError(f"{path} is no checkpoint: its metadata are no object")
            decoder = Decoder(Tensors(file, header), data_only=True)
            return {name: decoder.value(value) for name, value in content.items()}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (ModelFileError, GraphFormatError) as error:
        raise CheckpointError(f"{path} is damaged, or no checkpoint: {error}") from error


def _digest(file: BinaryIO, said: str) -> str:
    """Return the digest of a file as it was before its digest was written into it."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    digest = hashlib.sha256(file.read(length).replace(said.encode(), _NO_DIGEST.encode(), 1))
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
