"""Errors of the tracers."""

from __future__ import annotations

from mfcore.errors import MiniFlowError


class TracerOptionError(MiniFlowError, ValueError):
    """A tracer was given an option that it cannot use."""


class RecordingError(MiniFlowError, ValueError):
    """A recording cannot be read or written: the message names the file, and the line."""
