"""How an operation's functions are called: positionally, with all that they ask for.

A step of a program finds the arguments of a function in a flat list of values, by their
slots there. Which slots, and in what order, is the same for all nodes of a class with as
many inputs, and is worked out once for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mfcore.asking import takes_many

if TYPE_CHECKING:
    from mfcore.operation import OperationSpec

FRAME = ("grad", "value", "saved", "wanted", "rng", "training")
"""What a function may ask for beside hyperparameters and inputs, as ordered in a step's frame."""


class Call:
    """How an operation's function is called with a given number of inputs.

    Attributes
    ----------
    function : callable
        The function, taking everything that it asks for positionally, a variadic input
        spread out.
    pick : callable
        Picks the slots of these arguments from a frame: the slots of what ``FRAME``
        names, of the hyperparameters and of the inputs.
    takes_inputs_only : bool
        Whether the arguments are the inputs, in order.
    wanted : int
        Slot of the literal ``wanted``, -1 where the function does not ask for it.
    """

    __slots__ = ("function", "pick", "takes_inputs_only", "wanted")

    def __init__(
        self,
        spec: OperationSpec,
        function: Callable[..., Any],
        asks: tuple[str, ...],
        keywords: frozenset[str],
        count: int,
    ) -> None:
        first = len(FRAME) + len(spec.hyperparameters)
        places = {name: [k] for k, name in enumerate((*FRAME, *spec.hyperparameters))}
        places |= {name: [first + k] for k, name in enumerate(spec.inputs)}
        places["saved_of_result"] = places["saved"]
        many = spec.inputs[-1] if spec.variadic else None
        if many is not None:
            places[many] = list(range(first + len(spec.inputs) - 1, first + count))
        picked = [place for name in asks for place in places[name]]
        self.takes_inputs_only = picked == list(range(first, first + count))
        self.pick: Callable[[Sequence[int]], Sequence[int]] = gather(picked)
        self.wanted = -1
        starred = takes_many(function)
        self.function = function
        if keywords or (many in asks and not starred):
            size = count - len(spec.inputs) + 1
            self.function = _positional(function, asks, keywords, many, size, starred)


def gather(slots: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """Return what reads the given slots of a list of values, as a sequence."""
    if not slots:
        return _nothing
    if len(slots) == 1:
        return itemgetter(slice(slots[0], slots[0] + 1))
    return itemgetter(*slots)


def _nothing(_values: Sequence[Any]) -> tuple[()]:
    return ()


def _positional(
    function: Callable[..., Any],
    asks: tuple[str, ...],
    keywords: frozenset[str],
    many: str | None,
    size: int,
    starred: bool,
) -> Callable[..., Any]:
    """Return a function of positional arguments that calls ``function`` as it is declared.

    ``many`` names the parameter that takes ``size`` of the arguments, as one tuple unless it
    is ``starred``: ``lambda x0, x1, x2, x3: function(x0, (x1, x2), wanted=x3)``.
    """
    taken: list[str] = []
    given: list[str] = []
    for name in asks:
        parts = [f"x{len(taken) + k}" for k in range(size if name == many else 1)]
        taken += parts
        if name == many and not starred:
            given.append(f"({', '.join(parts)},)")
        elif name in keywords:
            given.append(f"{name}={parts[0]}")
        else:
            given += parts
    source = f"lambda {', '.join(taken)}: function({', '.join(given)})"
    made: Callable[..., Any] = eval(source, {"function": function})
    return made
