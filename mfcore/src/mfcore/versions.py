"""Comparing release numbers, for the range of cores that a pack was made for."""

from __future__ import annotations

import re
from functools import cache


@cache
def version_in_range(version: str, specifiers: str) -> bool:
    """Return whether a release number is within specifiers such as ``>=1.2,<2``.

    Compares release numbers only, which is all that mfcore's own versions have.
    """
    have = _release(version)
    for specifier in filter(None, (part.strip() for part in specifiers.split(","))):
        match = re.match(r"(~=|===?|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?", specifier)
        if match is None:
            continue
        operator, text, wildcard = match.groups()
        want = _release(text)
        size = len(text.strip(".").split("."))
        same = have[:size] == want[:size] if wildcard else have == want
        if not {
            "==": same,
            "===": same,
            "!=": not same,
            "<": have < want,
            "<=": have <= want,
            ">": have > want,
            ">=": have >= want,
            "~=": have >= want and have[: size - 1] == want[: size - 1],
        }[operator]:
            return False
    return True


_LONGEST_RELEASE = 12


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in match[1].split(".")] if match else [0]
    return tuple((numbers + [0] * _LONGEST_RELEASE)[:_LONGEST_RELEASE])
