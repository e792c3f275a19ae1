"""The decision process as LangGraph sees it: state, input, output, run-time context, budgets and stop reasons."""

from typing import Annotated, Final, Literal

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic makes no schema of typing's own before Python 3.12

from deeprag_graph.prompts import INSTRUCTION
from deeprag_graph.transcript import Decision, FinalAnswer, Move, Passage, Step

DecisionMode = Literal["policy", "always", "never"] | Annotated[float, Field(ge=0, le=1)]

StopReason = Literal[
    "concluded",
    "repeated_subquery",
    "max_steps",
    "max_llm_calls",
    "max_tokens",
    "max_seconds",
    "malformed",
    "policy_failed",
    "retrieval_failed",
    "invalid_question",
]

STOP_REASONS: Final[dict[StopReason, str]] = {
    "concluded": "the policy gave the final answer by itself",
    "repeated_subquery": "the policy asked the same subquery again, so it was made to conclude",
    "max_steps": "the budget of steps was spent, so the policy was made to conclude",
    "max_llm_calls": "the budget of LLM calls was spent; the last one was kept for the conclusion",
    "max_tokens": "the token budget was spent; the answer, if there is one, is the last intermediate one",
    "max_seconds": "the time budget was spent; the answer, if there is one, is the last intermediate one",
    "malformed": "the policy did not follow the format, and corrections did not help",
    "policy_failed": "a model call failed; `error` says why",
    "retrieval_failed": "a retrieval failed during exploration; `error` says why",
    "invalid_question": "the question was empty or too long",
}


class Usage(TypedDict):
    """What an answer cost. `seconds` is the time spent in nodes: waiting for a person's approval does not count."""

    llm_calls: int
    retrievals: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


def no_usage() -> Usage:
    """Return the usage of an episode that has not begun."""
    return Usage(llm_calls=0, retrievals=0, prompt_tokens=0, completion_tokens=0, seconds=0.0)


class Context(BaseModel):
    """Settings of one run, given as `context=`; they bound the episode and choose how decisions are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: DecisionMode = Field(
        "policy",
        title="Decision mode",
        description="Who decides whether to retrieve: 'policy' (the model), 'always', 'never', or a threshold between "
        "0 and 1: retrieve where the model's probability of retrieving is at least that.",
        json_schema_extra={"langgraph_nodes": ["decide"]},
    )
    k: int | None = Field(
        None,
        ge=1,
        le=100,
        title="Passages per retrieval",
        description="How many passages one retrieval brings in. Empty: what suits the policy, 3 or fewer.",
        json_schema_extra={"langgraph_nodes": ["retrieve"]},
    )
    approve_retrievals: bool = Field(
        False,
        title="Approve retrievals",
        description="Interrupt before each retrieval; resume with true to retrieve, anything else to answer without.",
        json_schema_extra={"langgraph_nodes": ["retrieve"]},
    )
    max_steps: int = Field(8, ge=1, title="Step budget", description="Most subqueries before the final answer is due.")
    max_retrievals: int = Field(
        8, ge=0, title="Retrieval budget", description="Most retrievals; later decisions to retrieve become parametric."
    )
    max_llm_calls: int = Field(
        24, ge=1, title="LLM call budget", description="Most model calls, corrections and the conclusion included."
    )
    max_tokens: int = Field(
        60_000, ge=1, title="Token budget", description="Prompt and completion tokens; checked before each call."
    )
    max_seconds: float = Field(
        600.0, gt=0, title="Time budget", description="Seconds in nodes; a model call gets what is left as its timeout."
    )
    instruction: str = Field(
        INSTRUCTION,
        title="Instruction",
        description="What the model is told of the format before the question.",
        json_schema_extra={
            "langgraph_nodes": ["decompose", "decide", "answer", "conclude"],
            "langgraph_type": "prompt",
        },
    )


class Input(TypedDict, total=False):
    """What a run is given: a question, or messages of which the last human one, if it is new, is the question."""

    question: str
    messages: Annotated[list[AnyMessage], add_messages]


class Output(TypedDict):
    """What a run returns; `passages` are those cited, in the order of retrieval, each once."""

    question: str
    answer: str
    answer_long: str
    stop_reason: StopReason
    error: str | None
    steps: list[Step]
    passages: list[Passage]
    corrections: list[str]
    usage: Usage
    messages: Annotated[list[AnyMessage], add_messages]


class State(Output):
    """The state of an episode: the output so far and what only the nodes need.

    `pending` holds moves that the model has written and no node has consumed. `asked`, `seen_message` (an id) and
    `ended` tell a run with a new question from one that goes on: a thread keeps its state between runs. `action` is the
    decision that exploration takes at the current subquery, in place of the policy.
    """

    final: FinalAnswer | None
    pending: list[Move]
    seen_message: str
    asked: str
    ended: bool
    approve_retrievals: bool
    action: Decision | None
    remaining_steps: RemainingSteps
