"""Errors of compiling engines."""

from __future__ import annotations

from mfcore.errors import EngineError


class CannotLower(EngineError):
    """A graph cannot be lowered to primitives; the message names the node and the reason."""


class CannotCompile(CannotLower):
    """A lowered program holds an instruction that an engine has no code for."""
