"""What a tree says of each decision, and the preference pairs that follow from it (Stage II).

The chain of calibration of the paper (arXiv 2502.01142, section 3.3): at each subquery of the optimal path the decision
that the path takes is preferred to the other one. A search with `calibrate="path"` goes on after the first right path
to learn what those others lead to, one with `calibrate="all"` tries every decision; labels say what is known.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from deeprag_graph.explore.search import deviations
from deeprag_graph.explore.tree import Node, Tree, trajectory, within
from deeprag_graph.transcript import Decision, Trajectory, make_step, one_line

LabelOutcome = Literal["right", "wrong", "unknown"]
Where = Literal["path", "all"]


class Label(NamedTuple):
    """What a decision leads to, as far as the search has seen it.

    Attributes:
        outcome: `right` if a right path goes through the decision, `wrong` if none does within the bounds of the
            search, `unknown` if parts of what is under it were not explored and the rest holds no right path.
        cost: retrievals of the least-cost right path through it, counted from the question on; None without one.
        least: whether no right path that costs less can have been missed; always so of `wrong`, never of `unknown`.
    """

    outcome: LabelOutcome
    cost: int | None
    least: bool


class Pair(NamedTuple):
    """Two decisions at one subquery, one to be preferred to the other.

    Attributes:
        node: the node that asks the subquery; `prefix` gives the trajectory up to it.
        depth: decisions before it.
        chosen: the decision to be preferred, `chosen_label` what it leads to.
        rejected: the other one, `rejected_label` what that leads to.
    """

    node: int
    depth: int
    chosen: Decision
    rejected: Decision
    chosen_label: Label
    rejected_label: Label


def label(tree: Tree, node: int, action: Decision) -> Label:
    """Return what a decision at the subquery of `node` leads to.

    A path that is malformed, or was made to conclude and is not right, is wrong. A retrieval that the retrieval bound
    withheld is wrong, like every longer path of which it is a part: a right path through it would cost more than the
    bound, hence more than any right one there is, so that no preference can be false for it. A failed branch and a
    decision that was not tried are unknown, and may hide a right path that costs less than one that was found.

    Raises:
        ValueError: `node` asks nothing: its branch ends there.
    """
    asking = tree["nodes"][node]
    if not asking["subquery"]:
        raise ValueError(f"node {node} asks nothing, so that there is no decision to label")
    below = list(within(tree, node, action))
    cost = min((n["cost"] for n in below if n["outcome"] == "right"), default=None)
    missed = list(_missed([(n, n["open"]) for n in below]))
    if not below:
        missed += _missed([(asking, [d for d in asking["open"] if d == action])])
    if cost is not None:
        return Label("right", cost, all(cost <= least for least in missed))
    return Label("unknown", None, least=False) if missed else Label("wrong", None, least=True)


def _missed(nodes: Iterable[tuple[Node, list[Decision]]]) -> Iterator[int]:
    """Yield, for each part that was not explored, the least that a right path there can cost."""
    for node, untried in nodes:
        if node["outcome"] == "failed":
            yield node["cost"]
        yield from (node["cost"] + (decision == "retrieve") for decision in untried)


def pairs(tree: Tree, where: Where) -> list[Pair]:
    """Return the preference pairs of a tree, in the order of its nodes; a search that is not `solved` gives none.

    Args:
        tree: the tree of a search.
        where: `path` gives one pair at each subquery of the optimal path, the decision it takes against the other
            whatever that leads to: the labels tell a dataset which are proven, and which are ties (arXiv 2502.01142,
            section 3.3). `all` gives one at every subquery where both labels are known and one decision is better: it
            alone is right, or costs less (the paper's ablation on all nodes).
    """
    if tree["outcome"] != "solved":
        return []
    if where == "path":
        return [_pair(tree, node, rejected) for node, rejected in deviations(tree)]
    asking = [node for node in tree["nodes"] if node["subquery"]]
    both = [_pair(tree, node, rejected) for node in asking for rejected in ("parametric", "retrieve")]
    return [pair for pair in both if _better(pair.chosen_label, pair.rejected_label)]


def _pair(tree: Tree, node: Node, rejected: Decision) -> Pair:
    chosen: Decision = "parametric" if rejected == "retrieve" else "retrieve"
    id = node["id"]
    return Pair(id, node["depth"], chosen, rejected, label(tree, id, chosen), label(tree, id, rejected))


def _better(one: Label, other: Label) -> bool:
    """Whether both are known, and the first leads to a right path that costs less than any of the other."""
    if one.cost is None or other.outcome == "unknown":
        return False
    return other.cost is None or (other.least and one.cost < other.cost)


def prefix(tree: Tree, node: int) -> Trajectory:
    """Return the trajectory up to the open subquery of `node`: what a policy that decides there has before it.

    Its transcript ends where the decision comes next, so that both transcripts of a pair begin with it. The question
    is in its legal form, one line, as in every prompt.

    Raises:
        ValueError: `node` asks nothing.
    """
    asking = tree["nodes"][node]
    before = trajectory(tree, node)
    step = make_step(asking["subquery"], p_retrieve=asking["p_retrieve"])
    return Trajectory(question=one_line(before["question"]), steps=[*before["steps"], step], final=None)
