"""Several servers of one model behind one policy: a question stays with its server, and moves on if that is away."""

import hashlib
import time
from collections.abc import Iterator, Sequence

from deeprag_graph.errors import AwayError
from deeprag_graph.policies.base import Completion, Policy, Prompt

_AVOIDED_SECONDS = 10.0  # a server that was away is asked last for so long


class PooledPolicy(Policy):
    """Shares questions out among policies that are alike.

    All calls for one question go to one server, whose prefix cache then holds what they have in common. The order in
    which a question takes the servers is drawn from its text (rendezvous hashing), so that every process agrees.

    Raises what the last of the servers raises where all are away.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = list(policies)
        self._avoided: dict[int, float] = {}
        self.passages = policies[0].passages

    @property
    def kind(self) -> str:
        """What each of the policies is."""
        return self._policies[0].kind

    @property
    def name(self) -> str:
        """The model's name, as the first server has it."""
        return self._policies[0].name

    def complete(self, prompt: Prompt) -> Completion:
        """Ask the question's server, or the next one that is not away."""
        away: AwayError | None = None
        for number in self._order(prompt):
            try:
                return self._policies[number].complete(prompt)
            except AwayError as error:
                away = self._avoid(number, error)
        assert away is not None
        raise away

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask the question's server, or the next one that is not away, without blocking the event loop."""
        away: AwayError | None = None
        for number in self._order(prompt):
            try:
                return await self._policies[number].acomplete(prompt)
            except AwayError as error:
                away = self._avoid(number, error)
        assert away is not None
        raise away

    def _order(self, prompt: Prompt) -> Iterator[int]:
        question, now = prompt.trajectory["question"], time.monotonic()

        def place(number: int) -> tuple[bool, bytes]:
            drawn = hashlib.blake2b(f"{number} {question}".encode(errors="replace"), digest_size=8).digest()
            return self._avoided.get(number, 0.0) > now, drawn

        yield from sorted(range(len(self._policies)), key=place)

    def _avoid(self, number: int, error: AwayError) -> AwayError:
        self._avoided[number] = time.monotonic() + _AVOIDED_SECONDS
        return error
