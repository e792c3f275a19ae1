"""Search an index that Elasticsearch holds, as `PassageIndex` says, from threads and from event loops."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Self

from elasticsearch import NotFoundError

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval.elasticsearch.address import Address
from deeprag_graph.retrieval.elasticsearch.client import (
    OPENING,
    SEARCHING,
    AsyncClient,
    Client,
    ClientsOfLoops,
    Patience,
    connect,
    connect_async,
    server_version,
    whole_search,
)
from deeprag_graph.retrieval.elasticsearch.failures import failures
from deeprag_graph.retrieval.elasticsearch.mapping import MOST_HITS
from deeprag_graph.retrieval.elasticsearch.published import get_published, published
from deeprag_graph.retrieval.elasticsearch.query import explanation_of, hits_of, search_body
from deeprag_graph.retrieval.index import Explanation, Hit, check_k
from deeprag_graph.retrieval.manifest import Manifest, damaged, missing

_SEARCHES_AT_ONCE = 64  # in one request


class ElasticsearchIndex:
    """An open index. When a build replaces it, searches go on in the new one, and `manifest` is that one's.

    A search waits up to 30 s for a server that is overloaded or restarting. At most 10,000 passages come back.
    """

    def __init__(self, address: Address, connections: int, client: Client) -> None:
        """Use `ElasticsearchIndex.open`."""
        self.address = address
        self.connections = connections
        self._connected = os.getpid(), client
        self._clients = ClientsOfLoops(partial(connect_async, address, connections))
        self._current = _open(client.patient(OPENING), address)

    @classmethod
    def open(cls, address: str, *, connections: int = 10) -> Self:
        """Open the index at `http(s)://HOST:PORT/NAME`, for as many searches at once as there are `connections`.

        Credentials and the certificate of the server's authority come from the environment: ELASTICSEARCH_API_KEY, or
        ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, and ELASTICSEARCH_CA_FILE.

        Raises `OperatorError` if there is no server or no such index, if the server refuses, or if the index is none of
        ours, of another version or damaged.
        """
        place = Address.parse(address)
        return cls(place, connections, connect(place, connections, Patience(SEARCHING)))

    @property
    def manifest(self) -> Manifest:
        """The manifest of the build that searches find now."""
        return self._current[1]

    @property
    def client(self) -> Client:
        """The client for threads; a forked process gets its own, since on a shared socket it may read others' hits."""
        process, client = self._connected
        if process != os.getpid():
            client = connect(self.address, self.connections, Patience(SEARCHING))
            self._connected = os.getpid(), client
        return client

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """Return the `k` best passages for `query`, best first."""
        return hits_of(self._answer(self.body(query, k)))

    async def asearch(self, query: str, k: int = 3) -> list[Hit]:
        """Return what `search` does."""
        body = self.body(query, k)
        with failures(self.address, RetrievalError):
            answer = (await (await self.async_client()).search(index=self.address.name, body=body)).body
        await self.afollow(_builds(answer))
        return hits_of(answer)

    def search_many(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """Return the passages of each of the queries, 64 queries in a request."""
        bodies = iter([self.body(query, k) for query in queries])
        found = []
        while several := list(islice(bodies, _SEARCHES_AT_ONCE)):
            searches = [part for body in several for part in (whole_search(self.address.name), body)]
            with failures(self.address, RetrievalError):
                answers = self.client.msearch(searches=searches)["responses"]
            self.follow(name for answer in answers for name in _builds(answer))
            found += [hits_of(answer) for answer in answers]
        return found

    def explain(self, query: str, k: int = 3) -> list[Explanation]:
        """Return what `search` returns, each passage with what its score is made of."""
        answer = self._answer({**self.body(query, k), "explain": True})
        return [explanation_of(hit) for hit in answer["hits"]["hits"]]

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        with failures(self.address, RetrievalError):
            answer: dict[str, Any] = self.client.search(index=self.address.name, body=body).body
        self.follow(_builds(answer))
        return answer

    def body(self, query: str, k: int) -> dict[str, Any]:
        """Return the request for the `k` best passages; raises `OperatorError` if `k` is below 1 or too high."""
        check_k(k)
        if k > MOST_HITS < self.manifest.passages:
            raise OperatorError(f"Elasticsearch returns at most {MOST_HITS:,} passages, and k is {k:,}.")
        return search_body(query, min(k, MOST_HITS))

    async def async_client(self) -> AsyncClient:
        """Return the client for the running event loop."""
        return await self._clients.get()

    def follow(self, builds: Iterable[str]) -> None:
        """Read the manifest anew if hits came from another physical index than it tells of."""
        if any(name != self._current[0] for name in builds):
            with failures(self.address, RetrievalError):
                self._take(self.client.indices.get(index=self.address.name).body)

    async def afollow(self, builds: Iterable[str]) -> None:
        """Do what `follow` does."""
        if any(name != self._current[0] for name in builds):
            with failures(self.address, RetrievalError):
                self._take((await (await self.async_client()).indices.get(index=self.address.name)).body)

    def _take(self, found: Mapping[str, Any]) -> None:
        try:
            current = published(found, self.address)
            self._current = current.physical, current.manifest(self.address)
        except OperatorError as error:
            raise RetrievalError(str(error)) from error

    def __len__(self) -> int:
        """Return the number of passages."""
        return self.manifest.passages

    def __repr__(self) -> str:
        return f"ElasticsearchIndex({str(self.address)!r}, {len(self):,} passages)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.address), self.connections)


def _reopen(address: str, connections: int) -> ElasticsearchIndex:
    return ElasticsearchIndex.open(address, connections=connections)


def _open(client: Client, address: Address) -> tuple[str, Manifest]:
    """Return the name and the manifest of the physical index, after looking whether it is as it should be."""
    with failures(address, OperatorError):
        server_version(client)
        for _ in range(2):
            current = get_published(client, address)
            manifest = current.manifest(address)
            try:
                count = client.count(index=current.physical)["count"]
            except NotFoundError:
                continue  # a build has just replaced it
            if count != manifest.passages:
                raise OperatorError(damaged(str(address)))
            return current.physical, manifest
        raise OperatorError(missing(str(address)))


def _builds(answer: Mapping[str, Any]) -> set[str]:
    return {hit["_index"] for hit in answer["hits"]["hits"]}
