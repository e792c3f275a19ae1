"""The gold passages of a question, for a second search where the index did not give them up."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.effects import Parts
from deeprag_graph.errors import AwayError
from deeprag_graph.matching import normalise
from deeprag_graph.questions import Question
from deeprag_graph.search import asearch, search
from deeprag_graph.transcript import Passage

_AMONG = 20  # first passages of a search, among which a gold one should be


async def gold_passages(question: Question, parts: Parts) -> list[Passage]:
    """Return the passages that the question's line names, as far as searches for their titles and for it find them.

    They have one of the `supporting_titles` and one of the `supporting_ids`, as far as the line has such. Raises
    `RetrievalError` where a search fails.
    """
    titles = [str(title) for title in question.get("supporting_titles") or []]  # type: ignore[attr-defined]
    ids = {str(id) for id in question.get("supporting_ids") or []}  # type: ignore[attr-defined]
    if not titles and not ids:
        return []
    gold: dict[str, Passage] = {}
    for query in [*titles, question["question"]]:
        found = await _found(parts, query)
        named = [p for p in found if (not titles or p["title"] in titles) and (not ids or p["id"] in ids)]
        gold |= {passage["text"]: passage for passage in named}
    return list(gold.values())


async def _found(parts: Parts, query: str) -> list[Passage]:
    attempt = 1
    while True:
        try:
            return (await asearch(parts.retriever, query, _AMONG, None)).passages
        except AwayError as error:
            if parts.patience is None or not await parts.patience.wait("retriever", error, attempt):
                raise
        attempt += 1


class GoldRetriever(BaseRetriever):
    """Puts the gold passages before what the retriever finds: those first that share most words with the query."""

    retriever: BaseRetriever
    gold: list[Any]

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        return self._merged(query, search(self.retriever, query, k, None).passages)

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        return self._merged(query, (await asearch(self.retriever, query, k, None)).passages)

    def _merged(self, query: str, found: list[Passage]) -> list[Document]:
        words = set(normalise(query).split())
        ranked = sorted(self.gold, key=lambda p: -len(words & set(normalise(f"{p['title']} {p['text']}").split())))
        texts = {passage["text"] for passage in self.gold}
        return [
            Document(id=p["id"], page_content=p["text"], metadata={"title": p["title"], "score": p["score"]})
            for p in [*ranked, *(passage for passage in found if passage["text"] not in texts)]
        ]
