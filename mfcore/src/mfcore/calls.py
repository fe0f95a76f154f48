"""How an operation's functions are called: positionally, with all that they ask for.

A step of a program finds the arguments of a function in a flat list of values, by their
slots there. Which slots, and in what order, is the same for all nodes of a class with as
many inputs, and is worked out once for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

from mfcore.asking import takes_many

if TYPE_CHECKING:
    from mfcore.operation import OperationSpec

FRAME = ("value", "saved", "rng", "training")
"""What a function may ask for beside hyperparameters and inputs, as ordered in a step's frame.

Two things are in no frame: ``grad``, which a step hands over itself, and ``wanted``, which is
the same in every run.
"""


class Call:
    """How an operation's forward, or its backward, is called with a given number of inputs.

    Parameters
    ----------
    spec : OperationSpec
        The operation.
    count : int
        How many inputs it has.
    wanted : sequence of bool, optional
        Which inputs need a gradient: then it is the backward that is called.

    Attributes
    ----------
    function : callable
        The function, taking everything that it asks for positionally: a backward the gradient
        first, and a variadic input spread out.
    pick : callable
        Picks the slots of these arguments, but not of the gradient, from a frame: the slots of
        what ``FRAME`` names, of the hyperparameters and of the inputs.
    takes_inputs_only : bool
        Whether the arguments are the inputs, in order.
    """

    __slots__ = ("function", "pick", "takes_inputs_only")

    def __init__(
        self, spec: OperationSpec, count: int, wanted: Sequence[bool] | None = None
    ) -> None:
        first = len(FRAME) + len(spec.hyperparameters)
        places = {name: [k] for k, name in enumerate((*FRAME, *spec.hyperparameters))}
        places |= {name: [first + k] for k, name in enumerate(spec.inputs)}
        places["saved_of_result"] = places["saved"]
        many = spec.inputs[-1] if spec.variadic else None
        if many is not None:
            places[many] = list(range(first + len(spec.inputs) - 1, first + count))
        asks = spec.forward_asks if wanted is None else spec.backward_asks
        picked = [place for name in asks for place in places.get(name, ())]
        self.takes_inputs_only = picked == list(range(first, first + count))
        self.pick: Callable[[Sequence[int]], Sequence[int]] = gather(picked)
        sizes = {name: len(where) for name, where in places.items()}
        self.function = _positional(spec, sizes, many, wanted)


def gather(slots: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return what reads the given slots of a list of values, as a tuple."""
    if not slots:
        return lambda _values: ()
    if len(slots) == 1:
        slot = slots[0]
        return lambda values: (values[slot],)
    return itemgetter(*slots)


def _positional(
    spec: OperationSpec, sizes: dict[str, int], many: str | None, wanted: Sequence[bool] | None
) -> Callable[..., Any]:
    """Return a function of positional arguments that calls an operation's as it is declared.

    ``many`` names what is taken as one tuple, unless the function takes it one by one:
    ``lambda grad, x0, x1: function(grad, (x0, x1), wanted=wanted)``.
    """
    if wanted is None:
        function, asks, keywords = spec.forward, spec.forward_asks, spec.forward_keywords
    else:
        assert spec.backward is not None
        function, asks, keywords = spec.backward, spec.backward_asks, spec.backward_keywords
    taken = [] if wanted is None else ["grad"]
    given: list[str] = []
    for name in asks:
        if name in ("grad", "wanted"):
            parts = [name]
        else:
            parts = [f"x{len(taken) + k}" for k in range(sizes[name])]
            taken += parts
        if name == many and not takes_many(function):
            given.append(f"({', '.join(parts)},)")
        elif name in keywords:
            given.append(f"{name}={parts[0]}")
        else:
            given += parts
    if given == taken:
        return function
    if given == [*taken, "wanted"]:  # as a default it costs no call of its own
        return FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            (wanted,),
            function.__closure__,
        )
    source = f"lambda {', '.join(taken)}: function({', '.join(given)})"
    made: Callable[..., Any] = eval(source, {"function": function, "wanted": wanted})
    return made
