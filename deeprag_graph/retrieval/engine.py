"""The two engines behind one door: a folder is the embedded engine's, an address is Elasticsearch's."""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.bm25 import BM25Index
from deeprag_graph.retrieval.bm25_writer import BM25Writer
from deeprag_graph.retrieval.corpus import Passage, Place, Skipped
from deeprag_graph.retrieval.index import PassageIndex
from deeprag_graph.retrieval.manifest import Manifest
from deeprag_graph.retrieval.seen import SeenIds


class IndexWriter(Protocol):
    """Takes the passages of one build; nobody sees them before `publish`, and without it nothing has happened.

    `build` names the build, `base` is the manifest of the index that is appended to, `seen` the ids it holds, as far as
    the engine does not look them up itself.
    """

    build: str
    engine: str
    engine_version: str
    base: Manifest | None
    seen: SeenIds

    def add(self, passage: Passage, ordinal: int, place: Place) -> None:
        """Take a passage; `ordinal` puts equal scores in order, `place` is where it stood, for the engine's refusal."""

    def flush(self) -> int:
        """Return the number of passages taken, once all of them are safely stored and none can be refused any more."""

    def publish(self, manifest: Manifest) -> Manifest:
        """Put the new index in the place of the old one, in one step; return the manifest as it is stored."""


def is_address(place: str | Path) -> bool:
    """Whether an index is at an address of Elasticsearch, not in a folder; `OperatorError` for any other address."""
    scheme, found, _ = str(place).partition("://")
    if found and scheme.lower() not in ("http", "https"):
        shown = "That" if "@" in str(place) else place  # with credentials in it
        raise OperatorError(f"{shown} is no place for an index: name a folder, or http://HOST:PORT/NAME.")
    return bool(found)


def open_index(place: str | Path, *, connections: int = 10) -> PassageIndex:
    """Open the index in a folder or at `http(s)://HOST:PORT/NAME`, with a connection for each search at a time.

    Raises `OperatorError` if there is none, if it is none of ours or of another version, or if it is damaged.
    """
    if not is_address(place):
        return BM25Index.open(place)
    require_elasticsearch()
    from deeprag_graph.retrieval.elasticsearch import ElasticsearchIndex  # noqa: PLC0415 - an extra

    return ElasticsearchIndex.open(str(place), connections=connections)


def open_writer(
    place: str | Path, *, append: bool, shards: int | None, on_refused: Callable[[Skipped], None]
) -> AbstractContextManager[IndexWriter]:
    """Begin a build at a folder or an address; leaving the context without `publish` removes what it has written."""
    if not is_address(place):
        if shards is not None:
            raise OperatorError(
                "Only Elasticsearch has shards: leave --shards out, or give --out http://HOST:PORT/NAME."
            )
        return BM25Writer.begin(Path(place), append=append)
    if append and shards is not None:
        raise OperatorError(
            "An index keeps its number of shards: leave --shards out, or build it anew without --append."
        )
    require_elasticsearch()
    from deeprag_graph.retrieval.elasticsearch import ElasticsearchWriter  # noqa: PLC0415 - an extra

    return ElasticsearchWriter.begin(str(place), append=append, shards=shards or 1, on_refused=on_refused)


def check_place(place: str | Path) -> None:
    """Raise `OperatorError` unless an index can be built at a folder or an address: by a build of nothing."""
    with open_writer(place, append=False, shards=None, on_refused=lambda _: None):
        return


def require_elasticsearch() -> None:
    """Raise `OperatorError` unless the extra is installed."""
    if importlib.util.find_spec("langchain_elasticsearch") is None:
        raise OperatorError('Elasticsearch needs an extra: pip install "deeprag-graph[elasticsearch]".')
