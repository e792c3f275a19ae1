"""What a policy is: something that goes on with a transcript from where it ends."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from deeprag_graph.prompts import INSTRUCTION
from deeprag_graph.transcript import STOP, Trajectory, opening

COMPLETION_TOKENS = 256  # one call: a few lines; a model that rambles is cut here


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request to go on with a transcript.

    `trajectory`, `lead` and `instruction` make the request, and no policy may ignore them. `stop`, `max_tokens` and
    `timeout` spare work that would be thrown away, and a policy may ignore those that its model does not take: what is
    written beyond `stop` is not read, tokens are counted after each call, and the graph ends an async call in time.

    Attributes:
        trajectory: the question and the steps so far.
        lead: a marker that the policy is made to go on from, beyond the one the transcript may end in.
        stop: strings at which generation ends; the policy may leave them out of the completion.
        max_tokens: most tokens of the completion.
        timeout: seconds the call may take.
        instruction: what the model is told of the format.
    """

    trajectory: Trajectory
    lead: str = ""
    stop: tuple[str, ...] = STOP
    max_tokens: int = COMPLETION_TOKENS
    timeout: float | None = None
    instruction: str = INSTRUCTION

    @property
    def opening(self) -> str:
        """The marker in which the prompt ends, with which `Completion.text` therefore begins."""
        return opening(self.trajectory, self.lead)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy wrote.

    Attributes:
        text: the completion, preceded by the prompt's `opening` (or by the marker the policy chose instead).
        cut: the token limit ended it.
        prompt_tokens: length of the prompt in tokens, 0 where the policy does not know.
        completion_tokens: length of the completion in tokens.
        p_retrieve: probability of retrieving, by the character offset in `text` of the line with the decision.
    """

    text: str
    cut: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    p_retrieve: Mapping[int, float] = field(default_factory=dict)


class Policy(ABC):
    """Who writes the model's segments.

    Attributes:
        passages: how many passages of a retrieval it reads well; the paper's 3.
    """

    passages: int = 3

    @property
    def kind(self) -> str:
        """What the policy is called without its model: `chat`, `completion`, `local`, or the name of its class."""
        return type(self).__name__.removesuffix("Policy").lower()

    @property
    def name(self) -> str:
        """What the policy's model is called, "" where it has none."""
        return ""

    @abstractmethod
    def complete(self, prompt: Prompt) -> Completion:
        """Go on with the transcript; `Prompt` says which of its fields a policy may ignore.

        Raises:
            PolicyError: the call gave no completion.
            OperatorError: it never will until somebody mends the settings (no server, wrong key, unknown model).
        """

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Go on with the transcript without blocking the event loop."""
        return await asyncio.to_thread(self.complete, prompt)
