"""Load one chunk of passages: all of it, whatever the server does meanwhile, each passage once or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tenacity
from elasticsearch import ApiError

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.corpus import Place, Skipped
from deeprag_graph.retrieval.elasticsearch.client import Client

_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Item:
    """A passage on its way: its id, its ordinal, where it stood, and the two lines that the server reads."""

    id: str
    ordinal: int
    place: Place
    lines: bytes


class _BusyError(Exception):
    """Some passages were put off; the text says why."""


def load(client: Client, alias: str, items: Sequence[Item]) -> list[Skipped]:
    """Store the passages under an alias; return those that were refused.

    What is put off for want of memory or disk space is sent again for as long as the client is patient.

    Raises `OperatorError` if that is not long enough, or if the server fails in another way.
    """
    chunk = _Chunk(client, alias, items)
    retrying = tenacity.Retrying(
        **client.patience.retrying(),
        retry=tenacity.retry_if_exception_type(_BusyError),
        sleep=tenacity.sleep_using_event(client.patience.ended),
    )
    try:
        retrying(chunk.send)
    except _BusyError as error:
        raise OperatorError(
            f"Elasticsearch has no room for more passages ({error}); free disk space or memory, and build again."
        ) from None
    return chunk.refused


class _Chunk:
    """The passages that are not stored yet, and those that never will be."""

    def __init__(self, client: Client, alias: str, items: Sequence[Item]) -> None:
        self._client, self._alias, self._items = client, alias, list(items)
        self.refused: list[Skipped] = []
        self._reason = ""  # why something is left

    def send(self) -> None:
        """Send what is left; raises `_BusyError` while something is."""
        items, self._items = self._items, []
        known: list[Item] = []
        for item, outcome in zip(items, self._sent(items), strict=True):
            status = outcome["status"]
            if status == 409:
                known.append(item)
            elif status in _BUSY:
                self._put_off(item, outcome)
            elif status in (400, 413):
                self._refuse(item, f"refused by Elasticsearch: {outcome['error']['type']}")
            elif status >= 400:
                raise OperatorError(f"Elasticsearch does not take passages any more ({_said(outcome)}); build again.")
        self._refuse_others(known)
        if self._items:
            raise _BusyError(self._reason)

    def _sent(self, items: Sequence[Item]) -> list[Mapping[str, Any]]:
        """Send passages and return what became of each; what is too much for one request goes in two."""
        shown = ("errors", "items.create.status", "items.create.error")
        # The client takes what is JSON already, and its types do not say so.
        lines: Any = [item.lines for item in items]
        try:
            answer = self._client.bulk(index=self._alias, operations=lines, require_alias=True, filter_path=shown)
        except ApiError as error:
            if error.meta.status != 413:
                raise
            if len(items) == 1:
                return [{"status": 413, "error": {"type": "too long"}}]
            half = len(items) // 2
            return [*self._sent(items[:half]), *self._sent(items[half:])]
        return [item["create"] for item in answer["items"]]

    def _refuse_others(self, known: Sequence[Item]) -> None:
        """Refuse the passages whose id the index holds, but not those that a first try of this chunk has stored."""
        if not known:
            return
        ids = [item.id for item in known]
        stored = self._client.mget(index=self._alias, ids=ids, source_includes=["ordinal"])["docs"]
        for item, document in zip(known, stored, strict=True):
            if "error" in document:
                self._put_off(item, document)
            elif not document["found"]:
                raise OperatorError(f"Elasticsearch has lost the passage {item.id!r} while it was loaded; build again.")
            elif document["_source"]["ordinal"] != item.ordinal:
                self._refuse(item, "id seen before")

    def _put_off(self, item: Item, outcome: Mapping[str, Any]) -> None:
        self._items.append(item)
        self._reason = _said(outcome)

    def _refuse(self, item: Item, reason: str) -> None:
        self.refused.append(Skipped(*item.place, reason))


def _said(outcome: Mapping[str, Any]) -> str:
    return " ".join(f"{outcome['error']['type']}: {outcome['error'].get('reason', '')}".split())[:200]
