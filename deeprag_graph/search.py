"""Searching for passages: any LangChain retriever, with a store of earlier retrievals in front of it."""

import asyncio
import functools
import hashlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from deeprag_graph.transcript import Passage, make_passage
from deeprag_graph.turn import Found

_NAMESPACE = ("deeprag", "passages")
_CACHED = 100_000_000  # characters of passages: some 50,000 retrievals, 200 MB
_log = logging.getLogger(__name__)


def search(retriever: BaseRetriever, query: str, k: int, store: BaseStore | None) -> Found:
    """Return at most `k` passages for the query; whatever the retriever raises goes on to the caller."""
    key = _cache_key(retriever, query, k)
    if store is not None and key:
        try:
            if (item := store.get(_NAMESPACE, key)) is not None:
                return Found(item.value["passages"], cached=True)
        except Exception as error:
            _unusable(error)
    passages = _passages(retriever.invoke(query, **_k(retriever._get_relevant_documents, k)), k)
    if store is not None and key:
        try:
            store.put(_NAMESPACE, key, {"passages": passages}, index=False)
        except Exception as error:
            _unusable(error)
    return Found(passages)


async def asearch(retriever: BaseRetriever, query: str, k: int, store: BaseStore | None) -> Found:
    """Search without blocking the event loop."""
    key = _cache_key(retriever, query, k)
    if store is not None and key:
        try:
            if (item := await store.aget(_NAMESPACE, key)) is not None:
                return Found(item.value["passages"], cached=True)
        except Exception as error:
            _unusable(error)
    passages = _passages(await _ainvoke(retriever, query, k), k)
    if store is not None and key:
        try:
            await store.aput(_NAMESPACE, key, {"passages": passages}, index=False)
        except Exception as error:
            _unusable(error)
    return Found(passages)


def _unusable(error: Exception) -> None:
    """Note a store that fails: it is a cache, and a search that succeeds without it is a success."""
    _log.warning("The store of cached retrievals cannot be used: %s: %s", type(error).__name__, error)


def _cache_key(retriever: BaseRetriever, query: str, k: int) -> str:
    """Return a key, or nothing for a retriever that does not say what it searches.

    A store may be shared by retrievers over several collections, or with filters of several users: the name of a
    retriever's class does not tell them apart.
    """
    mark = fingerprint(retriever)
    if not mark:
        return ""
    return hashlib.sha256(f"{retriever.get_name()}\n{mark}\n{k}\n{query}".encode()).hexdigest()


def fingerprint(retriever: BaseRetriever) -> str:
    """Return what a retriever says of the passages it searches, "" where it says nothing."""
    return str(getattr(retriever, "fingerprint", None) or (retriever.metadata or {}).get("fingerprint") or "")


async def _ainvoke(retriever: BaseRetriever, query: str, k: int) -> list[Document]:
    """Ask a retriever without blocking; LangChain's own async fallback would not hand `k` on."""
    if type(retriever)._aget_relevant_documents is BaseRetriever._aget_relevant_documents:
        return await asyncio.to_thread(retriever.invoke, query, **_k(retriever._get_relevant_documents, k))
    return await retriever.ainvoke(query, **_k(retriever._aget_relevant_documents, k))


def _k(method: Callable[..., Any], k: int) -> dict[str, Any]:
    return {"k": k} if _takes_k(getattr(method, "__func__", method)) else {}


@functools.lru_cache(maxsize=64)  # a signature is dear to read, and is asked for at each retrieval
def _takes_k(method: Callable[..., Any]) -> bool:
    return "k" in inspect.signature(method).parameters


def _passages(documents: list[Document], k: int) -> list[Passage]:
    found = [
        make_passage(d.page_content, str(d.metadata.get("title") or ""), d.id or "", _number(d.metadata.get("score")))
        for d in documents[:k]
    ]
    return [passage for passage in found if passage["text"]]


def _number(score: Any) -> float | None:
    """Return a score as JSON and checkpoints can hold it; some retrievers give numbers of numpy's."""
    try:
        return None if score is None else float(score)
    except (TypeError, ValueError):
        return None


class PassageCache(InMemoryStore):
    """A store for one run over many questions: in memory, and bounded, the oldest retrieval goes first."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[tuple[tuple[str, ...], str], int] = {}  # characters of each retrieval, the oldest first
        self._characters = 0

    def put(self, namespace: tuple[str, ...], key: str, value: Any, *args: Any, **settings: Any) -> None:
        """Keep a retrieval."""
        super().put(namespace, key, value, *args, **settings)
        size = sum(len(passage["text"]) for passage in value["passages"])
        self._characters += size - self._sizes.pop((namespace, key), 0)
        self._sizes[namespace, key] = size
        while self._characters > _CACHED and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self._characters -= self._sizes.pop(oldest)
            self.delete(*oldest)

    async def aput(self, namespace: tuple[str, ...], key: str, value: Any, *args: Any, **settings: Any) -> None:
        """Keep a retrieval; nothing here waits."""
        self.put(namespace, key, value, *args, **settings)
