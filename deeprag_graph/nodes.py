"""The five nodes of the decision process, as generators over a `Turn`; each returns the name of the next node.

    START → decompose → decide ─┬─ retrieve → answer ─┬→ decompose …
                                └──────────── answer ─┘
            decompose (terminate) → conclude → END

A node consumes what the policy has already written before it asks for more, so that an answer costs one model call a
retrieval and one more. The termination decision σ is taken in `decompose`, the atomic decision δ in `decide`
(arXiv 2502.01142, section 3.1).
"""

from collections.abc import Callable, Mapping
from typing import Final

from langgraph.graph import END
from langgraph.types import interrupt

from deeprag_graph.errors import DeepRAGError
from deeprag_graph.events import AnswerEvent, DecidedBy, DecisionEvent, PassagesEvent, SubqueryEvent
from deeprag_graph.transcript import FINAL, FOLLOW_UP, Decision, FinalAnswer, MoveKind, make_step
from deeprag_graph.turn import SUPERSTEPS_A_STEP, Effects, Found, Search, Turn


def decompose(turn: Turn) -> Effects:
    """Write the next subquery, or terminate: the termination decision σ."""
    turn.close_step()
    finishing = bool(turn.pending) and turn.pending[0]["kind"] == "final"
    # LangGraph's batch and chains allow 25 supersteps unless told otherwise: concluding beats its exception
    full = len(turn.steps) >= turn.context.max_steps or turn.supersteps <= SUPERSTEPS_A_STEP
    if full and not finishing:
        turn.stop("max_steps")
    if turn.stop_reason:
        return "conclude"
    move = yield from turn.next_move(("subquery", "final"), then=FINAL if turn.steps else FOLLOW_UP)
    if move is None:
        turn.stop("malformed")
    elif move["kind"] == "final":
        turn.stop("concluded")
        if move["cut"]:
            turn.correct("the final answer was cut by the token limit; asked for again")
        else:
            turn.final = FinalAnswer(long=move["text"], short=move["short"])
    elif turn.repeats(move["text"]):
        turn.correct(f"the subquery was asked before ({move['text']!r}); made to conclude")
        turn.stop("repeated_subquery")
    else:
        turn.steps.append(make_step(move["text"]))
        turn.emit(SubqueryEvent(type="subquery", step=turn.number, text=move["text"]))
        return "decide"
    return "conclude"


def decide(turn: Turn) -> Effects:
    """Take the atomic decision δ: retrieve, or answer from the policy's own parameters."""
    expected: tuple[MoveKind, ...] = ("retrieve", "answer")
    if turn.action is not None or turn.context.decision in ("always", "never"):
        move = turn.take(expected)  # what is decided already need not be asked for
    else:
        move = yield from turn.next_move(expected)
    if turn.stop_reason:
        return "conclude"
    written: Decision | None = None if move is None else "retrieve" if move["kind"] == "retrieve" else "parametric"
    p_retrieve = move["p_retrieve"] if move else None
    decision, by = _choose(turn, written, p_retrieve)
    if decision == "retrieve" and turn.usage["retrievals"] >= turn.context.max_retrievals:
        decision, by = "parametric", "budget"
    if decision != written or (turn.shared and decision == "parametric"):
        turn.pending = []  # written after the other decision, or by the other policy
    elif move and written == "parametric":
        turn.pending.insert(0, move)
    return _decided(turn, decision, p_retrieve, by)


def _decided(turn: Turn, decision: Decision, p_retrieve: float | None, by: DecidedBy) -> str:
    turn.amend(decision=decision, p_retrieve=p_retrieve, passages=[] if decision == "parametric" else None)
    turn.emit(DecisionEvent(type="decision", step=turn.number, decision=decision, p_retrieve=p_retrieve, by=by))
    return "retrieve" if decision == "retrieve" else "answer"


def _choose(turn: Turn, written: Decision | None, p_retrieve: float | None) -> tuple[Decision, DecidedBy]:
    mode = turn.context.decision
    if turn.action is not None:
        return turn.action, "search"
    if mode == "always":
        return "retrieve", "always"
    if mode == "never":
        return "parametric", "never"
    if mode != "policy":
        if p_retrieve is not None:
            return ("retrieve" if p_retrieve >= float(mode) else "parametric"), "threshold"
        turn.correct("p(retrieve) is not known here; the policy's own decision stands")
    if written is None:
        turn.correct("no decision was written; retrieving")
        return "retrieve", "policy"
    return written, "policy"


def retrieve(turn: Turn) -> Effects:
    """Bring in passages for the subquery; a search that fails is recorded and brings none."""
    step = turn.steps[-1]
    if turn.approve_retrievals:
        request = {"step": turn.number, "subquery": step["subquery"], "p_retrieve": step["p_retrieve"]}
        if interrupt({"type": "approve_retrieval", **request}) is not True:  # whatever is no clear yes is a no
            return _decided(turn, "parametric", step["p_retrieve"], "person")
    if turn.time_is_up():
        turn.stop("max_seconds")
        return "conclude"
    turn.usage["retrievals"] += 1
    found, error = Found([]), None
    try:
        found = yield Search(step["subquery"], turn.context.k, turn.seconds_left)
    except DeepRAGError as failure:
        error = str(failure)
        turn.correct(f"the retrieval failed: {error}")
        if turn.action is not None:  # a search must not take an outage for an index that has nothing
            turn.stop("retrieval_failed", error)
            return "conclude"
    turn.amend(passages=found.passages)
    turn.emit(
        PassagesEvent(type="passages", step=turn.number, passages=found.passages, cached=found.cached, error=error)
    )
    return "answer"


def answer(turn: Turn) -> Effects:
    """Write the intermediate answer, from the passages or from the policy's parameters."""
    move = yield from turn.next_move(("answer",))
    if move is None:
        turn.stop("malformed")
        return "conclude"
    if move["cut"]:
        turn.correct("the answer was cut by the token limit")
    turn.amend(answer=move["text"])
    turn.emit(AnswerEvent(type="answer", step=turn.number, text=move["text"]))
    return "decompose"


def conclude(turn: Turn) -> Effects:
    """End the episode: with the policy's final answer, or with one it is made to give while the budget allows."""
    turn.concluding = True
    turn.pending = []
    turn.close_step()
    if turn.final is None and turn.stop_reason not in ("policy_failed", "invalid_question"):
        move = yield from turn.next_move(("final",), lead=FINAL)
        if move is not None:
            turn.final = FinalAnswer(long=move["text"], short=move["short"])
            if move["cut"]:
                turn.correct("the final answer was cut by the token limit")
    turn.finish()
    return END


NODES: Final[Mapping[str, Callable[[Turn], Effects]]] = {
    node.__name__: node for node in (decompose, decide, retrieve, answer, conclude)
}
NEXT: Final[Mapping[str, tuple[str, ...]]] = {
    "decompose": ("decide", "conclude"),
    "decide": ("retrieve", "answer", "conclude"),
    "retrieve": ("answer", "conclude"),
    "answer": ("decompose", "conclude"),
    "conclude": (END,),
}
