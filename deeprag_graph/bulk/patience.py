"""Waiting for a server that has stopped answering in the middle of a run: say so, try again, go on."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from deeprag_graph.effects import Boundary
from deeprag_graph.errors import AwayError, ModelUnreachableError, OperatorError

WAIT_SECONDS: Final = 1800.0
_ATTEMPTS: Final = 6  # of one call that fails while others come back
_LONGEST_PAUSE: Final = 10.0


class Waiting:
    """Waits for servers, up to `seconds` at a time, and reports by `say`.

    A model server that never answered is the operator's mistake and is not waited for. The model, the second model and
    the index are waited for each by itself: that one of them answers says nothing of the others.
    """

    def __init__(self, say: Callable[[str], None], seconds: float = WAIT_SECONDS) -> None:
        self._say, self._seconds = say, seconds
        self._answered: set[Boundary] = set()
        self._away_since: dict[Boundary, float] = {}

    def worked(self, boundary: Boundary) -> None:
        """Note that a call has come back with a result."""
        self._answered.add(boundary)
        if (since := self._away_since.pop(boundary, None)) is not None:
            self._say(f"It answers again after {time.monotonic() - since:.0f} s; going on.")

    async def wait(self, boundary: Boundary, error: AwayError, attempt: int) -> bool:
        """Wait a while and return whether to try again: not what fails again and again while other calls come back.

        Raises:
            OperatorError: the server never answered, or not for too long.
        """
        if isinstance(error, ModelUnreachableError) and boundary not in self._answered:
            raise error
        now = time.monotonic()
        if boundary not in self._away_since:
            if attempt >= _ATTEMPTS:
                return False
            self._away_since[boundary] = now
            self._say(f"{error} Waiting for it; everything finished is kept, and Ctrl-C stops.")
        away = now - self._away_since[boundary]
        if away > self._seconds:
            raise OperatorError(f"{error} It has been away for {away:.0f} s; run the same command again to go on.")
        await asyncio.sleep(min(0.25 * 2**attempt, _LONGEST_PAUSE))
        return True
