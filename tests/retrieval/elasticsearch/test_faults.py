"""Servers that stop, nodes that die, disks that fill, builds that are killed: nothing lost, no part taken for all."""

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval.corpus import Passage
from deeprag_graph.retrieval.elasticsearch import (
    ElasticsearchBM25Retriever,
    ElasticsearchIndex,
    ElasticsearchWriter,
    writer,
)
from deeprag_graph.retrieval.elasticsearch.client import AsyncClient, Patience
from tests.retrieval.elasticsearch.conftest import Build
from tests.retrieval.elasticsearch.passages import queries, rows, write
from tests.retrieval.elasticsearch.server import Node, free_port

PLACE = (Path("corpus.tsv"), 1)


WATCHED = ("cluster.info.update.interval=10s", "cluster.routing.allocation.disk.threshold_enabled=true")


@pytest.fixture
def node(script: Path, tmp_path: Path) -> Iterator[Node]:
    """A node of the test's own, to stop."""
    with Node(script, tmp_path / "node", *WATCHED) as node:
        yield node


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)


def test_searches_go_on_while_builds_replace_the_index(address: str, build: Build) -> None:
    passages = [(str(n), "Orra", "salt and rope") for n in range(3)]
    builds = [build(address, passages)]
    index = ElasticsearchIndex.open(address)
    retriever = ElasticsearchBM25Retriever(index)
    done = threading.Event()
    found: list[int] = []

    def search() -> None:
        while not done.is_set():
            found.append(len(index.search("salt")))
            found.extend(len(hits) for hits in index.search_many(["salt", "rope"]))

    async def asearch() -> None:
        while not done.is_set():
            found.extend(len(documents) for documents in await retriever.abatch(["salt", "rope"] * 4))

    def run(function: Callable[[], Any]) -> threading.Thread:
        def catch() -> None:
            try:
                function()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=catch)
        thread.start()
        return thread

    failed: list[BaseException] = []
    threads = [run(search), run(search), run(lambda: asyncio.run(asearch()))]
    try:
        builds += [build(address, passages) for _ in range(3)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(found) == {3}
    assert index.search("salt")
    assert index.manifest == builds[-1]


@pytest.mark.slow
def test_a_load_goes_on_when_the_server_is_back(node: Node, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK", 100)
    address = f"{node.url}/passages"
    build(address, rows(10))

    def stop_and_start() -> None:
        node.stop(signal.SIGKILL)
        node.start()

    restart = threading.Thread(target=stop_and_start)
    refused: list[Any] = []
    passages = rows(6000)
    with ElasticsearchWriter.begin(address, append=False, shards=1, on_refused=refused.append) as one:
        for ordinal, passage in enumerate(passages):
            if ordinal == 2000:
                restart.start()
            one.add(Passage(*passage), ordinal, PLACE)
        assert restart.ident is not None
        assert one.flush() == 6000
        restart.join()
        manifest = build(f"{node.url}/other", rows(10))
        one.publish(manifest)
    assert refused == []
    with Elasticsearch(node.url) as client:
        assert client.count(index="passages")["count"] == 6000
        found = client.mget(index="passages", ids=[id for id, _, _ in passages], source_includes=["ordinal"])["docs"]
    assert [document["_source"]["ordinal"] for document in found] == list(range(6000))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_256_searches_at_once_outlive_a_restart(node: Node, build: Build, how: signal.Signals) -> None:
    address = f"{node.url}/passages"
    build(address, rows(3000))
    retriever = ElasticsearchBM25Retriever(ElasticsearchIndex.open(address, connections=16))
    asked = queries(256)
    expected = await retriever.abatch(asked)
    searches = [asyncio.create_task(retriever.ainvoke(query)) for query in asked]
    await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(node.stop, how)
    await asyncio.to_thread(node.start)
    assert await asyncio.gather(*searches) == expected


@pytest.mark.slow
def test_a_build_may_be_killed_at_any_moment(
    client: Elasticsearch, name: str, address: str, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = build(address, [("old", "Zanzibar", "the passage of the old index")])
    write(tmp_path / "passages.jsonl", rows(4000))
    script = f"""
        from deeprag_graph.retrieval import build_index
        from deeprag_graph.retrieval.elasticsearch import writer

        writer.CHUNK = 50
        print("begins", flush=True)
        build_index([{str(tmp_path / "passages.jsonl")!r}], {address!r})
        print("ends", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]

    def began() -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        return process

    start = time.monotonic()
    assert began().communicate()[0] == "ends\n"
    seconds = time.monotonic() - start
    old = build(address, [("old", "Zanzibar", "the passage of the old index")])
    chance = random.Random(11)
    moments = [chance.uniform(0, seconds * 0.9) for _ in range(10)]
    for moment in moments:
        process = began()
        time.sleep(moment)
        process.kill()
        ended = process.communicate()[0] == "ends\n"
        index = ElasticsearchIndex.open(address)
        if ended:  # it was faster than the one that was timed
            assert len(index) == 4000
            old = build(address, [("old", "Zanzibar", "the passage of the old index")])
        elif index.manifest == old:
            assert [hit.id for hit in index.search("Zanzibar")] == ["old"]
        else:  # killed between the last request and its word
            assert len(index) == 4000
    monkeypatch.setattr(writer, "DEAD", -1)
    new = build(address, rows(100))
    assert list(client.indices.get(index=f"{name}*").body) == [f"{name}-{new.build}"]
    assert len(ElasticsearchIndex.open(address)) == 100


@pytest.mark.slow
def test_a_full_disk_ends_a_build_with_a_sentence_and_a_freed_one_lets_it_go_on(
    node: Node, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{node.url}/passages"
    build(address, rows(10))
    watermark = "cluster.routing.allocation.disk.watermark"

    def must_be_free(space: str | None) -> None:
        names = ("low", "high", "flood_stage")
        client.cluster.put_settings(persistent={f"{watermark}.{name}": space for name in names})

    def is_blocked(index: str) -> bool:
        (found,) = client.indices.get_settings(index=index).body.values()
        return "read_only_allow_delete" in found["settings"]["index"].get("blocks", {})

    with Elasticsearch(node.url) as client:
        with ElasticsearchWriter.begin(address, append=False, shards=1, on_refused=lambda _: None) as one:
            must_be_free("900tb")
            wait_until(lambda: is_blocked(one._physical))
            for ordinal, passage in enumerate(rows(50)):
                one.add(Passage(*passage), ordinal, PLACE)
            one._send()
            must_be_free(None)
            assert one.flush() == 50
        with monkeypatch.context() as patch:
            patch.setattr(writer, "LOADING", 2.0)
            full = pytest.raises(OperatorError, match=r"no room for more passages .*flood-stage.*; free disk space")
            with full, ElasticsearchWriter.begin(address, append=False, shards=1, on_refused=lambda _: None) as one:
                must_be_free("900tb")
                wait_until(lambda: is_blocked(one._physical))
                for ordinal, passage in enumerate(rows(50)):
                    one.add(Passage(*passage), ordinal, PLACE)
                one.flush()
            assert len(client.indices.get(index="passages*").body) == 1
            assert len(ElasticsearchIndex.open(address)) == 10
            patch.setattr(writer, "PLACING", 1)
            with pytest.raises(OperatorError, match="finds no place for a new index, mostly since its disks are full"):
                build(address, rows(20))
        must_be_free(None)
        wait_until(lambda: not is_blocked("passages"))
    assert build(address, rows(20)).passages == 20


@pytest.fixture
def cluster(script: Path, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes, of which the first is the master."""
    port = free_port()
    first = ("node.name=a", f"transport.port={port}", "discovery.type=multi-node", "cluster.initial_master_nodes=a")
    second = ("node.name=b", "node.roles=data", f"transport.port={free_port()}", "discovery.type=multi-node")
    seeds = f"discovery.seed_hosts=127.0.0.1:{port}"
    with Node(script, tmp_path / "a", *first) as a, Node(script, tmp_path / "b", *second, seeds) as b:
        with Elasticsearch(a.url) as client:
            client.cluster.health(wait_for_nodes="2", timeout="60s")
        yield a, b


@pytest.mark.slow
def test_half_of_the_passages_are_never_taken_for_all(
    cluster: tuple[Node, Node], build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = cluster
    build(f"{a.url}/alone", rows(200), shards=2)
    build(f"{a.url}/copied", rows(200), shards=2)
    with Elasticsearch(a.url) as client:
        client.indices.put_settings(
            index="alone", settings={"index.auto_expand_replicas": False, "index.number_of_replicas": 0}
        )
        client.cluster.health(index="alone,copied", wait_for_status="green", wait_for_no_relocating_shards=True)
        held = set(client.cat.shards(index="alone", h="node").body.split())
        assert held == {"a", "b"}
        alone, copied = (ElasticsearchIndex.open(f"{a.url}/{name}") for name in ("alone", "copied"))
        query = "Orra salt"
        expected = copied.search(query, 20)
        assert alone.search(query, 20) == expected
        b.stop(signal.SIGKILL)
        assert copied.search(query, 20) == expected
        assert asyncio.run(copied.asearch(query, 20)) == expected
        alone.client.patience = Patience(1.0)
        monkeypatch.setattr(AsyncClient, "patience", Patience(1.0))
        retriever = ElasticsearchBM25Retriever(alone)
        for search in (
            lambda: alone.search(query),
            lambda: alone.search_many([query]),
            lambda: asyncio.run(alone.asearch(query)),
            lambda: retriever.invoke(query),
            lambda: asyncio.run(retriever.ainvoke(query)),
        ):
            with pytest.raises(RetrievalError, match=r"could not search the whole of alone|overloaded or not ready"):
                search()
        with pytest.raises(OperatorError, match=r"could not search the whole of alone|overloaded or not ready"):
            ElasticsearchIndex.open(f"{a.url}/alone")
