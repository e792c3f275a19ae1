"""The embedded BM25 index as a LangChain retriever."""

from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor

from deeprag_graph.retrieval.bm25 import BM25Index
from deeprag_graph.retrieval.index import Hit, check_k


def document_of(hit: Hit) -> Document:
    """Return a passage that was found as LangChain has it."""
    return Document(id=hit.id, page_content=hit.text, metadata={"title": hit.title, "score": hit.score})


class BM25Retriever(BaseRetriever):
    """Finds the `k` best passages of a `BM25Index`.

    `index` is an open index or the path of one, opened here and now; `k` is the number of passages, which a call may
    override: `retriever.invoke(query, k=5)`. A passage comes as a `Document`: `id`, `page_content`, and in `metadata`
    its `title` and its `score`. Pickles as the path and opens the index again.

    Raises `OperatorError` if the index cannot be opened or `k` is below 1, `RetrievalError` if a search fails.
    """

    index: BM25Index
    k: int = 3

    def __init__(self, index: BM25Index | str | Path, k: int = 3, **settings: Any) -> None:
        check_k(k)
        opened = index if isinstance(index, BM25Index) else BM25Index.open(index)
        super().__init__(**{"index": opened, "k": k, **settings})

    @property
    def fingerprint(self) -> str:
        """What tells this build of the index from any other, so that cached retrievals are never another's."""
        return self.index.manifest.build

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, k: int | None = None
    ) -> list[Document]:
        hits = self.index.search(query, self.k if k is None else k)
        return [document_of(hit) for hit in hits]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, k: int | None = None
    ) -> list[Document]:
        # In a thread: over millions of passages, or from a cold disk, a search takes tens of milliseconds.
        return await run_in_executor(None, self._get_relevant_documents, query, k=k)
