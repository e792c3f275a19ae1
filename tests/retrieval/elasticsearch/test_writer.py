"""Building an index in Elasticsearch: all of it or nothing, whatever the passages and the server are like."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import Manifest, Passage, Skipped, build_index
from deeprag_graph.retrieval.elasticsearch import ElasticsearchIndex, ElasticsearchWriter, writer
from tests.retrieval.elasticsearch.conftest import Build
from tests.retrieval.elasticsearch.passages import Row, rows, write
from tests.retrieval.elasticsearch.proxy import Proxy, Request

PLACE = (Path("corpus.tsv"), 7)
PASSAGES = rows(50)


def physical_indices(client: Elasticsearch, name: str) -> list[str]:
    return list(client.indices.get(index=f"{name}*").body)


def begin(
    address: str, *, append: bool = False, on_refused: Callable[[Skipped], None] = lambda _: None
) -> AbstractContextManager[ElasticsearchWriter]:
    return ElasticsearchWriter.begin(address, append=append, shards=1, on_refused=on_refused)


def add(to: ElasticsearchWriter, passages: list[Row], first: int = 0) -> None:
    for ordinal, (id, title, text) in enumerate(passages, first):
        to.add(Passage(id, title, text), ordinal, PLACE)


def ids(address: str, query: str, k: int = 100) -> list[str]:
    return [hit.id for hit in ElasticsearchIndex.open(address).search(query, k)]


def test_the_manifest_says_what_was_built_and_is_kept_with_the_index(
    client: Elasticsearch, address: str, build: Build
) -> None:
    manifest = build(address, PASSAGES)
    assert (manifest.engine, manifest.engine_version) == ("elasticsearch", client.info()["version"]["number"])
    assert (manifest.passages, manifest.offered, manifest.skipped) == (50, 50, {})
    assert ElasticsearchIndex.open(address).manifest == manifest


def test_a_published_index_is_replicated_where_it_can_be_and_takes_no_more_passages(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)
    ((physical, index),) = client.indices.get(index=name).body.items()
    settings = index["settings"]["index"]
    assert (settings["auto_expand_replicas"], settings["blocks"]["write"]) == ("0-1", "true")
    assert "refresh_interval" not in settings
    assert list(index["aliases"]) == [name]
    assert physical != name


def test_building_again_replaces_the_index_and_leaves_no_other(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    first, second = build(address, PASSAGES), build(address, PASSAGES)
    assert first.build != second.build
    assert physical_indices(client, name) == [f"{name}-{second.build}"]
    assert len(ids(address, "Orra")) == len(set(ids(address, "Orra")))


def test_appended_passages_join_those_that_are_there(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, [("1", "Orra", "salt"), ("2", "Orra", "salt")])
    skipped: list[Skipped] = []
    more = [("3", "Orra", "salt"), ("1", "Other", "salt"), ("4", "Orra", "salt")]
    manifest = build(address, more, append=True, on_skip=skipped.append)
    assert ids(address, "Orra salt") == ["1", "2", "3", "4"]
    assert (manifest.passages, manifest.offered, manifest.skipped) == (4, 5, {"id seen before": 1})
    assert [(record.line, record.reason) for record in skipped] == [(2, "id seen before")]
    assert len(manifest.sources) == 2
    build(address, [("5", "Orra", "salt")], append=True)
    assert ids(address, "Orra salt") == ["1", "2", "3", "4", "5"]
    assert len(physical_indices(client, name)) == 1


def test_an_append_that_brings_nothing_new_leaves_the_passages_as_they_are(address: str, build: Build) -> None:
    build(address, PASSAGES)
    assert build(address, PASSAGES, append=True).skipped == {"id seen before": 50}
    assert len(ElasticsearchIndex.open(address)) == 50


def test_there_must_be_an_index_to_append_to(address: str, build: Build) -> None:
    with pytest.raises(OperatorError, match=f"There is no index at {address}; build one"):
        build(address, PASSAGES, append=True)


def test_an_append_is_not_put_in_the_place_of_a_newer_build(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    first = build(address, [("1", "Orra", "salt")])
    refused = pytest.raises(
        OperatorError, match=f"Another build has changed the index {address} meanwhile; append again"
    )
    with refused, begin(address, append=True) as late:
        add(late, [("2", "Orra", "salt")], 1)
        late.flush()
        build(address, [("3", "Orra", "salt")])
        late.publish(first)
    assert ids(address, "salt") == ["3"]
    assert len(physical_indices(client, name)) == 1


def test_appending_keeps_the_number_of_shards(client: Elasticsearch, name: str, address: str, build: Build) -> None:
    build(address, PASSAGES[:25], shards=2)
    build(address, PASSAGES[25:], append=True)
    (index,) = client.indices.get(index=name).body.values()
    assert index["settings"]["index"]["number_of_shards"] == "2"


def test_of_builds_that_end_at_once_one_is_kept_whole(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    manifest = build(address, PASSAGES)
    ready = threading.Barrier(3)
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            with begin(address) as one:
                add(one, [(f"{number}-{n}", "Orra", "salt") for n in range(number)])
                one.flush()
                ready.wait(30)
                one.publish(manifest)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    (physical,) = physical_indices(client, name)
    found = {
        hit["_id"].split("-")[0] for hit in client.search(index=name, query={"match": {"text": "salt"}})["hits"]["hits"]
    }
    assert len(found) == 1
    assert client.count(index=physical)["count"] == int(found.pop())


@pytest.mark.parametrize("there", [False, True])
def test_a_build_that_ends_just_before_another_is_replaced_whole(
    proxy: Proxy, client: Elasticsearch, name: str, address: str, build: Build, there: bool
) -> None:
    if there:
        build(address, PASSAGES)
    faster = iter([[("faster", "Orra", "salt")]])

    def fault(request: Request) -> None:
        if request.path.endswith("/_aliases"):
            for passages in faster:
                build(address, passages)

    proxy.fault = fault
    build(f"{proxy.url}/{name}", [("slower", "Orra", "salt")])
    assert next(faster, None) is None
    assert ids(address, "salt") == ["slower"]
    assert len(physical_indices(client, name)) == 1


def test_a_build_that_fails_leaves_the_old_index_and_nothing_else(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)
    with pytest.raises(KeyboardInterrupt), begin(address) as stopped:
        add(stopped, rows(2500))
        raise KeyboardInterrupt
    with pytest.raises(OperatorError, match="There are no passages"):
        build(address, [("1", "blank", " ")])
    assert len(physical_indices(client, name)) == 1
    assert len(ElasticsearchIndex.open(address)) == 50


@pytest.mark.parametrize("append", [False, True])
def test_an_index_of_somebody_elses_is_not_replaced(
    client: Elasticsearch, name: str, address: str, build: Build, append: bool
) -> None:
    client.index(index=name, document={"text": "a diary"}, refresh=True)
    with pytest.raises(OperatorError, match="is there already and is no index of passages; name another"):
        build(address, PASSAGES, append=append)
    client.indices.create(index=f"{name}-real", aliases={f"{name}-alias": {}})
    with pytest.raises(OperatorError, match="is there already and is no index of passages; name another"):
        build(f"{address}-alias", PASSAGES, append=append)
    assert client.count(index=name)["count"] == 1
    assert physical_indices(client, name) == [name, f"{name}-real"]


ODD = [
    ("日本", "東京タワー", "東京タワーは高い。"),
    ("control", "a\tb", "bell \x07 and escape \x1b in a text, \u2028 and \u200b too, 😀"),
    ("nul", "n\x00l", "before \x00 after"),
    ('"/_{}\\ &?#%', "slashes", 'quotes " and \\ and\nlines'),
    ("_doc", "", "no title"),
    ("x" * 512, "512 bytes", "as long as an id may be"),
    ("1", "long", "harbour " * 131_072),
    ("2", "one word", "w" * 100_000),
]


def test_odd_passages_come_back_as_they_were(client: Elasticsearch, name: str, address: str, build: Build) -> None:
    assert build(address, ODD).passages == len(ODD)
    for id, title, text in ODD:
        source = client.get(index=name, id=id)["_source"]
        assert (source["title"], source["text"]) == (title, text)
    assert ids(address, "東京") == ["日本"]
    assert ids(address, "harbour") == ["1"]


def test_what_elasticsearch_does_not_take_is_refused_with_its_line(address: str, build: Build) -> None:
    refused: list[Skipped] = []
    long_id = "é" * 257
    manifest = build(address, [("1", "a", "b"), (long_id, "a", "b"), ("2", "a", " ")], on_skip=refused.append)
    assert [(record.line, record.reason) for record in refused] == [
        (2, "id too long for Elasticsearch"),
        (3, "empty text"),
    ]
    assert (manifest.passages, manifest.skipped) == (1, {"id too long for Elasticsearch": 1, "empty text": 1})


def test_a_passage_that_the_server_refuses_does_not_hold_up_the_others(address: str) -> None:
    refused: list[Skipped] = []
    with begin(address, on_refused=refused.append) as one:
        one.add(Passage("1", "a", "b"), 0, PLACE)
        one.add(Passage("2", "a", "b"), 1 << 80, PLACE)
        one.add(Passage("3", "a", "b"), 2, PLACE)
        assert one.flush() == 2
    assert refused == [Skipped(*PLACE, "refused by Elasticsearch: document_parsing_exception")]


def forward_then(proxy: Proxy, answer: tuple[int, Any]) -> Callable[[Request], tuple[int, Any]]:
    """Return a fault: the server does what it is asked, and the answer is another."""

    def fault(request: Request) -> tuple[int, Any]:
        proxy.forward(request)
        return answer

    return fault


@pytest.mark.parametrize(
    ("ending", "append"),
    [(ending, False) for ending in ("_bulk", "_aliases", "creation", "_refresh", "_mapping", "_settings")]
    + [(ending, True) for ending in ("_bulk", "_aliases", "creation")],
)
def test_an_answer_that_is_lost_is_no_harm(
    proxy: Proxy, client: Elasticsearch, name: str, address: str, build: Build, ending: str, append: bool
) -> None:
    build(address, PASSAGES)
    lost = 0

    def fault(request: Request) -> tuple[int, Any] | None:
        nonlocal lost
        path = request.path.partition("?")[0]
        made = (request.method == "PUT" and path.count("/") == 1) or "/_clone/" in path
        if lost or not (made if ending == "creation" else path.endswith(ending)):
            return None
        lost += 1
        return forward_then(proxy, (0, b""))(request)

    proxy.fault = fault
    passages = rows(70)
    manifest = build(f"{proxy.url}/{name}", passages, append=append)
    assert lost == 1
    assert (manifest.passages, manifest.skipped) == (70, {"id seen before": 50} if append else {})
    assert len(physical_indices(client, name)) == 1
    assert client.count(index=name)["count"] == 70


def test_passages_that_are_put_off_are_sent_again_and_only_they(
    proxy: Proxy, address: str, name: str, build: Build
) -> None:
    sent: list[int] = []

    def fault(request: Request) -> tuple[int, Any] | None:
        if "/_bulk" not in request.path:
            return None
        sent.append(request.body.count(b'{"create"'))
        if len(sent) == 1:
            return 429, {"error": {"type": "es_rejected_execution_exception", "reason": "queue full"}, "status": 429}
        return None

    def put_off(request: Request, body: Any) -> Any:
        if "/_bulk" in request.path and len(sent) == 2:
            for item in body["items"][:20]:
                item["create"] = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": ""}}
        return body

    proxy.fault, proxy.change = fault, put_off
    assert build(f"{proxy.url}/{name}", PASSAGES).passages == 50
    assert sent == [50, 50, 20]
    assert len(ElasticsearchIndex.open(address)) == 50


def test_what_is_too_much_for_one_request_goes_in_several(proxy: Proxy, address: str, name: str, build: Build) -> None:
    proxy.fault = lambda r: (413, b"too large") if "/_bulk" in r.path and len(r.body) > 2000 else None
    passages = [*PASSAGES, ("huge", "Orra", "salt " * 1000)]
    assert build(f"{proxy.url}/{name}", passages).skipped == {"refused by Elasticsearch: too long": 1}
    assert len(ElasticsearchIndex.open(address)) == 50


def test_requests_are_bounded_in_passages_and_in_bytes(
    proxy: Proxy, name: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK", 20)
    monkeypatch.setattr(writer, "CHUNK_BYTES", 3000)
    build(f"{proxy.url}/{name}", PASSAGES)
    bodies = [request.body for request in proxy.requests if "/_bulk" in request.path]
    assert max(body.count(b'{"create"') for body in bodies) <= 20
    assert max(len(body) for body in bodies) < 3000 + 100
    assert sum(body.count(b'{"create"') for body in bodies) == 50


def test_a_server_that_stays_out_of_room_ends_the_build(
    proxy: Proxy, client: Elasticsearch, name: str, address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(address, PASSAGES)
    monkeypatch.setattr(writer, "LOADING", 1.0)
    block = {"type": "cluster_block_exception", "reason": "disk usage exceeded flood-stage watermark"}

    def full(request: Request, body: Any) -> Any:
        if "/_bulk" in request.path:
            body = {"errors": True, "items": [{"create": {"status": 429, "error": block}} for _ in body["items"]]}
        return body

    proxy.change = full
    with pytest.raises(OperatorError, match=r"has no room for more passages .*flood-stage watermark.* free disk space"):
        build(f"{proxy.url}/{name}", PASSAGES)
    assert len(physical_indices(client, name)) == 1
    assert len(ElasticsearchIndex.open(address)) == 50


def test_a_block_that_is_lifted_in_time_is_no_harm(proxy: Proxy, client: Elasticsearch, name: str) -> None:
    block = {"index.blocks.read_only_allow_delete": True}
    lifted = []

    def lift(request: Request, body: Any) -> Any:
        if "/_bulk" in request.path and body["errors"]:
            lifted.append(client.indices.put_settings(index=f"{name}-*", settings=dict.fromkeys(block)))
        return body

    proxy.change = lift
    with begin(f"{proxy.url}/{name}") as one:
        client.indices.put_settings(index=f"{name}-*", settings=block)
        add(one, PASSAGES)
        assert one.flush() == 50
    assert len(lifted) == 1


def test_an_index_that_is_removed_while_it_grows_is_not_made_again(
    client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)
    refused = pytest.raises(OperatorError, match=r"does not take passages any more .*no such index.*; build again")
    with refused, begin(address) as one:
        client.indices.delete(index=f"{name}-{one.build}")
        add(one, PASSAGES)
        one.flush()
    assert len(physical_indices(client, name)) == 1
    assert len(ElasticsearchIndex.open(address)) == 50


def test_passages_that_get_lost_are_noticed(client: Elasticsearch, name: str, address: str) -> None:
    noticed = pytest.raises(OperatorError, match="was loaded with 50 passages and holds 49; build it again")
    with noticed, begin(address) as one:
        add(one, PASSAGES)
        one.flush()
        client.delete(index=f"{name}-{one.build}", id="p3", refresh=True)
        one.flush()


def test_what_a_killed_build_leaves_is_removed_and_what_a_living_one_has_is_not(
    client: Elasticsearch, name: str, address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = begin(address)
    one = living.__enter__()
    build(address, PASSAGES)
    assert f"{name}-{one.build}" in physical_indices(client, name)
    client.indices.create(index=f"{name}-0123456789ab")  # of somebody else's
    client.indices.create(index=f"{name}-notes")
    kept = begin(address)
    two = kept.__enter__()  # and somebody has given this one another name
    client.indices.put_alias(index=f"{name}-{two.build}", name=f"{name}-kept")
    monkeypatch.setattr(writer, "DEAD", -1)
    second = build(address, PASSAGES)
    expected = {f"{name}-0123456789ab", f"{name}-notes", f"{name}-{two.build}", f"{name}-{second.build}"}
    assert set(physical_indices(client, name)) == expected
    for started in (living, kept):
        with suppress(GeneratorExit):
            started.__exit__(GeneratorExit, GeneratorExit(), None)


def test_a_build_gives_signs_of_life_by_the_servers_clock(
    client: Elasticsearch, name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BEAT", 0)
    monkeypatch.setattr(writer, "CHUNK", 10)
    with begin(address) as one:
        one._clock += 1000
        add(one, PASSAGES)
        health: Any = client.cat.health(h="epoch", format="json").body
        (index,) = client.indices.get(index=f"{name}-{one.build}").body.values()
        assert index["mappings"]["_meta"]["beat"] == pytest.approx(int(health[0]["epoch"]) + 1000, abs=3)


@pytest.mark.parametrize("silent", [False, True])
def test_a_build_that_is_stopped_does_not_wait_for_a_server_that_is_absent_or_silent(
    proxy: Proxy, client: Elasticsearch, name: str, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    asked, over = threading.Event(), threading.Event()

    def fault(request: Request) -> tuple[int, Any] | None:
        if "/_bulk" in request.path:
            asked.set()
        return (0, silent and over.wait(60)) if asked.is_set() else None

    proxy.fault = fault
    threads = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), begin(f"{proxy.url}/{name}") as one:
        monkeypatch.setattr(writer, "OPENING", 0.1)
        add(one, rows(1500))
        assert asked.wait(30)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 10
    assert all(thread.daemon for thread in set(threading.enumerate()) - threads)  # so the program can end
    over.set()


def interrupt(over: threading.Event) -> tuple[int, Any]:
    """Press Ctrl-C while the answer is awaited."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    over.wait(30)
    return 0, b""


def fail(_: threading.Event) -> tuple[int, Any]:
    return 500, {"error": {"type": "odd", "reason": "x"}, "status": 500}


@pytest.mark.parametrize(("end", "raised"), [(interrupt, KeyboardInterrupt), (fail, OperatorError)])
@pytest.mark.parametrize("carried_out", [True, False])
def test_a_build_that_is_stopped_while_it_is_published_leaves_the_new_index_or_the_old_one(
    proxy: Proxy,
    client: Elasticsearch,
    name: str,
    address: str,
    build: Build,
    end: Callable[[threading.Event], tuple[int, Any]],
    raised: type[BaseException],
    carried_out: bool,
) -> None:
    old = build(address, PASSAGES)
    over = threading.Event()
    publishing: list[Request] = []

    def fault(request: Request) -> tuple[int, Any] | None:
        if request.path.endswith("/_aliases") and not publishing:
            publishing.append(request)
            if carried_out:
                proxy.forward(request)
            return end(over)
        return fail(over) if publishing and request.method == "GET" else None

    proxy.fault = fault
    with pytest.raises(raised):
        build(f"{proxy.url}/{name}", rows(70))
    over.set()
    assert len(physical_indices(client, name)) == 1
    index = ElasticsearchIndex.open(address)
    assert len(index) == (70 if carried_out else 50)
    assert (index.manifest == old) == (not carried_out)
    if not carried_out:  # and a request that comes late does no harm
        assert proxy.forward(publishing[0])[0] == 404
        assert ElasticsearchIndex.open(address).manifest == old


def test_a_build_that_is_being_published_is_not_taken_for_dead(
    proxy: Proxy, client: Elasticsearch, name: str, address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = writer._server_clock
    others: list[Manifest] = []

    def fault(request: Request) -> None:
        if request.path.endswith("/_settings") and not others:
            others.append(build(address, rows(3)))

    manifest = build(address, PASSAGES)
    with begin(f"{proxy.url}/{name}") as one:
        add(one, PASSAGES)
        one.flush()
        one._clock += 1000  # it takes so long
        monkeypatch.setattr(writer, "_server_clock", lambda client: clock(client) + 1000)
        proxy.fault = fault
        one.publish(manifest)
    assert len(others) == 1
    assert physical_indices(client, name) == [f"{name}-{one.build}"]


def test_what_a_build_leaves_that_was_stopped_while_it_was_removed_is_removed_too(
    client: Elasticsearch, name: str, address: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = begin(address)
    one = killed.__enter__()
    client.indices.delete_alias(index=f"{name}-{one.build}", name=f"{name}-{one.build}-loading")
    monkeypatch.setattr(writer, "DEAD", -1)
    new = build(address, PASSAGES)
    assert physical_indices(client, name) == [f"{name}-{new.build}"]
    with suppress(GeneratorExit):
        killed.__exit__(GeneratorExit, GeneratorExit(), None)


def test_a_base_that_is_replaced_before_it_is_copied(
    proxy: Proxy, client: Elasticsearch, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)
    faster = iter([PASSAGES[:3]])

    def fault(request: Request) -> None:
        if "/_clone/" in request.path:
            for passages in faster:
                build(address, passages)

    proxy.fault = fault
    with pytest.raises(OperatorError, match=r"Another build has changed the index .* meanwhile; append again"):
        build(f"{proxy.url}/{name}", [("new", "Orra", "salt")], append=True)
    assert len(physical_indices(client, name)) == 1
    assert len(ElasticsearchIndex.open(address)) == 3


def test_passages_that_cannot_be_looked_up_at_once_are_looked_up_again(
    proxy: Proxy, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)
    busy = iter([True])

    def change(request: Request, body: Any) -> Any:
        if "/_mget" in request.path and next(busy, False):
            error = {"type": "no_shard_available_action_exception", "reason": "x"}
            body["docs"][:20] = [{"_id": document["_id"], "error": error} for document in body["docs"][:20]]
        return body

    proxy.change = change
    manifest = build(f"{proxy.url}/{name}", rows(70), append=True)
    assert (manifest.passages, manifest.skipped) == (70, {"id seen before": 50})


def test_a_passage_that_is_there_and_is_not_found_ends_the_build(
    proxy: Proxy, name: str, address: str, build: Build
) -> None:
    build(address, PASSAGES)

    def change(request: Request, body: Any) -> Any:
        if "/_mget" in request.path:
            body["docs"] = [{"_id": document["_id"], "found": False} for document in body["docs"]]
        return body

    proxy.change = change
    with pytest.raises(OperatorError, match="has lost the passage 'p0' while it was loaded; build again"):
        build(f"{proxy.url}/{name}", PASSAGES, append=True)
    assert len(ElasticsearchIndex.open(address)) == 50


def test_a_number_of_shards_that_the_server_refuses_is_said_with_its_reason(address: str, build: Build) -> None:
    with pytest.raises(OperatorError, match=r"refuses a request: .*1000000.*\[index.number_of_shards\].*1024\.$"):
        build(address, PASSAGES, shards=1_000_000)


def test_the_caller_hears_of_nothing_but_sentences(name: str, proxy: Proxy, tmp_path: Path) -> None:
    write(tmp_path / "passages.jsonl", PASSAGES)
    for status in (400, 403, 404, 500):
        proxy.fault = lambda r, status=status: (status, {"error": {"type": "odd", "reason": "x\ny" * 500}})  # type: ignore[misc]
        with pytest.raises(OperatorError) as caught:
            build_index([tmp_path / "passages.jsonl"], f"{proxy.url}/{name}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600
