"""Which ids a build has seen, in little memory: Wikipedia's 21 million numbers must not cost gigabytes."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Self

_LONG_RUN = 1000  # consecutive numbers that are kept as a range of their own


class SeenIds:
    """A set of ids that grows: consecutive numbers are kept as ranges, any other id as a hash of 64 bits.

    Two of 21 million ids that are no numbers share a hash with a probability of 1e-5.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []  # of the long runs, ascending
        self._stops: list[int] = []
        self._run = range(0)  # the run that may still grow
        self._hashes: set[int] = set()

    def add(self, id: str) -> bool:
        """Add an id; False if it was there."""
        number = _number(id)
        if number is None:
            return self._add_hash(_hash(id))
        if number in self._run or self._in_long_run(number) or (self._hashes and _hash(id) in self._hashes):
            return False
        if number == self._run.stop and self._run:
            self._run = range(self._run.start, number + 1)
        else:
            self._close_run()
            self._run = range(number, number + 1)
        return True

    def save(self, file: Path) -> None:
        """Write the set to a file: the number of long runs, their starts, their stops, the hashes; 8 bytes each."""
        self._close_run()
        with file.open("wb") as out:
            for numbers in ([len(self._starts)], self._starts, self._stops, self._hashes):
                array("Q", numbers).tofile(out)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a set that `save` wrote."""
        numbers = array("Q", file.read_bytes())
        seen, runs = cls(), numbers[0]
        seen._starts, seen._stops = list(numbers[1 : 1 + runs]), list(numbers[1 + runs : 1 + 2 * runs])
        seen._hashes = set(numbers[1 + 2 * runs :])
        return seen

    def _add_hash(self, key: int) -> bool:
        before = len(self._hashes)
        self._hashes.add(key)
        return len(self._hashes) > before

    def _in_long_run(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[place]

    def _close_run(self) -> None:
        """Keep the growing run as a range if it is long, else its numbers one by one."""
        if len(self._run) < _LONG_RUN:
            self._hashes.update(_hashes_of(self._run))
        else:
            place = bisect_right(self._starts, self._run.start)
            self._starts.insert(place, self._run.start)
            self._stops.insert(place, self._run.stop)
        self._run = range(0)


def _number(id: str) -> int | None:
    """Return the number that an id spells, if no other id spells it and it has at most 18 digits."""
    return int(id) if len(id) < 19 and id.isascii() and id.isdigit() and (id[0] != "0" or id == "0") else None


def _hash(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


def _hashes_of(numbers: Iterable[int]) -> Iterable[int]:
    return (_hash(str(number)) for number in numbers)
