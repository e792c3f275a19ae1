"""What a node works with: a working copy of the state, the budgets, and the moves that the policy has written.

Nodes do no input or output of their own. They are generators that yield an effect, `Ask` or `Search`, and are sent its
result, so that one text of each node serves sync and async runs alike, and every driver may batch effects as it likes.
"""

import time
import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata

from deeprag_graph.errors import DeepRAGError
from deeprag_graph.events import CorrectionEvent, Event, FinalEvent, UsageEvent
from deeprag_graph.policies.base import COMPLETION_TOKENS, Completion, Prompt
from deeprag_graph.state import Context, State, StopReason, Usage, no_usage
from deeprag_graph.transcript import (
    ANSWER,
    FINAL,
    FOLLOW_UP,
    STOP,
    Decision,
    FinalAnswer,
    Move,
    MoveKind,
    Passage,
    Step,
    Trajectory,
    clean_line,
    one_line,
    parse_completion,
    passage_key,
)

QUESTION_CHARS = 4_000
# what one more step takes from its `decompose` on: decide, retrieve, answer, the next decompose, conclude
SUPERSTEPS_A_STEP = 5
_NAMES: dict[MoveKind, str] = {
    "subquery": "a subquery",
    "retrieve": "a decision to search",
    "answer": "an intermediate answer",
    "final": "the final answer",
    "malformed": "text without a marker",
}
_KEPT = (
    *("question", "steps", "final", "pending", "corrections", "usage"),
    *("stop_reason", "error", "seen_message", "ended", "approve_retrievals"),
)


class Ask(NamedTuple):
    """The effect of asking the policy; a `Completion` comes back, or a `DeepRAGError` is thrown in.

    `target` marks an answer from parameters, which is the target model's where two policies share the work.
    """

    prompt: Prompt
    target: bool = False


class Search(NamedTuple):
    """The effect of retrieving; `Found` comes back, or a `DeepRAGError` is thrown in.

    `k` is how many passages are wanted; None leaves it to the policy that will read them. `timeout` is in seconds.
    """

    query: str
    k: int | None
    timeout: float


class Found(NamedTuple):
    """What a retrieval brought; `cached` where the store had it."""

    passages: list[Passage]
    cached: bool = False


Effects = Generator[Ask | Search, Any, str]


class Turn:
    """A node's working copy of the state; `update` returns what the node has changed.

    Attributes:
        action: the decision that a search takes here, whatever the policy would; None where no search is under way.
        shared: whether parametric answers are written by another policy than the rest.
    """

    def __init__(self, state: State, context: Context, emit: Callable[[Event], None]) -> None:
        self.context, self.emit = context, emit
        self.concluding = self.shared = False
        self.action: Decision | None = state.get("action")
        self.supersteps: int = state.get("remaining_steps", SUPERSTEPS_A_STEP + 1)
        self.answer = self.answer_long = ""
        self._before, self._clock = dict(state), time.perf_counter()
        if question := _new_question(state):
            self._begin(question, state)
            return
        self.question: str = state["question"]
        self.steps: list[Step] = list(state["steps"])
        self.final: FinalAnswer | None = state["final"]
        self.pending: list[Move] = list(state["pending"])
        self.corrections: list[str] = list(state["corrections"])
        self.usage: Usage = state["usage"].copy()
        self.stop_reason: StopReason | None = state["stop_reason"]
        self.error: str | None = state["error"]
        self.seen_message: str = state["seen_message"]
        self.approve_retrievals: bool = state["approve_retrievals"]
        self.ended = False

    def _begin(self, question: str, state: State) -> None:
        self.question = question.strip().encode(errors="replace").decode()  # half a surrogate pair cannot be printed
        # kept for the episode: a run that a person resumes need not be told again that the person was to be asked
        self.approve_retrievals = self.context.approve_retrievals
        self.final, self.error, self.stop_reason = None, None, None
        self.steps, self.pending, self.corrections, self.usage = [], [], [], no_usage()
        self.seen_message, self.ended = _message_id(_last_human(state)), False
        if fault := question_fault(self.question):
            self.stop("invalid_question", fault)

    def update(self) -> dict[str, Any]:
        """Return the keys of the state that differ from what the node was given."""
        self.tick()
        end = self.output() if self.ended else {}
        now = {name: getattr(self, name) for name in _KEPT} | {"asked": self.question}
        return {name: now[name] for name in now if name not in self._before or self._before[name] != now[name]} | end

    def tick(self) -> None:
        """Add the time since the last tick to the usage."""
        now = time.perf_counter()
        self.usage["seconds"], self._clock = self.usage["seconds"] + now - self._clock, now

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let the time inside pass without counting it: nothing can be done while a server is away."""
        self.tick()
        try:
            yield
        finally:
            self._clock = time.perf_counter()

    @property
    def number(self) -> int:
        """The current step, counted from 1."""
        return max(1, len(self.steps))

    def time_is_up(self) -> bool:
        """Whether the time budget is spent."""
        self.tick()
        return self.usage["seconds"] >= self.context.max_seconds

    @property
    def seconds_left(self) -> float:
        """What the time budget leaves for a call."""
        return max(0.001, self.context.max_seconds - self.usage["seconds"])

    def amend(self, **changes: Any) -> None:
        """Replace the current step by one with `changes`; the state's own step is left as it was."""
        self.steps[-1] = cast(Step, {**self.steps[-1], **changes})

    def stop(self, reason: StopReason, error: str | None = None) -> None:
        """End the episode for `reason`; the first reason given is the one that stays."""
        self.stop_reason = self.stop_reason or reason
        self.error = self.error or error

    def correct(self, text: str) -> None:
        """Record that the policy was steered, for the narrative."""
        self.corrections.append(f"step {self.number}: {text}")
        self.emit(CorrectionEvent(type="correction", step=self.number, text=text))

    def close_step(self) -> None:
        """Forget a step that has no answer: a transcript can neither conclude nor ask on in the middle of one."""
        if self.steps and self.steps[-1]["answer"] is None:
            self.steps.pop()

    def finish(self) -> None:
        """End the episode: the answer is the final one, or the last intermediate one where a budget forbade to ask."""
        self.stop("malformed")
        self.ended = True
        if self.final is not None:
            self.answer, self.answer_long = self.final["short"], self.final["long"]
        elif self.steps and self.stop_reason not in ("policy_failed", "invalid_question"):
            self.answer = self.answer_long = self.steps[-1]["answer"] or ""
        self.tick()
        assert self.stop_reason is not None
        self.emit(
            FinalEvent(
                type="final",
                answer=self.answer,
                answer_long=self.answer_long,
                stop_reason=self.stop_reason,
                error=self.error,
            )
        )
        self.emit(UsageEvent(type="usage", usage=self.usage.copy()))

    def output(self) -> dict[str, Any]:
        """Return the keys that only the end of an episode sets: the answer, the cited passages and the message."""
        cited: dict[tuple[str, str, str], Passage] = {}
        for passage in (p for step in self.steps for p in step["passages"] or []):
            cited.setdefault(passage_key(passage), passage)
        tokens = self.usage["prompt_tokens"], self.usage["completion_tokens"]
        message = AIMessage(
            content=self.answer_long or self.error or "No answer was found.",
            usage_metadata=UsageMetadata(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens)),
            response_metadata={"answer": self.answer, "stop_reason": self.stop_reason},
        )
        return {
            "answer": self.answer,
            "answer_long": self.answer_long,
            "passages": list(cited.values()),
            "messages": [message],
        }

    def repeats(self, subquery: str) -> bool:
        """Whether the subquery has been asked before in this episode, letter case and punctuation aside."""
        return _key(subquery) in {_key(step["subquery"]) for step in self.steps}

    def next_move(
        self, expected: Sequence[MoveKind], lead: str = "", then: str | None = None
    ) -> Generator[Ask, Completion, Move | None]:
        """Return the next move of an expected kind: from what the policy has written already, or else by asking it.

        Args:
            expected: kinds that the node can consume; anything else is dropped and the narrative says so.
            lead: marker that the policy is made to go on from.
            then: marker to insist on when the first answer was of no use; None to ask only once.

        Returns:
            The move, or None: the budget is spent, the call failed (`stop_reason` is set), or nothing usable came.
        """
        if (move := self.take(expected)) is not None:
            return move
        for attempt_lead in (lead,) if then is None else (lead, then):
            if not (yield from self._ask(attempt_lead)):
                return None
            if (move := self.take(expected)) is not None:
                return move
        return None

    def take(self, expected: Sequence[MoveKind]) -> Move | None:
        """Return the next move that the policy has written already, if it is of an expected kind."""
        if not self.pending:
            return None
        move = self.pending.pop(0)
        if move["kind"] in expected:
            return move
        self.pending = []  # conditioned on text that does not enter the transcript
        quoted = f" ({move['text']!r})" if move["kind"] == "malformed" else ""
        due = " or ".join(_NAMES[kind] for kind in expected)
        self.correct(f"it wrote {_NAMES[move['kind']]}{quoted} where {due} was due; dropped")
        return None

    def _ask(self, lead: str) -> Generator[Ask, Completion, bool]:
        """Ask the policy to go on, within the budgets; True when it has, and `pending` holds what it wrote."""
        if reason := self._spent():
            self.stop(reason)
            return False
        self.usage["llm_calls"] += 1
        target = self.shared and self._due_from_parameters()
        try:
            completion = yield Ask(self._prompt(lead, target), target)
        except DeepRAGError as error:
            # the time that was left was the call's timeout
            if self.time_is_up():
                self.stop("max_seconds")
            else:
                self.stop("policy_failed", str(error))
            return False
        self.usage["prompt_tokens"] += completion.prompt_tokens
        self.usage["completion_tokens"] += completion.completion_tokens
        self.pending = parse_completion(completion.text, cut=completion.cut, p_retrieve=completion.p_retrieve)
        if target:
            self.pending = self.pending[:1]  # the rest is for the other policy to write
        if not self.pending:
            self.correct("nothing usable was written")
        return True

    def _due_from_parameters(self) -> bool:
        step = self.steps[-1] if self.steps else None
        return step is not None and step["decision"] == "parametric" and step["answer"] is None

    def _spent(self) -> StopReason | None:
        """The budget that forbids another call, if any; one call is kept for the conclusion."""
        usage, limits = self.usage, self.context
        if usage["llm_calls"] >= limits.max_llm_calls - (not self.concluding):
            return "max_llm_calls"
        if usage["prompt_tokens"] + usage["completion_tokens"] >= limits.max_tokens:
            return "max_tokens"
        return "max_seconds" if self.time_is_up() else None

    def _prompt(self, lead: str, target: bool) -> Prompt:
        left = self.context.max_tokens - self.usage["prompt_tokens"] - self.usage["completion_tokens"]
        return Prompt(
            trajectory=Trajectory(question=one_line(self.question), steps=list(self.steps), final=None),
            lead=lead,
            stop=self._stop(target),
            max_tokens=min(COMPLETION_TOKENS, left),
            timeout=self.seconds_left,
            instruction=self.context.instruction,
        )

    def _stop(self, target: bool) -> tuple[str, ...]:
        """Return where generation ends: where passages must come in, or before what would only be thrown away."""
        if target:
            return (*STOP, FOLLOW_UP, FINAL)
        return (*STOP, ANSWER) if self.shared or self.context.decision == "always" else STOP


def question_fault(question: str) -> str | None:
    """Return why a question cannot be asked, as a sentence; None where it can."""
    question = question.strip()
    if not one_line(question):
        return "The question is empty: ask something."
    if len(question) > QUESTION_CHARS:
        return f"The question has {len(question):,} characters; ask in at most {QUESTION_CHARS:,}."
    return None


def _new_question(state: State) -> str | None:
    """Return the question if this run brings a new one; None in the middle of an episode.

    A thread keeps its state between runs: a new human message, another question or an ended episode begin anew.
    """
    message = _last_human(state)
    if message is not None and _message_id(message) != state.get("seen_message", ""):
        return message.text or " "
    ended = state.get("ended", True)
    return str(state.get("question") or " ") if ended or state.get("question") != state.get("asked") else None


def _last_human(state: State) -> HumanMessage | None:
    messages = state.get("messages") or []
    return next((message for message in reversed(messages) if isinstance(message, HumanMessage)), None)


def _message_id(message: HumanMessage | None) -> str:
    """Return what tells a message from those of earlier turns, of which an application may have removed some."""
    return "" if message is None else message.id or message.text


def _key(subquery: str) -> str:
    """Return letters, their marks and digits; a subquery of other signs alone is its own key."""
    text = clean_line(subquery).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN") or text
