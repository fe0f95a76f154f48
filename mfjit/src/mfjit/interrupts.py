"""Ctrl-C between steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C has been pressed meanwhile."""

    def __init__(self) -> None:
        self.pending = False

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """Handle the signal."""
        self.pending = True


@contextmanager
def deferred_interrupts() -> Iterator[Interrupts]:
    """Hold back Ctrl-C in a block that asks ``pending`` now and then, and raise it at its end.

    Only Python's own handler is held back, in the main thread, where it would raise; who has
    set another handler goes on with that.

    Raises
    ------
    KeyboardInterrupt
        When the block has ended, if Ctrl-C was pressed meanwhile.
    """
    interrupts = Interrupts()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupts.pending:
        raise KeyboardInterrupt
