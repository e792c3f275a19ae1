"""The clients: what is tried again, what is no whole answer, and what a person reads when nothing helps."""

import asyncio
import logging
import multiprocessing
import pickle
import shutil
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval import build_index, elasticsearch
from deeprag_graph.retrieval.elasticsearch import ElasticsearchBM25Retriever, ElasticsearchIndex
from deeprag_graph.retrieval.elasticsearch.address import Address
from deeprag_graph.retrieval.elasticsearch.client import AsyncClient, Patience
from tests.retrieval.conftest import CORPUS
from tests.retrieval.elasticsearch.proxy import Proxy, Request
from tests.retrieval.elasticsearch.server import free_port

BUSY = {"error": {"type": "es_rejected_execution_exception", "reason": "queue full"}, "status": 429}


@pytest.fixture
def place(url: str, shared: str) -> str:
    return f"{url}/{shared}"


@pytest.fixture
def through(proxy: Proxy, shared: str) -> ElasticsearchIndex:
    """An index that is searched through the proxy."""
    index = ElasticsearchIndex.open(f"{proxy.url}/{shared}")
    proxy.requests.clear()
    return index


@pytest.fixture
def impatient(through: ElasticsearchIndex, monkeypatch: pytest.MonkeyPatch) -> ElasticsearchIndex:
    """The same, and searches wait for half a second."""
    through.client.patience = Patience(0.5)
    monkeypatch.setattr(AsyncClient, "patience", Patience(0.5))
    return through


Search = Callable[[ElasticsearchIndex], Any]
WAYS: dict[str, Search] = {
    "search": lambda index: index.search("harbour"),
    "many": lambda index: index.search_many(["harbour"]),
    "explain": lambda index: index.explain("harbour"),
    "async": lambda index: asyncio.run(index.asearch("harbour")),
    "retriever": lambda index: ElasticsearchBM25Retriever(index).invoke("harbour"),
    "async retriever": lambda index: asyncio.run(ElasticsearchBM25Retriever(index).ainvoke("harbour")),
}
each_way = pytest.mark.parametrize("search", WAYS.values(), ids=WAYS)


def first(times: int, answer: tuple[int, Any]) -> Callable[[Request], tuple[int, Any] | None]:
    """Return a fault that searches meet so many times."""
    left = iter([answer] * times)
    return lambda request: next(left, None) if "search" in request.path else None


@each_way
@pytest.mark.parametrize("status", [404, 429, 503, 0], ids=str)
def test_a_server_that_is_busy_or_swaps_indices_or_hangs_up_is_asked_again(
    proxy: Proxy, through: ElasticsearchIndex, search: Search, status: int
) -> None:
    expected = search(through)
    proxy.requests.clear()
    proxy.fault = first(2, (status, BUSY))
    assert search(through) == expected
    assert len(proxy.requests) == 3


@each_way
def test_a_server_that_stays_busy_is_a_failed_search(
    proxy: Proxy, impatient: ElasticsearchIndex, search: Search
) -> None:
    proxy.fault = first(1000, (429, BUSY))
    with pytest.raises(
        RetrievalError, match=r"is overloaded or not ready \(status 429, .*queue full\); try again later"
    ):
        search(impatient)
    assert len(proxy.requests) > 1


@each_way
def test_a_request_that_is_wrong_is_not_sent_again(proxy: Proxy, through: ElasticsearchIndex, search: Search) -> None:
    proxy.fault = first(1000, (400, {"error": {"type": "parsing_exception", "reason": "odd"}, "status": 400}))
    with pytest.raises(RetrievalError, match=r"refuses a request \(status 400, parsing_exception: odd\)"):
        search(through)
    assert len(proxy.requests) == 1


def of_a_part(request: Request, body: Any) -> Any:
    for answer in body.get("responses", [body]) if "search" in request.path else []:
        answer["_shards"] = {"total": 2, "successful": 1, "failed": 1, "failures": []}
    return body


def cut_short(request: Request, body: Any) -> Any:
    for answer in body.get("responses", [body]) if "search" in request.path else []:
        answer["timed_out"] = True
    return body


@each_way
@pytest.mark.parametrize(
    ("change", "what"),
    [(of_a_part, "1 of 2 shards failed"), (cut_short, "it stopped searching")],
    ids=["shards", "time"],
)
def test_a_part_is_never_taken_for_the_whole(
    proxy: Proxy, impatient: ElasticsearchIndex, search: Search, change: Callable[[Request, Any], Any], what: str
) -> None:
    proxy.change = change
    with pytest.raises(RetrievalError, match=rf"could not search the whole of {impatient.address.name} \({what}"):
        search(impatient)


@each_way
def test_searches_ask_for_the_whole_and_for_exact_statistics(
    proxy: Proxy, through: ElasticsearchIndex, search: Search
) -> None:
    search(through)
    (request,) = proxy.requests
    said = f"{request.path} {request.body.decode()}".replace('":"', "=").replace('":', "=")
    assert "allow_partial_search_results=false" in said
    assert "search_type=dfs_query_then_fetch" in said


def test_one_busy_search_of_many_is_asked_again(proxy: Proxy, through: ElasticsearchIndex) -> None:
    expected = through.search_many(["harbour", "Orra"])
    busy = iter([True])

    def change(request: Request, body: Any) -> Any:
        if "responses" in body and next(busy, False):
            body["responses"][1] = BUSY
        return body

    proxy.change = change
    assert through.search_many(["harbour", "Orra"]) == expected


def test_a_search_that_is_never_answered_ends(
    proxy: Proxy, impatient: ElasticsearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient.client._request_timeout = 0.2
    over = threading.Event()
    proxy.fault = lambda request: (0, over.wait(30))
    with pytest.raises(RetrievalError, match="takes too long to answer"):
        impatient.search("harbour")
    over.set()


async def test_the_wait_for_a_connection_is_not_the_servers_time_to_answer(
    proxy: Proxy, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsyncClient, "patience", Patience(2.0))
    index = ElasticsearchIndex.open(f"{proxy.url}/{shared}", connections=1)
    proxy.fault = lambda request: time.sleep(0.15)
    found = await asyncio.gather(*(index.asearch("harbour") for _ in range(16)))
    assert found == [found[0]] * 16


def test_a_forked_process_shares_no_connection_with_its_parent(proxy: Proxy, through: ElasticsearchIndex) -> None:
    with asyncio.Runner() as loop:

        def search() -> None:
            through.search("harbour")
            loop.run(through.asearch("harbour"))

        search()
        search()
        assert len({request.port for request in proxy.requests}) == 2
        child = multiprocessing.get_context("fork").Process(target=search)
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert len({request.port for request in proxy.requests}) == 4
        search()
    assert len({request.port for request in proxy.requests}) == 4


def test_no_server_is_said_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (elasticsearch.index, elasticsearch.writer):
        monkeypatch.setattr(module, "OPENING", 0.5)
    nowhere = f"http://127.0.0.1:{free_port()}/passages"
    (tmp_path / "corpus.tsv").write_text(CORPUS)
    began = time.monotonic()
    for attempt in (ElasticsearchIndex.open, lambda place: build_index([tmp_path / "corpus.tsv"], place)):
        with pytest.raises(
            OperatorError, match=r"There is no Elasticsearch at \S+ \(Failed to .*\); start it, or correct"
        ):
            attempt(nowhere)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("status", "body", "product"),
    [
        (200, {"name": "x"}, ""),
        (200, b"<html>hello</html>", ""),
        (404, b"<html>no such page</html>", ""),
        (404, {"detail": "?"}, ""),
    ],
    ids=["another product", "a page", "no page", "another API"],
)
def test_another_server_is_not_taken_for_elasticsearch(proxy: Proxy, status: int, body: Any, product: str) -> None:
    proxy.fault, proxy.product = lambda request: (status, body), product
    with pytest.raises(OperatorError, match=f"What answers at {proxy.url} is not Elasticsearch; correct the address"):
        ElasticsearchIndex.open(f"{proxy.url}/passages")


@pytest.mark.parametrize("version", ["7.17.9", "6.8.0", "10.0.0"])
def test_a_version_that_is_not_known_is_refused(proxy: Proxy, tmp_path: Path, version: str) -> None:
    proxy.change = lambda request, body: {**body, "version": {"number": version}}
    with pytest.raises(OperatorError, match=f"is version {version}; versions 8 and 9 are supported"):
        ElasticsearchIndex.open(f"{proxy.url}/passages")
    (tmp_path / "corpus.tsv").write_text(CORPUS)
    with pytest.raises(OperatorError, match=f"is version {version}; versions 8 and 9 are supported"):
        build_index([tmp_path / "corpus.tsv"], f"{proxy.url}/passages")
    assert {request.method for request in proxy.requests} == {"GET"}


def test_an_old_server_that_does_not_understand_the_client_is_refused(proxy: Proxy) -> None:
    error = {"type": "media_type_header_exception", "reason": "Invalid media-type value"}
    proxy.fault = lambda request: (400, {"error": error, "status": 400})
    with pytest.raises(OperatorError, match="is of a version that is not supported; versions 8 and 9 are"):
        ElasticsearchIndex.open(f"{proxy.url}/passages")


def test_credentials_that_may_read_the_index_alone_are_enough(proxy: Proxy, shared: str) -> None:
    forbidden = {"error": {"type": "security_exception", "reason": "no cluster:monitor"}, "status": 403}
    proxy.fault = lambda request: (403, forbidden) if request.path == "/" else None
    assert ElasticsearchIndex.open(f"{proxy.url}/{shared}").search("harbour")


SECRET = "c2VjcmV0OnZlcnktc2VjcmV0"
PAIR = b64encode("elastic:pass wörd".encode()).decode()
KEYS = {
    "key": ({"ELASTICSEARCH_API_KEY": SECRET}, f"ApiKey {SECRET}", [SECRET]),
    "pair": (
        {"ELASTICSEARCH_USERNAME": "elastic", "ELASTICSEARCH_PASSWORD": "pass wörd"},
        f"Basic {PAIR}",
        ["pass wörd", PAIR],
    ),
}


@pytest.mark.parametrize(("environment", "header", "secrets"), KEYS.values(), ids=KEYS)
def test_credentials_reach_the_server_and_nothing_else(
    proxy: Proxy,
    shared: str,
    environment: dict[str, str],
    header: str,
    secrets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    denied = {"error": {"type": "security_exception", "reason": "unable to authenticate"}, "status": 401}
    proxy.fault = lambda request: None if request.authorization == header else (401, denied)
    (tmp_path / "corpus.tsv").write_text(CORPUS)
    build_index([tmp_path / "corpus.tsv"], f"{proxy.url}/{shared}")
    retriever = ElasticsearchBM25Retriever(f"{proxy.url}/{shared}")
    assert asyncio.run(retriever.ainvoke("harbour")) == retriever.invoke("harbour")
    shown = [repr(retriever), repr(retriever.index), repr(retriever.index.client), repr(vars(retriever.index))]
    shown.append(pickle.dumps(retriever).decode(errors="replace"))
    proxy.fault = lambda request: (401, denied)
    for search in WAYS.values():
        with pytest.raises(
            RetrievalError, match="does not accept these credentials, or wants some; set ELASTICSEARCH_API_KEY"
        ) as caught:
            search(retriever.index)
        shown += traceback.format_exception(caught.value)
        shown += [repr(caught.value), repr(caught.value.__cause__)]
    with pytest.raises(OperatorError, match="does not accept these credentials"):
        pickle.loads(pickle.dumps(retriever))
    shown.append(caplog.text)
    assert not [secret for secret in secrets for text in shown if secret in text]


def test_credentials_that_are_not_enough_are_told_from_wrong_ones(proxy: Proxy, shared: str) -> None:
    reason = "action [indices:data/read/search] is unauthorized"
    proxy.fault = lambda request: (403, {"error": {"type": "security_exception", "reason": reason}, "status": 403})
    with pytest.raises(OperatorError, match=r"does not allow this with these credentials .*is unauthorized"):
        ElasticsearchIndex.open(f"{proxy.url}/{shared}")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("API_KEY", f"{SECRET}\nX-Other: 1", "ELASTICSEARCH_API_KEY holds characters that no key has"),
        ("API_KEY", f"{SECRET}é", "ELASTICSEARCH_API_KEY holds characters that no key has"),
        ("PASSWORD", SECRET, "Set both ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or neither"),
        ("CA_FILE", "/nowhere/ca.pem", "ELASTICSEARCH_CA_FILE names /nowhere/ca.pem, and there is no such file"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"ELASTICSEARCH_{name}", value)
    with pytest.raises(OperatorError, match=sentence) as caught:
        ElasticsearchIndex.open("http://localhost:9/passages")
    assert SECRET not in str(caught.value)


def test_a_certificate_is_accepted_if_its_authority_is_named(
    proxy: Proxy, place: str, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl, to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Proxy(place, context) as secure:
        address = f"{secure.url}/{shared}"
        with pytest.raises(OperatorError, match=r"There is no secure connection to .*; set ELASTICSEARCH_CA_FILE"):
            ElasticsearchIndex.open(address)
        monkeypatch.setenv("ELASTICSEARCH_CA_FILE", str(certificate))
        index = ElasticsearchIndex.open(address)
        assert index.search("harbour") == asyncio.run(index.asearch("harbour"))
    with pytest.raises(OperatorError, match=r"There is no secure connection to .* or write http://"):
        ElasticsearchIndex.open(f"{proxy.url.replace('http', 'https')}/{shared}")


@pytest.mark.parametrize(
    ("address", "url", "name"),
    [
        ("http://localhost:9200/wiki", "http://localhost:9200", "wiki"),
        ("https://search.example.org:443/wiki-2018_12.3/", "https://search.example.org:443", "wiki-2018_12.3"),
        ("http://[::1]:9200/wiki", "http://[::1]:9200", "wiki"),
    ],
)
def test_an_address_is_a_server_and_a_name(address: str, url: str, name: str) -> None:
    assert Address.parse(address) == Address(url, name)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://localhost:9200", "lacks the name of an index; write http"),
        ("http://localhost:9200/", "lacks the name of an index"),
        ("http://localhost/wiki", "is not an address; write http"),
        ("http://localhost:port/wiki", "is not an address"),
        ("http://localhost:99999/wiki", "is not an address"),
        ("http://:9200/wiki", "is not an address"),
        ("http://localhost:9200/wiki?pretty", "is not an address"),
        ("http://[::1:9200/wiki", "is not an address"),
        ("http://localhost:9200/Wiki", "cannot be named 'Wiki': take lower-case letters"),
        ("http://localhost:9200/a/b", "cannot be named 'a/b'"),
        ("http://localhost:9200/wiki,other", "cannot be named 'wiki,other'"),
        ("http://localhost:9200/*", "cannot be named"),
        ("http://localhost:9200/_all", "cannot be named '_all'"),
        ("http://localhost:9200/..", "cannot be named"),
        (f"http://localhost:9200/{'a' * 201}", "at most 200"),
    ],
)
def test_what_is_no_address_is_refused(address: str, sentence: str) -> None:
    with pytest.raises(OperatorError, match=sentence):
        Address.parse(address)


@pytest.mark.parametrize(
    "address",
    [
        f"http://elastic:{SECRET}@localhost:9200/wiki",
        f"http://:{SECRET}@localhost:9200/wiki",
        f"http://{SECRET}@localhost:9200/wiki",
        f"http://elastic:{SECRET}@localhost:port/wiki",
        f"http://elastic:{SECRET}@localhost:99999/wiki",
        f"http://elastic:{SECRET}@localhost",
        f"http://elastic:{SECRET}@[::1:9200/wiki",
        f"http://elastic:1/{SECRET}@localhost:9200/wiki",
        f"http://elastic:?{SECRET}@localhost:9200/wiki",
        f"http://elastic:#{SECRET}@localhost:9200/wiki",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(OperatorError, match=r"must not hold credentials.*: set ELASTICSEARCH_API_KEY") as caught:
        Address.parse(address)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_there_is_at_least_one_connection(place: str) -> None:
    with pytest.raises(OperatorError, match="at least 1 connection to Elasticsearch, not 0"):
        ElasticsearchIndex.open(place, connections=0)


def test_each_event_loop_has_a_client_that_is_closed_with_it(place: str) -> None:
    script = """
        import asyncio, gc, sys
        from deeprag_graph.retrieval.elasticsearch import ElasticsearchBM25Retriever

        retriever = ElasticsearchBM25Retriever(sys.argv[1])
        for _ in range(3):
            asyncio.run(retriever.ainvoke("harbour"))

        async def one_that_is_forgotten():
            retriever = ElasticsearchBM25Retriever(sys.argv[1])
            cycle = [await retriever.ainvoke("harbour"), retriever]
            cycle.append(cycle)
            del retriever, cycle
            gc.collect()
            await asyncio.sleep(0.1)
            print(len(asyncio.get_running_loop()._asyncgens))

        asyncio.run(one_that_is_forgotten())
    """
    command = [sys.executable, "-X", "dev", "-W", "always", "-c", textwrap.dedent(script), place]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "0\n"
    assert "nclosed" not in ran.stderr
    assert "never" not in ran.stderr
