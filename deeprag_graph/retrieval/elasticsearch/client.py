"""Clients of Elasticsearch that wait for a server that is busy or restarting, and take no part for the whole.

langchain-elasticsearch's retrievers look at the hits alone and try once. They call `search` of the client they are
given, so both are done here, where each request passes.
"""

import asyncio
import dataclasses
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import tenacity
from elastic_transport import ApiResponse, BaseNode, NodePool
from elasticsearch import ApiError, AsyncElasticsearch, Elasticsearch, NotFoundError
from elasticsearch.exceptions import HTTP_EXCEPTIONS, ConnectionError, ConnectionTimeout, SSLError

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.elasticsearch.address import Address, access

SEARCHING = 30.0  # seconds that a search goes on trying: a node restarts in fewer
LOADING = 120.0
OPENING = 5.0
GONE = 2.0  # the same for an index that is not there, which a build may just be replacing

_OVERLOADED = (429, 502, 503, 504)
_WHOLE = {"allow_partial_search_results": False, "search_type": "dfs_query_then_fetch"}


class PartialAnswerError(Exception):
    """Some shards of the index gave no answer, so a passage that should have been found may be missing."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds a request is tried again, and whether this has been `ended`, from another thread."""

    seconds: float
    ended: threading.Event = field(default_factory=threading.Event)

    def retrying(self) -> dict[str, Any]:
        """Return settings of tenacity: pauses that grow, each of a random length, so that many clients spread out."""
        return {
            "wait": tenacity.wait_random_exponential(multiplier=0.2, max=5),
            "stop": self._is_over,
            "reraise": True,
        }

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        seconds = min(self.seconds, GONE) if isinstance(error, NotFoundError) else self.seconds
        return self.ended.is_set() or (state.seconds_since_start or 0) + state.upcoming_sleep > seconds


class Client(Elasticsearch):
    """elasticsearch-py's client with patience; what `options` returns has the same."""

    patience = Patience(SEARCHING)

    def options(self, *args: Any, **settings: Any) -> Self:
        """Return a client with other options."""
        client = super().options(*args, **settings)
        client.patience = self.patience
        return client

    def patient(self, seconds: float) -> Self:
        """Return a client that waits for so long."""
        client = self.options(request_timeout=seconds)
        client.patience = Patience(seconds)
        return client

    def perform_request(self, method: str, path: str, **request: Any) -> ApiResponse[Any]:
        """Perform a request again until it is answered in full or patience ends."""

        def attempt() -> ApiResponse[Any]:
            return _checked(path, super(Client, self).perform_request(method, path, **_whole(path, request)))

        sleep = tenacity.sleep_using_event(self.patience.ended)
        retrying = tenacity.Retrying(**self.patience.retrying(), retry=_passing(path), sleep=sleep)
        return retrying(attempt)


class AsyncClient(AsyncElasticsearch):
    """The same for an event loop."""

    patience = Patience(SEARCHING)
    turns: asyncio.Semaphore  # one for each connection: the wait for one would count as the server's time to answer

    def options(self, *args: Any, **settings: Any) -> Self:
        """Return a client with other options."""
        client = super().options(*args, **settings)
        client.patience, client.turns = self.patience, self.turns
        return client

    async def perform_request(self, method: str, path: str, **request: Any) -> ApiResponse[Any]:
        """Perform a request again until it is answered in full or patience ends."""

        async def attempt() -> ApiResponse[Any]:
            async with self.turns:
                answer = await super(AsyncClient, self).perform_request(method, path, **_whole(path, request))
            return _checked(path, answer)

        return await tenacity.AsyncRetrying(**self.patience.retrying(), retry=_passing(path))(attempt)


_Loop = tuple[int, asyncio.AbstractEventLoop]  # and its process: a fork has the loops of its parent, and its sockets


class ClientsOfLoops:
    """An asynchronous client for each event loop, made when the loop first asks and closed with it, or with this."""

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self._make = make
        self._clients: dict[_Loop, AsyncClient] = {}
        self._lives: dict[_Loop, AsyncGenerator[None]] = {}
        weakref.finalize(self, _end_all, self._lives).atexit = False

    async def get(self) -> AsyncClient:
        """Return the client of the running loop."""
        loop = os.getpid(), asyncio.get_running_loop()
        if loop not in self._clients:
            # Loops of other threads come here too.
            for other in list(self._clients):
                if other[1].is_closed():
                    self._clients.pop(other, None)
                    self._lives.pop(other, None)
            client = self._clients[loop] = self._make()
            life = self._lives[loop] = _live(client)
            await anext(life)
        return self._clients[loop]


async def _live(client: AsyncClient) -> AsyncGenerator[None]:
    # A loop that shuts down ends the asynchronous generators that began in it: a place to close what belongs to it.
    try:
        yield
    finally:
        await client.close()


def _end_all(lives: dict[_Loop, AsyncGenerator[None]]) -> None:
    async def end(life: AsyncGenerator[None]) -> None:
        await life.aclose()

    for (process, loop), life in lives.items():
        if process == os.getpid() and not loop.is_closed():
            loop.call_soon_threadsafe(lambda loop, life: loop.create_task(end(life)), loop, life)


class _OneServer(NodePool):
    """The server of an address: there is no other to go to when it fails, and waiting for it is nothing to warn of."""

    def mark_dead(self, node: BaseNode, _now: float | None = None) -> None:
        """Leave the server where it is."""


def connect(address: Address, connections: int, patience: Patience) -> Client:
    """Return a client with at most so many connections at once; it connects when it is used.

    Raises `OperatorError` if the environment's settings cannot be used.
    """
    client = Client(address.url, **_settings(connections, patience))
    client.patience = patience
    return client


def connect_async(address: Address, connections: int) -> AsyncClient:
    """Return a client for the running event loop, as `connect` does."""
    client = AsyncClient(address.url, **_settings(connections, AsyncClient.patience))
    client.turns = asyncio.Semaphore(connections)
    return client


def server_version(client: Client) -> str:
    """Return the server's version, or nothing where the credentials do not allow to see it.

    Raises `OperatorError` for a version that this package does not know.
    """
    try:
        version = str(client.info()["version"]["number"])
    except ApiError as error:
        if error.meta.status == 403:
            return ""
        raise
    if not version.startswith(("8.", "9.")):
        raise OperatorError(
            f"The Elasticsearch at {_url(client)} is version {version}; versions 8 and 9 are supported."
        )
    return version


def _url(client: Client) -> str:
    return next(iter(client.transport.node_pool.all())).base_url


def _settings(connections: int, patience: Patience) -> dict[str, Any]:
    if connections < 1:
        raise OperatorError(f"There must be at least 1 connection to Elasticsearch, not {connections}.")
    return {
        **access(),
        "connections_per_node": connections,
        "node_pool_class": _OneServer,
        "request_timeout": patience.seconds / 2,  # so that what is never answered is asked a second time
        "max_retries": 0,
    }


def _whole(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return the request of a search with what makes it exact over several shards, and refuse answers of some."""
    if not path.endswith("/_search"):
        return request
    return {**request, "params": {**_WHOLE_PARAMS, **(request.get("params") or {})}}


def whole_search(index: str) -> dict[str, Any]:
    """Return the header that asks the same of one of several searches in a request."""
    return {"index": index, **_WHOLE}


_WHOLE_PARAMS = {name: str(value).lower() for name, value in _WHOLE.items()}


def _checked(path: str, answer: ApiResponse[Any]) -> ApiResponse[Any]:
    """Return the answer, unless a part of it is missing or is an error."""
    if path.endswith(("/_search", "/_msearch", "/_count", "/_refresh")):
        for item in answer.body.get("responses", [answer.body]):
            if "error" in item:
                meta = dataclasses.replace(answer.meta, status=item["status"])
                raise HTTP_EXCEPTIONS.get(item["status"], ApiError)("a search failed", meta=meta, body=item)
            _check_shards(item)
    return answer


def _check_shards(answer: Mapping[str, Any]) -> None:
    shards = answer["_shards"]
    if answer.get("timed_out"):
        raise PartialAnswerError("it stopped searching before it was through")
    if shards["failed"]:
        raise PartialAnswerError(f"{shards['failed']} of {shards['total']} shards failed")


def _passing(path: str) -> tenacity.retry_base:
    searches = path.endswith(("/_search", "/_msearch"))

    def may_pass(error: BaseException) -> bool:
        if isinstance(error, ApiError):
            return error.meta.status in _OVERLOADED or (searches and isinstance(error, NotFoundError))
        if isinstance(error, SSLError):
            return False
        return isinstance(error, PartialAnswerError | ConnectionError | ConnectionTimeout)

    return tenacity.retry_if_exception(may_pass)
