"""Names of parametrised tests, alike in every process."""

from __future__ import annotations

import re


def without_address(value):
    """Return a value as text, without the address that Python shows of some objects."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
