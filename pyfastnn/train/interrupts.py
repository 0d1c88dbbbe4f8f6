"""Ctrl-C as a question that is asked between steps, instead of an exception anywhere."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class HeldInterrupts:
    """Context in which Ctrl-C sets ``pressed``; pressed a second time it raises KeyboardInterrupt as usual.

    Counters and weights must not drift apart, which an exception between two statements would let them. Only Python's own handler, in the
    main thread, is replaced: whoever installed another one keeps it.

    Attributes
    ----------
    pressed : bool
        Whether Ctrl-C was pressed in the context.
    fits : int
        How many fits share it.
    """

    def __init__(self) -> None:
        self.pressed = False
        self.fits = 1
        self._before: Any = None

    def __enter__(self) -> HeldInterrupts:
        """Replace the handler."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handler back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            signal.default_int_handler(number, frame)
        self.pressed = True
