"""What an index of passages can do, whichever engine holds it: search, and say what a score is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.manifest import Manifest

TIE_BREAKER = 0.5  # of the field that scores less
MOST_TERMS = 1024  # distinct ones in a query; what comes after them is not searched for


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; a higher `score` is better, and scores of different queries do not compare."""

    id: str
    title: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class TermScore:
    """What one term of the query adds to the score of one field (`title` or `text`) of a passage, and from what.

    The term stands `frequency` times in this field, whose `length` in terms compares with the `average_length`, and
    `passages_with_term` of all passages hold it in this field.
    """

    field: str
    term: str
    score: float
    frequency: float
    passages_with_term: int
    length: float
    average_length: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a passage scores as it does: the better field's sum of term scores and half of the other's."""

    hit: Hit
    terms: Sequence[TermScore]

    def field_score(self, field: str) -> float:
        """Return the sum of the scores of a field's terms."""
        return sum(term.score for term in self.terms if term.field == field)


def check_k(k: int) -> None:
    """Raise `OperatorError` unless `k` is a number of passages that one can ask for."""
    if k < 1:
        raise OperatorError(f"k must be at least 1, not {k}.")


class PassageIndex(Protocol):
    """An open index of passages; it may be searched from many threads at once.

    The score is BM25 (k1 1.2, b 0.75) over the title and over the text: the better one and half of the other. A word
    that the query has twice counts twice. The query is words alone: there is no syntax, any text is safe. Equal scores
    are in the order of the corpus. Fewer than `k` passages come back if fewer hold any of the words, and none if the
    query has no word or only stop words. `k` below 1 is an `OperatorError`, a search that fails a `RetrievalError`.
    """

    @property
    def manifest(self) -> Manifest:
        """What the index says of itself."""

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """Return the `k` best passages for `query`, best first."""

    def search_many(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """Return the passages of each of the queries, as `search` does."""

    def explain(self, query: str, k: int = 3) -> list[Explanation]:
        """Return the passages that `search` returns, each with what its score is made of."""
