"""Searching through Elasticsearch: the embedded index's ranking and explanations, and indices that cannot be used."""

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import BM25Index, PassageIndex, build_index, elasticsearch
from deeprag_graph.retrieval.elasticsearch import ElasticsearchIndex
from tests.retrieval.elasticsearch.conftest import Build, new_name
from tests.retrieval.elasticsearch.passages import queries, rows, write
from tests.retrieval.elasticsearch.proxy import Proxy, Request

PASSAGES = rows(400)


@pytest.fixture(scope="module")
def both(
    url: str, client: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ElasticsearchIndex, BM25Index]]:
    """The same passages in both engines."""
    folder = tmp_path_factory.mktemp("both")
    write(folder / "passages.jsonl", PASSAGES)
    with new_name(client) as name:
        for place in (f"{url}/{name}", folder / "index"):
            build_index([folder / "passages.jsonl"], place)
        yield ElasticsearchIndex.open(f"{url}/{name}"), BM25Index.open(folder / "index")


Both = tuple[ElasticsearchIndex, BM25Index]


def test_both_engines_find_the_same_passages_in_the_same_order(both: Both) -> None:
    there, here = both
    tied = 0
    for query in queries(200):
        found, expected = there.search(query, 20), here.search(query, 20)
        assert [(hit.id, hit.title, hit.text) for hit in found] == [(hit.id, hit.title, hit.text) for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-5)
        tied += any(a.score == b.score for a, b in pairwise(found))
    assert tied > 50  # else the order of equal scores was not looked at


def test_the_last_passage_is_the_first_of_those_that_score_alike(both: Both) -> None:
    there, here = both
    for query in queries(20):
        for k in (1, 2, 3, 4, 9, 10):
            assert [hit.id for hit in there.search(query, k)] == [hit.id for hit in here.search(query, k)]


def test_several_shards_rank_as_one(both: Both, address: str, build: Build) -> None:
    build(address, PASSAGES, shards=3)
    there = ElasticsearchIndex.open(address)
    for query in queries(50):
        assert [hit.id for hit in there.search(query, 10)] == [hit.id for hit in both[1].search(query, 10)]
        one, several = both[0].explain(query)[0], there.explain(query)[0]
        assert several.hit == one.hit
        assert [term.passages_with_term for term in several.terms] == [term.passages_with_term for term in one.terms]


def test_many_queries_at_once_find_what_each_finds_alone(both: Both) -> None:
    index: PassageIndex = both[0]
    asked = [*queries(130), "", "the of and"]
    assert index.search_many(asked, 4) == [index.search(query, 4) for query in asked]
    assert index.search_many([]) == []


async def test_the_asynchronous_way_finds_the_same(both: Both) -> None:
    there = both[0]
    for query in queries(5):
        assert await there.asearch(query, 5) == there.search(query, 5)


def test_an_explanation_adds_up_to_the_score_and_is_that_of_the_embedded_index(both: Both) -> None:
    there, here = both
    for query in ["Who painted the technologies of Orra's ferry, the ferry?", *queries(20)]:
        for found, expected in zip(there.explain(query), here.explain(query), strict=True):
            title, text = found.field_score("title"), found.field_score("text")
            assert found.hit.score == pytest.approx(max(title, text) + 0.5 * min(title, text), rel=1e-5)
            assert found.hit.id == expected.hit.id
            terms = {(term.field, term.term): term for term in found.terms}
            assert terms.keys() == {(term.field, term.term) for term in expected.terms}
            for term in expected.terms:
                other = terms[term.field, term.term]
                assert (other.passages_with_term, other.frequency) == (term.passages_with_term, term.frequency)
                values = (other.score, other.length, other.average_length)
                assert values == pytest.approx((term.score, term.length, term.average_length), rel=1e-5)


@pytest.mark.parametrize(
    "query",
    [
        "",
        " \n",
        "the of and",
        "\ud800",
        "nothing-of-this \x00 xyzzy",
        'Orra AND "salt" title:* ~2 ^3 /re/ {"a": 1}',
        "\ud800 Orra",
    ],
    ids=["empty", "blank", "stop words", "no character", "NUL", "syntax", "half a pair"],
)
def test_any_text_is_a_query(both: Both, query: str) -> None:
    there, here = both
    assert [hit.id for hit in there.search(query)] == [hit.id for hit in here.search(query)]


def test_of_a_long_query_the_first_distinct_words_count(both: Both) -> None:
    there, here = both
    noise = " ".join(f"word{number}" for number in range(1020))
    for query in (f"{noise} salt Orra herring wool copper glass", "salt " * 5000 + "Orra", "Orra " * 300_000):
        found, expected = there.search(query), here.search(query)
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], rel=1e-4)


def test_fewer_than_k_passages_if_there_are_no_more(both: Both) -> None:
    there, here = both
    assert len(there.search("Orra", 1_000_000)) == len(here.search("Orra", 1_000_000))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_the_operators_mistake(both: Both, k: int) -> None:
    with pytest.raises(OperatorError, match="k must be at least 1"):
        both[0].search("salt", k)
    with pytest.raises(OperatorError, match="k must be at least 1"):
        both[0].search_many(["salt"], k)


def test_k_beyond_what_elasticsearch_returns_is_refused_where_there_are_more_passages(
    address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elasticsearch.index, "MOST_HITS", 20)
    build(address, [(str(n), "Orra", "salt") for n in range(21)])
    index = ElasticsearchIndex.open(address)
    assert len(index.search("salt", 20)) == 20
    with pytest.raises(OperatorError, match="at most 20 passages, and k is 21"):
        index.search("salt", 21)


def test_a_pickled_index_opens_again(both: Both) -> None:
    copy: ElasticsearchIndex = pickle.loads(pickle.dumps(both[0]))
    assert copy.search("salt of Orra") == both[0].search("salt of Orra")
    assert copy.connections == both[0].connections
    assert (len(copy), repr(copy)) == (400, f"ElasticsearchIndex('{copy.address}', 400 passages)")


def test_an_open_index_goes_on_in_the_build_that_replaces_it(address: str, build: Build) -> None:
    first = build(address, PASSAGES[:20])
    index = ElasticsearchIndex.open(address)
    assert index.manifest == first
    second = build(address, [("new", "Zanzibar", "unheard of")])
    assert [hit.id for hit in index.search("Zanzibar")] == ["new"]
    assert index.manifest == second


async def test_it_goes_on_likewise_in_an_event_loop_and_in_many_queries(address: str, build: Build) -> None:
    build(address, PASSAGES[:20])
    index = ElasticsearchIndex.open(address)
    second = build(address, [("new", "Zanzibar", "unheard of")])
    assert [hit.id for hit in await index.asearch("Zanzibar")] == ["new"]
    assert index.manifest == second
    third = build(address, [("newer", "Zanzibar", "unheard of")])
    assert [[hit.id for hit in hits] for hits in index.search_many(["Zanzibar"])] == [["newer"]]
    assert index.manifest == third


def test_no_index_at_the_address(address: str) -> None:
    with pytest.raises(OperatorError, match=f"There is no index at {address}; build one with: deeprag index FILE"):
        ElasticsearchIndex.open(address)


def test_an_index_that_goes_away_each_time_it_is_looked_at_is_looked_for_twice(
    proxy: Proxy, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES[:3])
    gone = {"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}
    left = 1

    def fault(request: Request) -> tuple[int, Any] | None:
        nonlocal left
        if "/_count" not in request.path or not left:
            return None
        left -= 1
        return 404, gone

    proxy.fault = fault
    assert len(ElasticsearchIndex.open(f"{proxy.url}/{name}")) == 3
    left = 1000
    with pytest.raises(OperatorError, match=f"There is no index at {proxy.url}/{name}; build one with"):
        ElasticsearchIndex.open(f"{proxy.url}/{name}")
    assert left == 998


def test_an_index_of_somebody_elses_is_not_opened(client: Elasticsearch, name: str, address: str) -> None:
    client.index(index=name, document={"text": "a diary"}, refresh=True)
    with pytest.raises(OperatorError, match="is not an index of passages"):
        ElasticsearchIndex.open(address)


def test_an_alias_of_several_indices_is_not_opened(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES[:3])
    client.indices.create(index=f"{name}-other", aliases={name: {}})
    with pytest.raises(OperatorError, match="is an alias of several indices"):
        ElasticsearchIndex.open(address)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"properties": {"author": {"type": "keyword"}}}, "properties.author.* is .* and not None"),
        ({"dynamic": "true"}, "dynamic is 'true' and not 'strict'"),
    ],
)
def test_an_index_whose_mapping_differs_is_not_opened(
    client: Elasticsearch, name: str, address: str, build: Build, change: dict[str, object], sentence: str
) -> None:
    build(address, PASSAGES[:3])
    client.indices.put_mapping(index=name, **change)  # type: ignore[arg-type]
    with pytest.raises(OperatorError, match=rf"does not have the mapping of an index of passages \({sentence}\)"):
        ElasticsearchIndex.open(address)


def test_an_index_with_another_analyzer_is_not_opened(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES[:3])
    ((physical, index),) = client.indices.get(index=name).body.items()
    mappings = index["mappings"]
    mappings["properties"]["text"]["analyzer"] = "standard"
    settings = {"similarity": index["settings"]["index"]["similarity"]}
    client.indices.create(index=f"{name}-copy", mappings=mappings, settings=settings)
    client.indices.update_aliases(
        actions=[{"remove_index": {"index": physical}}, {"add": {"index": f"{name}-copy", "alias": name}}]
    )
    with pytest.raises(OperatorError, match=r"properties\.text\.analyzer is 'standard' and not 'english'"):
        ElasticsearchIndex.open(address)


def test_an_index_that_has_lost_passages_is_damaged(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES[:3])
    client.indices.put_settings(index=name, settings={"index": {"blocks.write": False}})
    client.delete(index=name, id="p1", refresh=True)
    with pytest.raises(OperatorError, match=f"The index {address} is damaged; build it again"):
        ElasticsearchIndex.open(address)


def test_an_index_of_another_version_is_not_opened(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    manifest = build(address, PASSAGES[:3])
    client.indices.put_mapping(index=name, meta={"manifest": {**manifest.to_json(), "schema_version": 99}})
    with pytest.raises(OperatorError, match="has version 99 and this release reads version"):
        ElasticsearchIndex.open(address)
    build(address, PASSAGES[:3])  # and a build may replace it
    assert len(ElasticsearchIndex.open(address)) == 3
