"""Load passages into an index of their own, and move the name onto it when it is whole.

Each build has a physical index NAME-<build>; NAME is an alias, moved in one step that removes the old index too.
Loading goes through a second alias, NAME-<build>-loading, and insists on it: the server would otherwise make a new
index, of a guessed mapping, for a build whose own has been removed. The second alias also decides, once and for all,
whether the index is published or removed: both take it away first, and fail where it is gone.
"""

import contextlib
import json
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, Self, TypeVar

from elasticsearch import ApiError, NotFoundError

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.corpus import Passage, Place, Skipped
from deeprag_graph.retrieval.elasticsearch import mapping
from deeprag_graph.retrieval.elasticsearch.address import Address
from deeprag_graph.retrieval.elasticsearch.bulk import Item, load
from deeprag_graph.retrieval.elasticsearch.client import (
    LOADING,
    OPENING,
    Client,
    Patience,
    connect,
    server_version,
)
from deeprag_graph.retrieval.elasticsearch.failures import cause, failures
from deeprag_graph.retrieval.elasticsearch.published import Published, find_published, get_published
from deeprag_graph.retrieval.manifest import Manifest, is_manifest
from deeprag_graph.retrieval.seen import SeenIds

CHUNK = 1000  # passages in a request, of at most so many bytes
CHUNK_BYTES = 6_000_000
IN_FLIGHT = 2  # requests at once: one is on its way while another is indexed
LONGEST_ID = 512  # bytes of UTF-8
BEAT = 10.0  # seconds between signs of life
PLACING = 60  # seconds for the cluster to find nodes for the new index's shards
DEAD = 300  # seconds without one, after which a build counts as dead: more than a request is tried for

_BUILD = "[0-9a-f]{12}"

_T = TypeVar("_T")


class ElasticsearchWriter:
    """An `IndexWriter` for an address."""

    engine = "elasticsearch"

    def __init__(
        self,
        address: Address,
        client: Client,
        version: str,
        base: Published | None,
        on_refused: Callable[[Skipped], None],
    ) -> None:
        """Use `ElasticsearchWriter.begin`."""
        self.build = uuid.uuid4().hex[:12]
        self.engine_version = version
        self.base = base.manifest(address) if base else None
        self.seen = SeenIds()  # of this build; the server knows the ids of the base
        self._base_index = base.physical if base else None
        self._address, self._client, self._on_refused = address, client, on_refused
        self._physical = f"{address.name}-{self.build}"
        self._loading = f"{self._physical}-loading"
        self._clock = _server_clock(client)
        self._next_beat = time.monotonic() + BEAT
        self._chunk: list[Item] = []
        self._bytes = 0
        self._accepted = 0
        self._in_flight: deque[tuple[int, Future[list[Skipped]]]] = deque()
        self._published = False

    @classmethod
    @contextlib.contextmanager
    def begin(cls, address: str, *, append: bool, shards: int, on_refused: Callable[[Skipped], None]) -> Iterator[Self]:
        """Begin a build of the index at `address`; leaving without `publish` leaves what was there as it was.

        `on_refused` is called, in the thread of the caller, for each passage that Elasticsearch does not take.

        Raises `OperatorError` if there is no server, if it refuses, if the name is that of something else, or if the
        load fails: when the server stays away, or is out of disk space, for longer than two minutes.
        """
        place = Address.parse(address)
        patience = Patience(LOADING)
        client = connect(place, IN_FLIGHT + 1, patience)
        with contextlib.closing(client), failures(place, OperatorError):
            version = server_version(client.patient(OPENING))
            if (old := find_published(client, place)) is not None:
                old.check_replaceable(place)
            base = get_published(client, place) if append else None
            writer = cls(place, client, version, base, on_refused)
            writer._remove_leftovers()
            try:
                writer._create(shards)
                yield writer
            finally:
                writer._end(patience.ended)

    def add(self, passage: Passage, ordinal: int, place: Place) -> None:
        """Take a passage."""
        if len(passage.id.encode()) > LONGEST_ID:
            self._on_refused(Skipped(*place, "id too long for Elasticsearch"))
            return
        item = _item(passage, ordinal, place)
        if self._chunk and (len(self._chunk) >= CHUNK or self._bytes + len(item.lines) > CHUNK_BYTES):
            self._send()
        self._chunk.append(item)
        self._bytes += len(item.lines)

    def flush(self) -> int:
        """Return the number of passages taken, once Elasticsearch finds all of them."""
        if self._chunk:
            self._send()
        while self._in_flight:
            self._receive()
        self._client.indices.refresh(index=self._physical)
        expected = self._accepted + (self.base.passages if self.base else 0)
        if (count := self._client.count(index=self._physical)["count"]) != expected:
            raise OperatorError(
                f"The index {self._address} was loaded with {expected:,} passages and holds {count:,}; build it again."
            )
        return self._accepted

    def publish(self, manifest: Manifest) -> Manifest:
        """Put the index in the place of the old one."""
        self._client.indices.put_mapping(index=self._physical, meta=mapping.published_meta(manifest, self._now()))
        self._client.indices.put_settings(index=self._physical, settings={"index": mapping.PUBLISHED})
        while not self._moved():
            pass
        self._published = True
        return manifest

    def _create(self, shards: int) -> None:
        """Make the physical index, empty or with all that the base holds, which costs no copy of its data."""
        alias: dict[str, Any] = {self._loading: {}}
        try:
            if self._base_index is None:
                settings, mappings = mapping.new_settings(shards), mapping.new_mappings(self._now())
                self._client.indices.create(
                    index=self._physical, settings=settings, mappings=mappings, aliases=alias, wait_for_active_shards=0
                )
            else:
                settings = {f"index.{name}": value for name, value in mapping.GROWING.items()}
                self._client.indices.clone(
                    index=self._base_index,
                    target=self._physical,
                    settings=settings,
                    aliases=alias,
                    wait_for_active_shards=0,
                )
        except NotFoundError as error:
            raise self._outrun() from error  # by a build that has replaced the base, and removed it
        except ApiError as error:
            # A request that was tried again, since the answer to the first was lost
            if cause(error)[0] != "resource_already_exists_exception":
                raise
        self._beat()
        self._wait_for_place()

    def _wait_for_place(self) -> None:
        # Some versions answer 408 when the time is over.
        patient = self._client.options(ignore_status=408, request_timeout=PLACING + OPENING)
        health = patient.cluster.health(index=self._physical, wait_for_status="yellow", timeout=f"{PLACING}s")
        if health["timed_out"]:
            raise OperatorError(
                f"Elasticsearch at {self._address.url} finds no place for a new index, mostly since its disks are "
                "full; free some space and build again."
            )

    def _send(self) -> None:
        if time.monotonic() > self._next_beat:
            self._beat()
        if len(self._in_flight) == IN_FLIGHT:
            self._receive()
        loaded = _in_thread(partial(load, self._client, self._loading, self._chunk))
        self._in_flight.append((len(self._chunk), loaded))
        self._chunk, self._bytes = [], 0

    def _receive(self) -> None:
        offered, loaded = self._in_flight.popleft()
        refused = loaded.result()
        self._accepted += offered - len(refused)
        for record in refused:
            self._on_refused(record)

    def _moved(self) -> bool:
        """Move the name from what it stands for now onto this build; False if another build was faster."""
        old = find_published(self._client, self._address)
        if old and old.physical == self._physical:
            return True  # by a request whose answer was lost
        if old:
            old.check_replaceable(self._address)
        if self._base_index and (old is None or old.physical != self._base_index):
            raise self._outrun()
        # No alias has two write indices: of two builds that end at once, one is refused and looks again.
        name = {"alias": self._address.name, "index": self._physical, "is_write_index": True}
        actions: list[dict[str, Any]] = [{"add": name}, _taking(self._physical)]
        if old:
            actions.append({"remove_index": {"index": old.physical}})
        try:
            self._client.indices.update_aliases(actions=actions)
            return True
        except ApiError:
            now = find_published(self._client, self._address)
            if (now and now.physical) == (old and old.physical):
                raise
            return False

    def _outrun(self) -> OperatorError:
        return OperatorError(f"Another build has changed the index {self._address} meanwhile; append again.")

    def _end(self, ended: threading.Event) -> None:
        """Stop what is under way, and remove the index unless it was published."""
        ended.set()
        if not self._published:
            with contextlib.suppress(Exception):  # it was, and the answer is lost; or no server: a later build does it
                _remove(self._client.patient(OPENING), self._physical)

    def _beat(self) -> None:
        self._client.indices.put_mapping(index=self._physical, meta=mapping.growing_meta(self._now()))
        self._next_beat = time.monotonic() + BEAT

    def _now(self) -> int:
        """Return the server's time in seconds: builds on machines whose clocks differ must agree on who is dead."""
        return int(self._clock + time.monotonic())

    def _remove_leftovers(self) -> None:
        """Remove the indices of builds under this name that were killed: no name, no sign of life for long."""
        pattern = re.compile(f"{re.escape(self._address.name)}-{_BUILD}")
        found = self._client.indices.get(index=f"{self._address.name}-*", expand_wildcards="all").body
        for physical, index in found.items():
            ours = pattern.fullmatch(physical) and is_manifest(mapping.manifest_in(index))
            unnamed = set(index["aliases"]) <= {f"{physical}-loading"}
            if ours and unnamed and self._now() - _last_beat(index) > DEAD:
                with contextlib.suppress(NotFoundError):
                    _remove(self._client, physical, is_loading=bool(index["aliases"]))


def _taking(physical: str) -> dict[str, Any]:
    """Return the action that takes the loading alias from an index, of which one request alone succeeds."""
    # Without `must_exist` the server says in its answer that there was none, and carries out the other actions.
    return {"remove": {"index": physical, "alias": f"{physical}-loading", "must_exist": True}}


def _remove(client: Client, physical: str, *, is_loading: bool = True) -> None:
    """Remove an index of a build; raises `NotFoundError`, and leaves it, if it has been published."""
    if is_loading:
        client.indices.update_aliases(actions=[_taking(physical)])
    client.indices.delete(index=physical)


def _in_thread(function: Callable[[], _T]) -> Future[_T]:
    """Call a function in a thread that nothing waits for: not even the end of the program, unlike a pool's."""
    future: Future[_T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _last_beat(index: mapping.Index) -> float:
    created = int(index["settings"]["index"]["creation_date"]) / 1000
    beat: int = index["mappings"]["_meta"].get("beat", 0)
    return max(created, beat)


def _server_clock(client: Client) -> float:
    """Return what to add to the monotonic clock to have the server's time in seconds."""
    health: Any = client.cat.health(h="epoch", format="json").body
    return float(health[0]["epoch"]) - time.monotonic()


def _item(passage: Passage, ordinal: int, place: Place) -> Item:
    action = json.dumps({"create": {"_id": passage.id}}, ensure_ascii=False)
    source = {"title": passage.title, "text": passage.text, "ordinal": ordinal}
    return Item(passage.id, ordinal, place, f"{action}\n{json.dumps(source, ensure_ascii=False)}".encode())
