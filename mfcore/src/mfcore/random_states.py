"""The state of random generators as plain JSON, and back from files that are not believed."""

from __future__ import annotations

from typing import Any

import numpy as np

_KINDS = {
    kind.__name__: kind
    for kind in (
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.MT19937,
        np.random.Philox,
        np.random.SFC64,
    )
}


def random_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a generator: dictionaries, lists, strings and integers."""
    state: dict[str, Any] = _plain(rng.bit_generator.state)
    return state


def generator_in(state: Any) -> np.random.Generator:
    """Return a new generator in a state that ``random_state`` has returned.

    Raises
    ------
    ValueError
        If it is none, or not that of one of NumPy's own generators.
    """
    name = state.get("bit_generator") if isinstance(state, dict) else None
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"it is of none of the generators {', '.join(_KINDS)}")
    rng = np.random.Generator(_KINDS[name]())
    set_random_state(rng, state)
    return rng


def set_random_state(rng: np.random.Generator, state: Any) -> None:
    """Set a generator to a state that may come from a file.

    Raises
    ------
    ValueError
        If it is none of this kind of generator.
    """
    kind = type(rng.bit_generator).__name__
    try:
        given = _in_the_form_of(rng.bit_generator.state, state)
        # NumPy itself would read outside of its arrays where a position is wrong.
        _check_positions(given)
        rng.bit_generator.state = given
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"it is no random state for {kind}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value


def _in_the_form_of(form: Any, value: Any) -> Any:
    """Return a value with arrays where the form has some; raise where it is another form."""
    if isinstance(form, dict):
        if not isinstance(value, dict) or value.keys() != form.keys():
            raise ValueError
        return {key: _in_the_form_of(form[key], value[key]) for key in form}
    if isinstance(form, np.ndarray):
        most = np.iinfo(form.dtype).max
        if not isinstance(value, list) or len(value) != form.size:
            raise ValueError
        if not all(type(number) is int and 0 <= number <= most for number in value):
            raise ValueError
        return np.array(value, form.dtype).reshape(form.shape)
    right = value == form if isinstance(form, str) else type(value) is int and 0 <= value < 2**128
    if not right:
        raise ValueError
    return value


def _check_positions(state: dict[str, Any]) -> None:
    inner = state.get("state")
    if isinstance(inner, dict) and "pos" in inner and inner["pos"] > len(inner["key"]):
        raise ValueError
    if "buffer_pos" in state and state["buffer_pos"] > len(state["buffer"]):
        raise ValueError
