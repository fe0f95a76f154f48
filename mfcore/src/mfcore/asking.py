"""Functions that ask by name for what they need, as those of operations and optimizers do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from mfcore.errors import DefinitionError


def static_function(cls: type, name: str, where: str) -> Callable[..., Any] | None:
    """Return the function behind a static method of a class, ``None`` where there is none.

    Parameters
    ----------
    cls : type
        The class.
    name : str
        The method's name.
    where : str
        What the class is, for messages: ``"operation Linear"``.

    Raises
    ------
    DefinitionError
        If the class has the method, but not as a static one.
    """
    for base in cls.__mro__:
        if name in vars(base):
            raw = vars(base)[name]
            if not isinstance(raw, staticmethod):
                raise DefinitionError(f"{where}: {name} must be a @staticmethod")
            return raw.__func__
    return None


def asked_names(
    function: Any, provided: Iterable[str], where: str, many: str | None = None
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the parameters of a function, and which of them are keyword-only.

    Parameters
    ----------
    function : callable
        A plain Python function.
    provided : iterable of str
        What it may ask for.
    where : str
        What it belongs to, for messages.
    many : str, optional
        What may be taken one by one, as ``*terms``.

    Raises
    ------
    DefinitionError
        If the function asks for a name that is not ``provided``.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        raise DefinitionError(f"{where}: {function!r} must be a plain Python function")
    count, keywords = code.co_argcount, code.co_kwonlyargcount
    names: tuple[str, ...] = code.co_varnames[: count + keywords]
    keyword_only = frozenset(names[count:])
    if code.co_flags & inspect.CO_VARKEYWORDS:
        raise DefinitionError(f"{where}: {function.__name__} must ask by name, not with **keywords")
    if takes_many(function):
        star = code.co_varnames[count + keywords]
        if star != many:
            raise DefinitionError(
                f"{where}: {function.__name__} takes *{star}, but only a variadic input can be"
            )
        names = (*names[:count], star, *names[count:])
    provided = set(provided)
    for name in names:
        if name not in provided:
            raise DefinitionError(
                f"{where}: {function.__name__} asks for {name!r}, which nothing provides; "
                f"it may ask for {', '.join(sorted(provided))}"
            )
    return names, keyword_only


def takes_many(function: Callable[..., Any]) -> bool:
    """Whether a function takes arguments one by one, as ``*terms``."""
    return bool(function.__code__.co_flags & inspect.CO_VARARGS)
