"""A search as it is shown, on a page or in a terminal: what hangs under each node, tried or not, and in which words."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, cast

from deeprag_graph.explore.tree import NONE, Node, NodeOutcome, Outcome, StoredPassage, path
from deeprag_graph.ledger import Record
from deeprag_graph.state import STOP_REASONS
from deeprag_graph.transcript import Decision

DECISIONS: Final[tuple[Decision, Decision]] = ("parametric", "retrieve")  # the search tries the cheaper one first
WORDS: Final[dict[NodeOutcome, str]] = {
    "inner": "goes on",
    "right": "right",
    "wrong": "wrong",
    "malformed": "malformed",
    "failed": "failed",
}
SIGNS: Final[dict[Outcome, NodeOutcome]] = {"solved": "right", "unsolved": "wrong", "failed": "failed"}
_OVER = "not tried: the search was over before its turn"
_BOUND = "not tried: beyond the retrieval bound"


class Branch(NamedTuple):
    """A decision at a node's subquery: the node it leads to, or why it was not tried."""

    parent: int
    decision: Decision
    node: Node | None
    why: str


class View:
    """A record, with what a drawing of it asks for.

    Attributes:
        branches: of each node, the decisions at its subquery.
        marked: the nodes on the path to the right answer that was found first.
        below: of each node, how many nodes hang under it.
        numbers: of each passage, its number on the page, from 1.
        path_name: what that path is: it is optimal only if nothing failed that might have led to a cheaper one.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.nodes = record["nodes"]
        self.branches = _branches(self.nodes)
        self.marked = frozenset(node["id"] for node in self.path)
        self.below = [0] * len(self.nodes)
        for node in reversed(self.nodes[1:]):  # a node comes after its parent
            self.below[node["parent"]] += self.below[node["id"]] + 1
        self.numbers = {passage["id"]: number for number, passage in enumerate(record["passages"], 1)}
        self.path_name = "optimal path" if record["outcome"] == "solved" else "right path"

    @property
    def path(self) -> list[Node]:
        """The nodes on the path to the right answer that was found first; none where none was found."""
        return path(self.record, self.record["best"])

    def passages(self, node: Node) -> Iterator[tuple[StoredPassage, float | None]]:
        """Yield the passages that a node brought in, with their scores."""
        stored = self.record["passages"]
        for id, score in zip(node["passages"], node["scores"], strict=True):
            yield stored[self.numbers[id] - 1], score


def _branches(nodes: list[Node]) -> list[list[Branch]]:
    under: list[dict[str, Node]] = [{} for _ in nodes]
    for node in nodes:
        if node["parent"] != NONE:
            under[node["parent"]][node["action"]] = node
    return [list(_at(node, found)) for node, found in zip(nodes, under, strict=True)]


def _at(node: Node, found: Mapping[str, Node]) -> Iterator[Branch]:
    for decision in DECISIONS if node["subquery"] else ():
        child = found.get(decision)
        why = "" if child else _OVER if decision in node["open"] else _BOUND
        yield Branch(node["id"], decision, child, why)


def count(number: int, word: str) -> str:
    """Return a number with its word, which is put in the plural where it has to be."""
    return f"{number:,} {word if number == 1 else word + 's'}"


def calls(node: Node) -> str:
    """Return what a node took of the model."""
    return count(node["llm_calls"], "model call") if node["llm_calls"] else "no model call: written ahead"


def stop_words(reason: str) -> str:
    """Return the sentence for a node's stop reason."""
    return cast("dict[str, str]", STOP_REASONS).get(reason, reason)


def forecast(node: Node) -> list[str]:
    """Return what is known of the policy's own mind at a node's subquery."""
    probability, own = node["p_retrieve"], node["written"]
    notes = [] if probability is None else [f"p(retrieve) = {probability:.2f}"]
    return [*notes, f"the policy itself: {own}"] if own else notes
