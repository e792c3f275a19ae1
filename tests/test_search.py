"""Searching: what a retriever brings, and what the store of earlier retrievals may and may not do."""

from typing import Any

import numpy
import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langgraph.store.memory import InMemoryStore

from deeprag_graph.search import PassageCache, asearch, search


class Shelf(BaseRetriever):
    """Has one document, of the tenant it belongs to."""

    tenant: str = "a"
    document: Document | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [self.document or Document(f"{query}, for {self.tenant}")]


class Fingerprinted(Shelf):
    """Says what it searches."""

    @property
    def fingerprint(self) -> str:
        return self.tenant


class Broken(InMemoryStore):
    """A store on a full disk."""

    def batch(self, ops: Any) -> Any:
        raise OSError("disk full")

    async def abatch(self, ops: Any) -> Any:
        raise OSError("disk full")


def text(found: Any) -> str:
    return str(found.passages[0]["text"])


@pytest.mark.parametrize("kind", [Shelf, Fingerprinted])
def test_retrievers_that_share_a_store_never_get_each_others_passages(kind: type[Shelf]) -> None:
    store = InMemoryStore()
    assert text(search(kind(tenant="a"), "q", 3, store)) == "q, for a"
    assert text(search(kind(tenant="b"), "q", 3, store)) == "q, for b"


def test_a_retriever_that_says_what_it_searches_is_asked_once() -> None:
    store = InMemoryStore()
    for retriever in (Fingerprinted(), Shelf(metadata={"fingerprint": "today's news"})):
        assert not search(retriever, "q", 3, store).cached
        assert search(retriever, "q", 3, store).cached
        assert not search(retriever, "q", 2, store).cached


async def test_a_store_that_fails_does_not_lose_the_passages() -> None:
    assert text(search(Fingerprinted(), "q", 3, Broken())) == "q, for a"
    assert text(await asearch(Fingerprinted(), "q", 3, Broken())) == "q, for a"


@pytest.mark.parametrize(
    ("metadata", "title", "score"),
    [
        ({}, "", None),
        ({"title": None, "score": None}, "", None),
        ({"title": "Skagen", "score": numpy.float32(0.5)}, "Skagen", 0.5),
        ({"title": 7, "score": "high"}, "7", None),
    ],
)
def test_title_and_score_are_text_and_number(metadata: dict[str, Any], title: str, score: float | None) -> None:
    passage = search(Shelf(document=Document("x", metadata=metadata)), "q", 1, None).passages[0]
    assert (passage["title"], passage["score"]) == (title, score)
    assert type(passage["score"]) in (float, type(None))


async def test_a_cache_for_a_run_forgets_the_oldest_retrieval_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeprag_graph.search._CACHED", 2 * len("a, for a"))
    cache = PassageCache()
    for query in ("a", "b", "c"):
        await asearch(Fingerprinted(), query, 3, cache)
    assert [search(Fingerprinted(), query, 3, cache).cached for query in ("c", "b", "a")] == [True, True, False]


def test_a_retrieval_that_is_cached_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeprag_graph.search._CACHED", 2 * len("a, for a"))
    cache = PassageCache()
    search(Fingerprinted(), "a", 3, cache)
    found = cache.search(("deeprag", "passages"))[0]
    for _ in range(3):
        cache.put(("deeprag", "passages"), found.key, found.value)
    search(Fingerprinted(), "b", 3, cache)
    assert [search(Fingerprinted(), query, 3, cache).cached for query in ("a", "b")] == [True, True]
