"""The typed events that the graph streams in mode `custom`, in the order in which things happen."""

from typing import Literal

from typing_extensions import TypedDict

from deeprag_graph.state import StopReason, Usage
from deeprag_graph.transcript import Decision, Passage

DecidedBy = Literal["policy", "threshold", "always", "never", "budget", "person", "search"]


class SubqueryEvent(TypedDict):
    """The policy has asked the subquery of step `step` (counted from 1)."""

    type: Literal["subquery"]
    step: int
    text: str


class DecisionEvent(TypedDict):
    """The atomic decision is taken; `p_retrieve` is None where the policy gives no probabilities."""

    type: Literal["decision"]
    step: int
    decision: Decision
    p_retrieve: float | None
    by: DecidedBy


class PassagesEvent(TypedDict):
    """A retrieval has come back; `cached` says that the store had it, `error` why there is nothing."""

    type: Literal["passages"]
    step: int
    passages: list[Passage]
    cached: bool
    error: str | None


class AnswerEvent(TypedDict):
    """The intermediate answer of a step."""

    type: Literal["answer"]
    step: int
    text: str


class CorrectionEvent(TypedDict):
    """The policy left the format and was steered back; `text` says how."""

    type: Literal["correction"]
    step: int
    text: str


class FinalEvent(TypedDict):
    """The episode has ended, with an answer or without one."""

    type: Literal["final"]
    answer: str
    answer_long: str
    stop_reason: StopReason
    error: str | None


class UsageEvent(TypedDict):
    """What the episode cost."""

    type: Literal["usage"]
    usage: Usage


Event = SubqueryEvent | DecisionEvent | PassagesEvent | AnswerEvent | CorrectionEvent | FinalEvent | UsageEvent
