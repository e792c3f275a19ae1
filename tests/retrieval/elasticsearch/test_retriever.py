"""The retriever as LangChain sees it: LangChain's own suite for retrievers, and what it does not ask."""

import asyncio
import pickle
import time
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval import BM25Index, BM25Retriever, elasticsearch
from deeprag_graph.retrieval.elasticsearch import ElasticsearchBM25Retriever, ElasticsearchIndex
from deeprag_graph.search import asearch, search
from tests.retrieval.elasticsearch.conftest import Build


@pytest.fixture(scope="module")
def place(url: str, shared: str) -> str:
    """The address of the tests' small corpus."""
    return f"{url}/{shared}"


@pytest.fixture
def retriever(place: str) -> ElasticsearchBM25Retriever:
    return ElasticsearchBM25Retriever(place)


class TestLangChainSuite(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _use_index(self, place: str) -> None:
        self._place = place

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return ElasticsearchBM25Retriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self._place, "k": 2}

    @property
    def retriever_query_example(self) -> str:
        return "the harbour"


def test_documents_are_those_of_the_embedded_retriever(retriever: ElasticsearchBM25Retriever, index: BM25Index) -> None:
    for query in ("Who built the lighthouse of Orra?", "harbour", "nothing of this", ""):
        found, expected = retriever.invoke(query), BM25Retriever(index).invoke(query)
        scores = [document.metadata.pop("score") for document in found]
        assert scores == pytest.approx([document.metadata.pop("score") for document in expected], rel=1e-5)
        assert found == expected


def test_three_passages_unless_told_otherwise(retriever: ElasticsearchBM25Retriever) -> None:
    assert len(retriever.invoke("harbour Orra")) == 3
    assert len(retriever.invoke("harbour Orra", k=4)) == 4


async def test_the_asynchronous_way_finds_the_same(retriever: ElasticsearchBM25Retriever) -> None:
    found = await asyncio.gather(*(retriever.ainvoke("harbour", k=k) for k in (1, 2, 3)))
    assert found == [retriever.invoke("harbour", k=k) for k in (1, 2, 3)]
    assert await retriever.abatch(["harbour", "Orra"]) == retriever.batch(["harbour", "Orra"])


async def test_the_graphs_search_hands_k_on_both_ways(retriever: ElasticsearchBM25Retriever) -> None:
    assert len(search(retriever, "harbour Orra", 4, None).passages) == 4
    assert len((await asearch(retriever, "harbour Orra", 4, None)).passages) == 4


def test_a_pickled_retriever_opens_its_index_again(place: str) -> None:
    retriever = ElasticsearchBM25Retriever(ElasticsearchIndex.open(place, connections=3), k=2)
    copy: ElasticsearchBM25Retriever = pickle.loads(pickle.dumps(retriever))
    assert (copy.k, copy.index.connections) == (2, 3)
    assert copy.invoke("harbour") == retriever.invoke("harbour")


@pytest.mark.parametrize("k", [0, -3])
async def test_k_below_one_is_the_operators_mistake(retriever: ElasticsearchBM25Retriever, k: int) -> None:
    with pytest.raises(OperatorError, match="k must be at least 1"):
        ElasticsearchBM25Retriever(retriever.index, k=k)
    with pytest.raises(OperatorError, match="k must be at least 1"):
        retriever.invoke("harbour", k=k)
    with pytest.raises(OperatorError, match="k must be at least 1"):
        await retriever.ainvoke("harbour", k=k)


async def test_the_fingerprint_is_that_of_the_build_in_use(address: str, build: Build) -> None:
    first = build(address, [("1", "Orra", "salt")])
    retriever = ElasticsearchBM25Retriever(address)
    assert retriever.fingerprint == first.build
    second = build(address, [("2", "Orra", "salt")])
    assert [document.id for document in retriever.invoke("salt")] == ["2"]
    assert retriever.fingerprint == second.build
    third = build(address, [("3", "Orra", "salt")])
    assert [document.id for document in await retriever.ainvoke("salt")] == ["3"]
    assert retriever.fingerprint == third.build


async def test_an_index_deleted_under_a_running_retriever_is_a_failed_search(
    client: Elasticsearch, name: str, address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elasticsearch.client, "GONE", 0.3)
    build(address, [("1", "Orra", "salt")])
    retriever = ElasticsearchBM25Retriever(address)
    assert retriever.invoke("salt") == await retriever.ainvoke("salt")
    client.indices.delete(index=next(iter(client.indices.get(index=name).body)))
    began = time.monotonic()
    sentence = f"has no index {name}; build it with: deeprag index FILE --out {address}"
    with pytest.raises(RetrievalError, match=sentence):
        retriever.invoke("salt")
    with pytest.raises(RetrievalError, match=sentence):
        await retriever.ainvoke("salt")
    with pytest.raises(RetrievalError, match=sentence):
        retriever.index.search_many(["salt"])
    # It may be just being replaced, so it is looked for once more, and not for as long as a server that is away.
    assert time.monotonic() - began < 10
