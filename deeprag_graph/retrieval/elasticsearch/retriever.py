"""An index that Elasticsearch holds as a LangChain retriever, made of langchain-elasticsearch's two."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_elasticsearch import AsyncElasticsearchRetriever, ElasticsearchRetriever

from deeprag_graph.errors import RetrievalError
from deeprag_graph.retrieval.elasticsearch.failures import failures
from deeprag_graph.retrieval.elasticsearch.index import ElasticsearchIndex
from deeprag_graph.retrieval.elasticsearch.query import hit_of
from deeprag_graph.retrieval.index import check_k
from deeprag_graph.retrieval.retriever import document_of


class ElasticsearchBM25Retriever(BaseRetriever):
    """Finds the `k` best passages of an `ElasticsearchIndex`.

    `index` is an open index or the address of one, `http(s)://HOST:PORT/NAME`, opened here and now; `k` is the number
    of passages, which a call may override: `retriever.invoke(query, k=5)`. A passage comes as a `Document`: `id`,
    `page_content`, and in `metadata` its `title` and its `score`. Pickles as the address and opens the index again.

    Raises `OperatorError` if the index cannot be opened or `k` is below 1, `RetrievalError` if a search fails.
    """

    index: ElasticsearchIndex
    k: int = 3

    def __init__(self, index: ElasticsearchIndex | str, k: int = 3, **settings: Any) -> None:
        check_k(k)
        opened = index if isinstance(index, ElasticsearchIndex) else ElasticsearchIndex.open(index)
        super().__init__(**{"index": opened, "k": k, **settings})

    @property
    def fingerprint(self) -> str:
        """What tells this build of the index from any other, so that cached retrievals are never another's."""
        return self.index.manifest.build

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        builds: set[str] = set()
        searched = ElasticsearchRetriever(client=self.index.client, **self._how(k, builds))
        with failures(self.index.address, RetrievalError):
            documents = searched._get_relevant_documents(query, run_manager=run_manager)
        self.index.follow(builds)
        return documents

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        builds: set[str] = set()
        searched = AsyncElasticsearchRetriever(client=await self.index.async_client(), **self._how(k, builds))
        with failures(self.index.address, RetrievalError):
            documents = await searched._aget_relevant_documents(query, run_manager=run_manager)
        await self.index.afollow(builds)
        return documents

    def _how(self, k: int | None, builds: set[str]) -> dict[str, Any]:
        """Return how langchain-elasticsearch's retrievers search; `builds` takes the physical indices of the hits."""

        def document(hit: Mapping[str, Any]) -> Document:
            builds.add(hit["_index"])
            return document_of(hit_of(hit))

        body = partial(self.index.body, k=self.k if k is None else k)
        return {"index_name": self.index.address.name, "body_func": body, "document_mapper": document}
