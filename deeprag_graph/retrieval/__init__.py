"""Retrieval: an embedded BM25 index of passages, built by one call from a file, and its LangChain retriever."""

from deeprag_graph.retrieval.bm25 import BM25Index
from deeprag_graph.retrieval.build import build_index
from deeprag_graph.retrieval.corpus import Corpus, Passage, Skipped, Source
from deeprag_graph.retrieval.engine import is_address, open_index
from deeprag_graph.retrieval.index import Explanation, Hit, PassageIndex, TermScore
from deeprag_graph.retrieval.manifest import Manifest
from deeprag_graph.retrieval.retriever import BM25Retriever
from deeprag_graph.retrieval.starter import starter_index, starter_questions

__all__ = [
    "BM25Index",
    "BM25Retriever",
    "Corpus",
    "Explanation",
    "Hit",
    "Manifest",
    "Passage",
    "PassageIndex",
    "Skipped",
    "Source",
    "TermScore",
    "build_index",
    "is_address",
    "open_index",
    "starter_index",
    "starter_questions",
]
