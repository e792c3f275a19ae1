"""The query as Elasticsearch reads it, its hits as passages, and its explanation of a score as term scores."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from deeprag_graph.retrieval.analysis import analyze
from deeprag_graph.retrieval.index import MOST_TERMS, TIE_BREAKER, Explanation, Hit, TermScore

FIELDS = ("title", "text")


def search_body(query: str, k: int) -> dict[str, Any]:
    """Return the request for the `k` best passages, equal scores in the order of the corpus."""
    return {
        "size": k,
        "query": _matching(query),
        "sort": [{"_score": "desc"}, {"ordinal": "asc"}],
        "track_total_hits": False,
    }


def hits_of(answer: Mapping[str, Any]) -> list[Hit]:
    """Return the passages of an answer, best first."""
    return [hit_of(hit) for hit in answer["hits"]["hits"]]


def hit_of(hit: Mapping[str, Any]) -> Hit:
    """Return the passage of one hit."""
    return Hit(hit["_id"], hit["_source"]["title"], hit["_source"]["text"], hit["_score"])


def explanation_of(hit: Mapping[str, Any]) -> Explanation:
    """Return a hit of a search that asked for explanations, with what each term adds to its score."""
    return Explanation(hit_of(hit), [_term_score(*found) for found in _weights(hit["_explanation"])])


def _matching(query: str) -> dict[str, Any]:
    # No query has more terms than characters, so most need not be looked into here: the server analyses them.
    if len(query) > MOST_TERMS and (terms := Counter(analyze(query))).total() > MOST_TERMS:
        best = list(terms.items())[:MOST_TERMS]
        return {"dis_max": {"tie_breaker": TIE_BREAKER, "queries": [_any_of(field, best) for field in FIELDS]}}
    text = query.encode(errors="replace").decode()  # half of a surrogate pair is no character of any word
    return {"multi_match": {"query": text, "type": "best_fields", "tie_breaker": TIE_BREAKER, "fields": FIELDS}}


def _any_of(field: str, terms: list[tuple[str, int]]) -> dict[str, Any]:
    return {"bool": {"should": [{"term": {field: {"value": term, "boost": count}}} for term, count in terms]}}


_WEIGHT = re.compile(r"weight\((title|text):(.*) in \d+\)", re.DOTALL)


def _weights(node: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the field, the term and the explanation of each term that a passage was found by."""
    if found := _WEIGHT.match(node["description"]):
        yield found[1], found[2], node
        return
    for part in node["details"]:
        yield from _weights(part)


def _term_score(field: str, term: str, node: Mapping[str, Any]) -> TermScore:
    values = dict(_values(node))
    return TermScore(
        field,
        term,
        score=node["value"],
        frequency=values["freq"],
        passages_with_term=int(values["n"]),
        length=values["dl"],
        average_length=values["avgdl"],
    )


def _values(node: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the quantities that a score is made of by the names of Lucene's formula: freq, n, N, dl, avgdl."""
    yield node["description"].split(",")[0], node["value"]
    for part in node["details"]:
        yield from _values(part)
