"""The k best passages of an embedded index: exactly, and mostly without scoring each passage that holds a word.

The score is s = max(t, x) + ½ min(t, x), with t and x the BM25 of the title and of the text. For a plain sum of term
scores tantivy skips most postings, for this maximum none. So take the best by the sum b = ½ t + x, and the best by t.
Let θ be the k-th best b. From s = max(b, t + ½ x) follows:

* s ≥ b, so the k-th best s is at least θ;
* where s is not b, t > x, so s = t + ½ x < 1.5 t: below θ unless t > θ / 1.5.

So whatever is among the k best stands in the list by b, or in the list by t with t > θ / 1.5, and of these few s is
known from b and t, or is worked out for them alone. Where a list ends too soon to say so, every passage is scored.
"""

from collections import Counter
from itertools import pairwise

import tantivy

from deeprag_graph.retrieval.index import TIE_BREAKER

BY_SUM = 100  # passages taken by b; 3 cost as much
BY_TITLE = 64  # passages taken by t
CLOSE = 1e-5  # relative; 32-bit sums of the same numbers in another order differ by 3e-7 at most, for 1,000 terms

Scored = tuple[float, tantivy.DocAddress]


class TopPassages:
    """Finds the best passages for the terms of a query, each with the number of times that it stands there."""

    def __init__(self, index: tantivy.Index) -> None:
        self.index = index
        self._schema = index.schema
        self._searcher = index.searcher()

    def find(self, terms: Counter[str], k: int) -> list[Scored]:
        """Return the `k` best, best first, equal scores in the order of the corpus."""
        limit = max(BY_SUM, 4 * k)
        by_sum = self._search(self._sum(terms, TIE_BREAKER, 1.0), limit)
        by_title = self._search(self._sum(terms, 1.0, 0.0), BY_TITLE)
        threshold = by_sum[k - 1][0] * (1 - CLOSE) if len(by_sum) >= k else 0.0
        if _ends_above(by_sum, limit, threshold) or _ends_above(by_title, BY_TITLE, threshold / 1.5):
            return self.find_exhaustively(terms, k)
        scores, unknown = _known_scores(by_sum, by_title, threshold, cut=len(by_sum) == limit)
        best = sorted(scores.values(), key=lambda scored: -scored[0])[: k + 1]
        if not unknown and not any(a[0] * (1 - CLOSE) <= b[0] for a, b in pairwise(best)):
            return best[:k]
        least = best[:k][-1][0] * (1 - CLOSE) if len(best) >= k else 0.0
        return self._rescored(terms, [address for score, address in scores.values() if score >= least] + unknown, k)

    def find_exhaustively(self, terms: Counter[str], k: int) -> list[Scored]:
        """Return the same, by the score of each passage that holds a word."""
        # tantivy orders equal scores by segment, and segments are not in the order of the corpus. So take all passages
        # that score like the last one, put them in order, then cut.
        query, limit = self._formula(terms), k + 1
        found = self._search(query, limit)
        while len(found) == limit and found[k - 1][0] == found[-1][0]:
            limit *= 4
            found = self._search(query, limit)
        return self._in_order(found)[:k]

    def _rescored(self, terms: Counter[str], candidates: list[tantivy.DocAddress], k: int) -> list[Scored]:
        ordinals = self._searcher.fast_field_values("ordinal", candidates)
        these = tantivy.Query.const_score_query(tantivy.Query.term_set_query(self._schema, "ordinal", ordinals), 0.0)
        query = tantivy.Query.boolean_query([(tantivy.Occur.Must, these), (tantivy.Occur.Should, self._formula(terms))])
        return self._in_order(self._search(query, len(candidates)))[:k]

    def _in_order(self, found: list[Scored]) -> list[Scored]:
        ordinals = self._searcher.fast_field_values("ordinal", [address for _, address in found])
        pairs = sorted(zip(found, ordinals, strict=True), key=lambda pair: (-pair[0][0], pair[1]))
        return [scored for scored, _ in pairs]

    def _search(self, query: tantivy.Query, limit: int) -> list[Scored]:
        # no count: to count the hits, each has to be visited
        return self._searcher.search(query, min(limit, self._searcher.num_docs), count=False).hits

    def _formula(self, terms: Counter[str]) -> tantivy.Query:
        fields = [self._sum(terms, 1.0, 0.0), self._sum(terms, 0.0, 1.0)]
        return tantivy.Query.disjunction_max_query(fields, TIE_BREAKER)

    def _sum(self, terms: Counter[str], title: float, text: float) -> tantivy.Query:
        """Return the query whose score is the weighted sum over all terms in both fields."""
        clauses = []
        for field, weight in (("title_terms", title), ("text_terms", text)):
            for term, count in terms.items() if weight else ():
                clause = tantivy.Query.term_query(self._schema, field, term, "freq")
                boost = weight * count
                clauses.append(
                    (tantivy.Occur.Should, clause if boost == 1 else tantivy.Query.boost_query(clause, boost))
                )
        return tantivy.Query.boolean_query(clauses)


def _ends_above(found: list[Scored], limit: int, threshold: float) -> bool:
    """Whether passages that score at least `threshold` may stand beyond the end of a list."""
    return len(found) == limit and found[-1][0] >= threshold


def _known_scores(
    by_sum: list[Scored], by_title: list[Scored], threshold: float, *, cut: bool
) -> tuple[dict[tuple[int, int], Scored], list[tantivy.DocAddress]]:
    """Return the scores that follow from b and t, and the passages that may reach the threshold and have no b here."""
    scores = {_key(address): (b, address) for b, address in by_sum}
    most = by_sum[-1][0] if cut else 0.0  # the b of a passage that is not in the list
    unknown = []
    for t, address in by_title:
        if 1.5 * t < threshold:
            break
        key = _key(address)
        if key in scores:
            scores[key] = (max(scores[key][0], 0.75 * t + 0.5 * scores[key][0]), address)
        elif 0.75 * t + 0.5 * most >= threshold:
            unknown.append(address)
    return scores, unknown


def _key(address: tantivy.DocAddress) -> tuple[int, int]:
    return address.segment_ord, address.doc
