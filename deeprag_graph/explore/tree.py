"""The tree of a search, as it is kept in a ledger: nodes by number, passages once, and how to read paths from it.

A node is a state of the decision process (arXiv 2502.01142, section 3.1) together with what the policy does there: it
asks a subquery, under which hang at most two nodes, one for each atomic decision, or it ends.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Literal

from typing_extensions import TypedDict

from deeprag_graph.state import Usage
from deeprag_graph.transcript import Decision, FinalAnswer, Passage, Step, Trajectory

ROOT: Final = 0
NONE: Final = -1  # no node

NodeOutcome = Literal["inner", "right", "wrong", "malformed", "failed"]
Outcome = Literal["solved", "unsolved", "failed"]
SearchStop = Literal[
    "solved",
    "exhausted",
    "max_steps",
    "max_retrievals",
    "max_llm_calls",
    "max_tokens",
    "max_seconds",
    "recursion_limit",
    "failed",
]

SEARCH_STOPS: Final[dict[SearchStop, str]] = {
    "solved": "a right path was found, and none costs less",
    "exhausted": "every path was tried, and none is right",
    "max_steps": "every path within the bounds was tried; some would have been longer than the step bound",
    "max_retrievals": "every path within the bounds was tried; some would have cost more than the retrieval bound",
    "max_llm_calls": "the bound of LLM calls was reached",
    "max_tokens": "the token bound was reached",
    "max_seconds": "the time bound was reached",
    "recursion_limit": "LangGraph's recursion limit was near; give the run a higher `recursion_limit`",
    "failed": "a call or a retrieval failed, so that a right path may have been missed; `error` says why",
}


class StoredPassage(TypedDict):
    """A passage of a tree; `id` is the retriever's, or made up where it gives none or the same for two texts."""

    id: str
    title: str
    text: str


class Node(TypedDict):
    """A state of the decision process and what the policy does there.

    Attributes:
        id: its place in `Tree.nodes`, in the order in which the nodes were computed.
        parent: the node whose subquery was decided and answered on the way here, -1 at the root.
        action: that decision, "" at the root.
        answer: the intermediate answer that it brought.
        passages: ids of the passages it brought in, best first; `scores` are the retriever's.
        depth: decisions on the way.
        cost: retrievals on the way.
        subquery: what the policy asks next, "" where the branch ends.
        p_retrieve: the policy's own probability of retrieving at `subquery`, where it is known.
        written: the decision that the policy itself wrote at `subquery`, "" where it wrote none.
        open: decisions at `subquery` that were not tried, though the bounds allow them.
        outcome: `inner`, or how the branch ended: `right` and `wrong` are of the final answer.
        final: the final answer, both parts "" where there is none.
        stop_reason: why the branch ended, "" at an inner node.
        error: what failed, or "".
        corrections: how the policy was steered back to the format on the last step.
        llm_calls: model calls that this node took; none where its text was written before.
    """

    id: int
    parent: int
    action: Literal["retrieve", "parametric", ""]
    answer: str
    passages: list[str]
    scores: list[float | None]
    depth: int
    cost: int
    subquery: str
    p_retrieve: float | None
    written: Literal["retrieve", "parametric", ""]
    open: list[Decision]
    outcome: NodeOutcome
    final: FinalAnswer
    stop_reason: str
    error: str
    corrections: list[str]
    llm_calls: int


class Tree(TypedDict):
    """A search: the question, what was found, and all that was computed on the way.

    `best` is the node that ends the least-cost right path, -1 if there is none; `cost` its retrievals. In a failed
    search it is the cheapest right path that was found, and a cheaper one may be. `usage` is of the whole search.
    `gold_passages` says that retrievals were answered with the gold passages first.
    """

    question: str
    outcome: Outcome
    stop_reason: SearchStop
    cost: int | None
    best: int
    error: str
    gold_passages: bool
    usage: Usage
    nodes: list[Node]
    passages: list[StoredPassage]


def path(tree: Tree, node: int) -> list[Node]:
    """Return the nodes from the root to `node`, both included."""
    nodes = []
    while node != NONE:
        nodes.append(tree["nodes"][node])
        node = nodes[-1]["parent"]
    return nodes[::-1]


def children(tree: Tree, node: int) -> dict[Decision, Node]:
    """Return the nodes under `node` by the decision that leads to them."""
    return {n["action"]: n for n in tree["nodes"][node + 1 :] if n["parent"] == node and n["action"]}


def within(tree: Tree, node: int, action: Decision) -> Iterator[Node]:
    """Yield all nodes under one decision of `node`, in the order in which they were computed."""
    inside: set[int] = set()
    for n in tree["nodes"][node + 1 :]:
        if n["parent"] in inside or (n["parent"] == node and n["action"] == action):
            inside.add(n["id"])
            yield n


def trajectory(tree: Tree, node: int) -> Trajectory:
    """Return the trajectory that ends in `node`: its steps, and its final answer if it has one."""
    texts = {passage["id"]: passage for passage in tree["passages"]}
    nodes = path(tree, node)
    steps = [_step(before, after, texts) for before, after in pairwise(nodes)]
    final = nodes[-1]["final"]
    return Trajectory(question=tree["question"], steps=steps, final=final if final["long"] else None)


def _step(before: Node, after: Node, texts: dict[str, StoredPassage]) -> Step:
    assert after["action"]
    found = zip(after["passages"], after["scores"], strict=True)
    return Step(
        subquery=before["subquery"],
        decision=after["action"],
        p_retrieve=before["p_retrieve"],
        passages=[Passage(id=id, title=texts[id]["title"], text=texts[id]["text"], score=score) for id, score in found],
        answer=after["answer"] or None,
    )
