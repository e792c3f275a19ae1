"""Searching an index: order, scores, odd queries, and indexes that cannot be opened."""

import json
import math
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval import BM25Index, Passage, build_index
from deeprag_graph.retrieval.analysis import analyze

from .conftest import CORPUS


def indexed(folder: Path, passages: list[Passage]) -> BM25Index:
    rows = [json.dumps({"id": p.id, "title": p.title, "text": p.text}) for p in passages]
    (folder / "corpus.jsonl").write_text("\n".join(rows), encoding="utf-8")
    build_index([folder / "corpus.jsonl"], folder / "index")
    return BM25Index.open(folder / "index")


def bm25(query: str, field: list[list[str]], number: int) -> float:
    """BM25 as it stands in the textbooks, k1 1.2 and b 0.75: the score of the `number`th text of a field."""
    average = sum(map(len, field)) / len(field)
    score = 0.0
    for term in analyze(query):
        found_in = sum(term in terms for terms in field)
        frequency = field[number].count(term)
        idf = math.log(1 + (len(field) - found_in + 0.5) / (found_in + 0.5))
        score += idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(field[number]) / average))
    return score


@pytest.mark.parametrize(
    "query", ["harbour", "Orra", "Who built the Orra lighthouse?", "harbour ropes ropes", "Tolle's"]
)
def test_score_is_bm25_of_the_better_field_and_half_of_the_other(index: BM25Index, query: str) -> None:
    rows = [line.split("\t") for line in CORPUS.splitlines()[1:]]
    titles, texts = [analyze(row[2]) for row in rows], [analyze(row[1]) for row in rows]
    expected = {}
    for number, row in enumerate(rows):
        low, high = sorted((bm25(query, titles, number), bm25(query, texts, number)))
        if high > 0:
            expected[row[0]] = high + 0.5 * low
    assert {hit.id: hit.score for hit in index.search(query, 9)} == pytest.approx(expected, rel=1e-5)


def test_hits_come_best_first_with_title_and_text(index: BM25Index) -> None:
    hits = index.search("Where was the engineer Mara Venn born?", 3)
    assert (hits[0].id, hits[0].title) == ("2", "Mara Venn")
    assert hits[0].text == "Mara Venn was an engineer who was born in Tolle."
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_k_bounds_the_hits_and_a_large_k_gives_those_there_are(index: BM25Index) -> None:
    assert len(index.search("harbour", 2)) == 2
    assert len(index.search("harbour", 10**12)) == 3
    assert index.search("harbour", 10**12)[:2] == index.search("harbour", 2)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_the_operators_mistake(index: BM25Index, k: int) -> None:
    with pytest.raises(OperatorError, match="k must be at least 1"):
        index.search("harbour", k)


@pytest.mark.parametrize("query", ["", "   ", "?!", "the of and", "zyzzyva"])
def test_a_query_without_known_words_finds_nothing(index: BM25Index, query: str) -> None:
    assert index.search(query, 3) == []


def test_equal_scores_come_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    names = [str(number) for number in range(50, 0, -1)]
    twins = indexed(tmp_path, [Passage(name, "Twin", "the same text in every one") for name in names])
    for k in (1, 3, 49, 50):
        assert [hit.id for hit in twins.search("same text", k)] == names[:k]


@given(st.text(max_size=200) | st.text(alphabet='"+-:()[]{}^~*?\\/&|! ANDORTto', max_size=60))
@settings(max_examples=300)
def test_no_query_is_syntax_and_none_raises(index: BM25Index, query: str) -> None:
    assert index.search(f"{query} lighthouse", 5) or not index.search("lighthouse", 5)
    index.search(query, 5)


@pytest.mark.parametrize(
    "query", ["harbour " * 100_000, " ".join(f"w{n}" for n in range(50_000)), "\ud800 \x00 harbour"]
)
def test_very_long_and_ill_formed_queries_are_answered(index: BM25Index, query: str) -> None:
    index.search(query, 3)


def test_many_threads_may_search_at_once(index: BM25Index) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: index.search("harbour of Tolle", 3), range(200)))
    assert all(hits == found[0] for hits in found)


def test_a_pickled_index_opens_again(index: BM25Index) -> None:
    copy: BM25Index = pickle.loads(pickle.dumps(index))
    assert copy.search("harbour", 3) == index.search("harbour", 3)


def test_missing_index_names_the_command_that_builds_one(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"no index at .*absent; build one with: deeprag index FILE --out .*absent"):
        BM25Index.open(tmp_path / "absent")


def test_something_else_than_an_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(OperatorError, match="is not an index of passages"):
            BM25Index.open(path)


def remove_a_file(index: Path) -> None:
    next(index.glob("segments-*/*.store")).unlink()


def cut_a_file_short(index: Path) -> None:
    os.truncate(next(index.glob("segments-*/*.idx")), 10)


def remove_the_segments(index: Path) -> None:
    shutil.rmtree(next(index.glob("segments-*")))


def scramble_the_segment_list(index: Path) -> None:
    meta = next(index.glob("segments-*/meta.json"))
    meta.write_bytes(b"x" * meta.stat().st_size)


def cut_the_manifest_short(index: Path) -> None:
    (index / "manifest.json").write_text('{"format": "deeprag-bm25", "schema_version": 2}')


@pytest.mark.parametrize(
    "damage",
    [remove_a_file, cut_a_file_short, remove_the_segments, scramble_the_segment_list, cut_the_manifest_short],
)
def test_damaged_index_is_refused_with_what_to_do(corpus: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    build_index([corpus], tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(OperatorError, match="is damaged; build it again with: deeprag index"):
        BM25Index.open(tmp_path / "index")
    build_index([corpus], tmp_path / "index")
    assert BM25Index.open(tmp_path / "index").search("harbour", 1)


def test_index_of_another_schema_version_is_refused_and_can_be_replaced(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([corpus], out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 0}))
    with pytest.raises(OperatorError, match="has version 0 and this release reads version 2; build it again"):
        BM25Index.open(out)
    build_index([corpus], out)
    assert len(BM25Index.open(out)) == 5


def test_a_panic_of_the_engine_is_a_retrieval_error(index: BM25Index, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException("index out of range")

    monkeypatch.setattr(index._top, "find", panic)
    with pytest.raises(RetrievalError, match="failed: index out of range"):
        index.search("harbour", 1)


def test_an_index_that_may_only_be_read_is_opened_and_nothing_is_written_to_it(corpus: Path, tmp_path: Path) -> None:
    build_index([corpus], tmp_path / "index")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for path in [tmp_path / "index", *(tmp_path / "index").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert BM25Index.open(tmp_path / "index").search("harbour", 1)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    for folder in [tmp_path / "index", *(tmp_path / "index").glob("segments-*")]:
        folder.chmod(0o755)


def test_an_explanation_adds_up_to_the_score_and_says_where_it_comes_from(index: BM25Index) -> None:
    explanations = index.explain("harbour harbour lighthouse of Orra", 5)
    assert [explanation.hit for explanation in explanations] == index.search("harbour harbour lighthouse of Orra", 5)
    for explanation in explanations:
        title, text = explanation.field_score("title"), explanation.field_score("text")
        assert explanation.hit.score == pytest.approx(max(title, text) + 0.5 * min(title, text), rel=1e-5)
    lighthouse = next(term for term in explanations[0].terms if (term.field, term.term) == ("text", "lighthous"))
    assert (lighthouse.frequency, lighthouse.passages_with_term, lighthouse.length) == (1, 1, 6)
    harbour = {e.hit.id: term for e in explanations for term in e.terms if term.term == "harbour"}
    assert harbour["3"].passages_with_term == 3
    once = {e.hit.id: term for e in index.explain("harbour", 5) for term in e.terms}
    assert harbour["3"].score == pytest.approx(2 * once["3"].score)


def test_many_queries_are_each_answered_like_one(index: BM25Index) -> None:
    queries = ["harbour", "", "lighthouse of Orra"]
    assert index.search_many(queries, 2) == [index.search(query, 2) for query in queries]


def test_an_index_removed_under_a_search_goes_on_answering_and_cannot_be_opened_again(
    corpus: Path, tmp_path: Path
) -> None:
    build_index([corpus], tmp_path / "index")
    opened = BM25Index.open(tmp_path / "index")
    before = opened.search("lighthouse", 3)
    shutil.rmtree(tmp_path / "index")
    assert opened.search("lighthouse", 3) == before
    with pytest.raises(OperatorError, match="no index at"):
        BM25Index.open(tmp_path / "index")
