"""Uniform-cost search over the nodes of the graph: which branch is worked on next, and what came of the last one.

Algorithm 1 of the paper (arXiv 2502.01142, binary tree search), as pure functions over a `Search`:

    search = begin(question, answers)
    state = opening(search)                                 # the root: ask the first subquery
    while state is not None:
        ... run nodes from state["action"] on until the next subquery is asked or the branch ends ...
        search = absorb(search, state, context)             # a node more in the tree
        state = branch(search, context)                     # the next decision to try, or None: the search is over

A decision is applied only when its turn comes: the cheapest first, then the deepest, then the oldest. So every node
that is computed costs no less than the ones before it, and the first right answer is of least cost. What the policy
wrote beyond its own decision is kept with the node and used when that decision is tried.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, cast

from pydantic import Field
from typing_extensions import TypedDict

from deeprag_graph.errors import OperatorError
from deeprag_graph.explore.tree import (
    NONE,
    Node,
    NodeOutcome,
    Outcome,
    SearchStop,
    StoredPassage,
    Tree,
    children,
    path,
    trajectory,
    within,
)
from deeprag_graph.matching import F1_THRESHOLD, MatchMode, matches
from deeprag_graph.state import Context, State, Usage, no_usage
from deeprag_graph.transcript import Decision, FinalAnswer, Move, Passage, make_step
from deeprag_graph.turn import Turn

SELECT: Final = "select"  # where a branch goes when it has asked the next subquery, or ended
_DECISIONS: Final[tuple[Decision, Decision]] = ("parametric", "retrieve")
_SPENT: Final = ("max_llm_calls", "max_tokens", "max_seconds")
# A branch that ends for these is not made to conclude: what it would say is no path of the policy's, or costs a call
# that the bounds do not allow.
_DEAD: Final = (*_SPENT, "malformed", "policy_failed", "retrieval_failed", "invalid_question")

Calibration = Literal["none", "path", "all"]


class ExploreContext(Context):
    """Settings of one search; bounds of steps and retrievals hold for each path, all others for the whole search."""

    decision: Literal["policy"] = Field(
        "policy", title="Decision mode", description="Nobody decides in a search: both decisions are tried."
    )
    approve_retrievals: Literal[False] = Field(
        False, title="Approve retrievals", description="A search asks nobody: its retrievals are many."
    )
    max_steps: int = Field(6, ge=1, title="Step bound", description="Most subqueries of a path.")
    max_retrievals: int = Field(6, ge=0, title="Retrieval bound", description="Most retrievals of a path.")
    max_llm_calls: int = Field(64, ge=1, title="LLM call bound", description="Most model calls of the whole search.")
    max_tokens: int = Field(
        400_000, ge=1, title="Token bound", description="Prompt and completion tokens of the whole search."
    )
    max_seconds: float = Field(1800.0, gt=0, title="Time bound", description="Seconds of the whole search.")
    match: MatchMode = Field(
        "exact",
        title="Matching",
        description="When an answer is right: 'exact' (normalised as in HotpotQA, over all aliases), 'substring' (it "
        "holds a gold answer), 'f1' (at least the F1 threshold).",
    )
    f1_threshold: float = Field(
        F1_THRESHOLD, gt=0, le=1, title="F1 threshold", description="Least F1 of a right answer where matching is 'f1'."
    )
    calibrate: Calibration = Field(
        "none",
        title="Calibration",
        description="Go on once a right path is found, to learn what the other decisions lead to: 'path' tries them at "
        "each subquery of the optimal path, 'all' everywhere.",
    )


class Search(TypedDict):
    """A search under way: the tree, the gold answers that only `absorb` looks at, and what is written ahead.

    `pending` has a list for each node of the tree: moves after the node's subquery that no node has consumed. `at` is
    the node whose decision is being tried.
    """

    tree: Tree
    answers: list[str]
    pending: list[list[Move]]
    at: int


def opening(question: str) -> State:
    """Return the state in which the first subquery is asked."""
    return cast(State, {"question": question})


def begin(question: str, answers: Sequence[str], *, gold_passages: bool = False) -> Search:
    """Return a search that has computed nothing yet.

    Raises:
        OperatorError: the answers are none, or a single string, whose letters would all be right.
    """
    if answers is None or isinstance(answers, str):
        raise OperatorError("A search needs `answers`: a list of the gold answer and its aliases.")
    tree = Tree(
        question=question,
        outcome="unsolved",
        stop_reason="exhausted",
        cost=None,
        best=NONE,
        error="",
        gold_passages=gold_passages,
        usage=no_usage(),
        nodes=[],
        passages=[],
    )
    return Search(tree=tree, answers=list(answers), pending=[], at=NONE)


def reroute(goto: str, turn: Turn) -> str:
    """Return where a branch goes from a node that names `goto`: back to the search at a subquery or at its end."""
    if goto in ("decide", "__end__") or (goto == "conclude" and turn.stop_reason in _DEAD):
        return SELECT
    return goto


def absorb(search: Search, state: State, context: ExploreContext) -> Search:
    """Return the search with what came of a branch: a node more, or the end of it all where a bound was reached."""
    tree, at = search["tree"], search["at"]
    before = tree["nodes"][at]["cost"] if at != NONE else 0
    spent = state["usage"]
    usage = Usage(**{**spent, "retrievals": tree["usage"]["retrievals"] + spent["retrievals"] - before})
    tree = Tree(**{**tree, "usage": usage, "question": state["question"]})
    if stop := _spent(state, context):
        return {**search, "tree": Tree(**{**tree, "stop_reason": stop})}
    passages, node = _node(search, state, context, llm_calls=usage["llm_calls"] - search["tree"]["usage"]["llm_calls"])
    nodes = [*tree["nodes"], node]
    if at != NONE:
        nodes[at] = Node(**{**nodes[at], "open": [d for d in nodes[at]["open"] if d != node["action"]]})
    if tree["best"] == NONE and node["outcome"] == "right":
        tree = Tree(**{**tree, "best": node["id"], "cost": node["cost"]})
    tree = Tree(**{**tree, "nodes": nodes, "passages": [*tree["passages"], *passages]})
    return {**search, "tree": tree, "pending": [*search["pending"], state["pending"]]}


def _spent(state: State, context: ExploreContext) -> SearchStop | None:
    """Return the bound that kept a branch from going on; a branch that got to its end is none of its business."""
    if state["stop_reason"] in _SPENT:
        return cast(SearchStop, state["stop_reason"])
    if state["stop_reason"] in (None, "malformed") or state["final"] is not None or state["error"]:
        return None
    usage = state["usage"]  # it was to conclude
    if usage["llm_calls"] >= context.max_llm_calls:
        return "max_llm_calls"
    if usage["prompt_tokens"] + usage["completion_tokens"] >= context.max_tokens:
        return "max_tokens"
    return "max_seconds" if usage["seconds"] >= context.max_seconds else None


def _node(search: Search, state: State, context: ExploreContext, llm_calls: int) -> tuple[list[StoredPassage], Node]:
    """Return the node that a branch has come to, and the passages that the tree does not hold yet."""
    tree, at = search["tree"], search["at"]
    parent = tree["nodes"][at] if at != NONE else None
    depth = parent["depth"] + 1 if parent else 0
    step = state["steps"][depth - 1] if parent else None
    asked = state["steps"][depth]["subquery"] if len(state["steps"]) > depth else ""
    cost = parent["cost"] + (state.get("action") == "retrieve") if parent else 0
    ids, stored = _store(tree, (step["passages"] or []) if step else [])
    ahead = state["pending"][0] if state["pending"] and asked else None
    decisions = _DECISIONS if cost < context.max_retrievals else _DECISIONS[:1]
    before = len(_corrections(tree, at))
    return stored, Node(
        id=len(tree["nodes"]),
        parent=at,
        action=(state.get("action") or "") if parent else "",
        answer=(step["answer"] or "") if step else "",
        passages=ids,
        scores=[passage["score"] for passage in (step["passages"] or [])] if step else [],
        depth=depth,
        cost=cost,
        subquery=asked,
        p_retrieve=ahead["p_retrieve"] if ahead else None,
        written=_written(ahead),
        open=list(decisions) if asked else [],
        outcome="inner" if asked else _outcome(state, search["answers"], context),
        final=state["final"] or FinalAnswer(long="", short=""),
        stop_reason="" if asked else state["stop_reason"] or "malformed",
        error=state["error"] or "",
        corrections=state["corrections"][before:],
        llm_calls=llm_calls,
    )


def _outcome(state: State, answers: list[str], context: ExploreContext) -> NodeOutcome:
    if state["error"]:
        return "failed"
    if state["final"] is None or state["stop_reason"] == "malformed":
        return "malformed"
    right = matches(state["final"]["short"], answers, context.match, context.f1_threshold)
    return "right" if right else "wrong"


def _written(ahead: Move | None) -> Literal["retrieve", "parametric", ""]:
    if ahead is None or ahead["kind"] not in ("retrieve", "answer"):
        return ""
    return "retrieve" if ahead["kind"] == "retrieve" else "parametric"


def _store(tree: Tree, passages: list[Passage]) -> tuple[list[str], list[StoredPassage]]:
    """Return the ids of passages in the tree, and those of them that are new to it."""
    known = {(p["title"], p["text"]): p["id"] for p in tree["passages"]}
    taken = set(known.values())
    ids, stored = [], []
    for passage in passages:
        key = passage["title"], passage["text"]
        if key not in known:
            id, n = passage["id"], len(taken)
            while not id or id in taken:
                id, n = f"{passage['id']}#{n}", n + 1
            known[key] = id
            taken.add(id)
            stored.append(StoredPassage(id=id, title=passage["title"], text=passage["text"]))
        ids.append(known[key])
    return ids, stored


def branch(search: Search, context: ExploreContext) -> tuple[Search, State | None]:
    """Return the search with the next decision chosen, and the state in which it is tried; None at the end."""
    chosen = _next(search["tree"], context)
    if chosen is None:
        return {**search, "tree": conclude(search["tree"])}, None
    node, action = chosen
    tree = search["tree"]
    steps = [*trajectory(tree, node["id"])["steps"], make_step(node["subquery"])]
    usage = Usage(**{**tree["usage"], "retrievals": node["cost"]})
    state: dict[str, Any] = {
        "question": tree["question"],
        "asked": tree["question"],
        "steps": steps,
        "pending": search["pending"][node["id"]],
        "final": None,
        "corrections": _corrections(tree, node["id"]),
        "usage": usage,
        "stop_reason": None,
        "error": None,
        "seen_message": "",
        "ended": False,
        "approve_retrievals": False,
        "action": action,
    }
    return {**search, "at": node["id"]}, cast(State, state)


def _corrections(tree: Tree, node: int) -> list[str]:
    return [text for n in path(tree, node) for text in n["corrections"]]


def _next(tree: Tree, context: ExploreContext) -> tuple[Node, Decision] | None:
    """Return the open decision that is cheapest, then deepest, then oldest, among those that are worth trying."""
    if tree["stop_reason"] in (*_SPENT, "recursion_limit"):
        return None
    found = _worthwhile(tree, context)
    return min(found, key=_order, default=None)


def _order(entry: tuple[Node, Decision]) -> tuple[int, int, int]:
    node, action = entry
    return node["cost"] + (action == "retrieve"), -node["depth"], node["id"]


def _worthwhile(tree: Tree, context: ExploreContext) -> list[tuple[Node, Decision]]:
    if tree["best"] == NONE or context.calibrate == "all":
        return _open(tree["nodes"])
    if context.calibrate == "none":
        return []
    for node, other in deviations(tree):
        below = list(within(tree, node["id"], other))
        entries = _open(below) if below else [(node, other)] if other in node["open"] else []
        if entries and not any(n["outcome"] == "right" for n in below):
            return entries
    return []


def _open(nodes: list[Node]) -> list[tuple[Node, Decision]]:
    return [(node, action) for node in nodes for action in node["open"]]


def deviations(tree: Tree) -> list[tuple[Node, Decision]]:
    """Return each subquery of the optimal path with the decision that the path does not take there."""
    optimal = path(tree, tree["best"])
    return [(node, "parametric" if after["action"] == "retrieve" else "retrieve") for node, after in pairwise(optimal)]


def conclude(tree: Tree) -> Tree:
    """Return the tree with its outcome.

    A path that is right counts as solved only if no branch failed that might have held a cheaper one.
    """
    failed = [node for node in tree["nodes"] if node["outcome"] == "failed"]
    in_doubt = [node for node in failed if tree["cost"] is None or node["cost"] < tree["cost"]]
    outcome: Outcome = "failed" if in_doubt else "unsolved" if tree["best"] == NONE else "solved"
    stop: SearchStop = tree["stop_reason"]
    if outcome != "unsolved":
        stop = outcome
    elif stop == "exhausted":
        stop = _bound(tree)
    return Tree(**{**tree, "outcome": outcome, "stop_reason": stop, "error": in_doubt[0]["error"] if in_doubt else ""})


def fail(tree: Tree, reason: str) -> Tree:
    """Return the tree of a search that something unforeseen has ended."""
    return Tree(**{**tree, "outcome": "failed", "stop_reason": "failed", "error": reason})


def _bound(tree: Tree) -> SearchStop:
    """Return the bound that paths ran into in a search that has tried them all, or `exhausted`."""
    if any(node["stop_reason"] == "max_steps" for node in tree["nodes"]):
        return "max_steps"
    withheld = any(n["subquery"] and "retrieve" not in children(tree, n["id"]) for n in tree["nodes"])
    return "max_retrievals" if withheld else "exhausted"
