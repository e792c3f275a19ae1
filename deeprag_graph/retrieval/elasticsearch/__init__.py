"""Elasticsearch as the engine: the same passages, ranking and manifest, in an index that several machines may hold."""

from deeprag_graph.retrieval.elasticsearch.index import ElasticsearchIndex
from deeprag_graph.retrieval.elasticsearch.retriever import ElasticsearchBM25Retriever
from deeprag_graph.retrieval.elasticsearch.writer import ElasticsearchWriter

__all__ = ["ElasticsearchBM25Retriever", "ElasticsearchIndex", "ElasticsearchWriter"]
