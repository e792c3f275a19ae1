"""The gold passages of a question, for a second search where the index did not give them up."""

from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.effects import Parts
from deeprag_graph.matching import normalise
from deeprag_graph.questions import Question
from deeprag_graph.search import asearch, search
from deeprag_graph.transcript import Passage

_AMONG = 20  # first passages for a title, one of which should be the article's own


async def gold_passages(question: Question, parts: Parts) -> list[Passage]:
    """Return the passages that the question's line names by `supporting_titles`, as far as the retriever has them.

    Where the line has `supporting_ids` too, only passages with one of those ids count.
    """
    ids = {str(id) for id in question.get("supporting_ids") or []}  # type: ignore[attr-defined]
    gold: dict[str, Passage] = {}
    for title in question.get("supporting_titles") or []:  # type: ignore[attr-defined]
        found = await asearch(parts.retriever, str(title), _AMONG, None)
        same = [p for p in found.passages if p["title"] == title and (not ids or p["id"] in ids)]
        gold |= {passage["text"]: passage for passage in same}
    return list(gold.values())


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
