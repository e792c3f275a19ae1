"""The best passages found the short way are those of the plain formula over every passage, in the same order."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprag_graph.retrieval import BM25Index, build_index
from deeprag_graph.retrieval import top as module
from deeprag_graph.retrieval.bm25 import _open_tantivy
from deeprag_graph.retrieval.folder import segments_of
from deeprag_graph.retrieval.top import Scored, TopPassages

WORDS = [
    f"{stem}{ending}" for stem in ("lam", "har", "rop", "fer", "tol", "gul") for ending in ("ba", "do", "ka", "mi")
]


def draw(random: Random, most: int) -> str:
    """Words with the early ones much more frequent than the late ones, as in a language."""
    return " ".join(WORDS[int(len(WORDS) * random.random() ** 2.5)] for _ in range(random.randrange(1, most)))


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[TopPassages]:
    """Indexes of 2,000 passages: one with twins, one of short texts whose titles decide, one appended to four times."""
    found = []
    for number, (title, text, parts) in enumerate([(3, 30, 1), (9, 4, 1), (5, 12, 5)]):
        random, folder = Random(number), tmp_path_factory.mktemp("top")
        rows = [(draw(random, title), draw(random, text)) for _ in range(1_000)]
        rows += [random.choice(rows) for _ in range(1_000)]
        for part in range(parts):
            file = folder / f"{part}.tsv"
            lines = [f"{place}\t{text}\t{title}" for place, (title, text) in enumerate(rows) if place % parts == part]
            file.write_text("\n".join(["id\ttext\ttitle", *lines]) + "\n")
            build_index([file], folder / "index", append=part > 0)
        manifest = BM25Index.open(folder / "index").manifest
        found.append(TopPassages(_open_tantivy(segments_of(folder / "index", manifest.build))))
    return found


queries = st.lists(st.sampled_from([*WORDS, "nowhere"]), min_size=1, max_size=12).map(Counter)


@given(st.integers(0, 2), queries, st.sampled_from([1, 3, 10]), st.sampled_from([(100, 64), (8, 64), (100, 4), (5, 2)]))
@settings(max_examples=400)
def test_the_short_way_finds_what_scoring_every_passage_finds(
    indexes: list[TopPassages], which: int, terms: Counter[str], k: int, lists: tuple[int, int]
) -> None:
    top = indexes[which]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BY_SUM", lists[0])
        patch.setattr(module, "BY_TITLE", lists[1])
        short = top.find(terms, k)
    plain = top.find_exhaustively(terms, k)
    assert [key(address) for _, address in short] == [key(address) for _, address in plain]
    assert [score for score, _ in short] == pytest.approx([score for score, _ in plain], rel=1e-6)


class Rounded(TopPassages):
    """Rounds as sums of 32-bit numbers in another order do: the two lists are off by some 1e-6, either way."""

    def _search(self, query: tantivy.Query, limit: int) -> list[Scored]:
        found = super()._search(query, limit)
        if limit not in (module.BY_SUM, module.BY_TITLE):
            return found
        off = [(score * (1 + 1e-6 * (-1) ** place), address) for place, (score, address) in enumerate(found)]
        return sorted(off, key=lambda scored: -scored[0])


@given(st.integers(0, 2), queries, st.sampled_from([1, 3, 10]))
@settings(max_examples=200)
def test_rounding_changes_no_order(indexes: list[TopPassages], which: int, terms: Counter[str], k: int) -> None:
    plain = indexes[which].find_exhaustively(terms, k)
    rounded = Rounded(indexes[which].index).find(terms, k)
    assert [key(address) for _, address in rounded] == [key(address) for _, address in plain]


def test_twins_of_many_builds_come_in_the_order_of_the_corpus(tmp_path: Path) -> None:
    for part in range(12):
        lines = [f"{part * 200 + n}\tlamps of Orra\tHarbour\n" for n in range(200)]
        (tmp_path / "part.tsv").write_text("id\ttext\ttitle\n" + "".join(lines))
        build_index([tmp_path / "part.tsv"], tmp_path / "index", append=part > 0)
        # each time, since the engine's own order of the builds is by chance
        hits = BM25Index.open(tmp_path / "index").search("lamps", 5)
        assert [hit.id for hit in hits] == ["0", "1", "2", "3", "4"]


def test_all_ways_are_taken(indexes: list[TopPassages], monkeypatch: pytest.MonkeyPatch) -> None:
    ways: Counter[str] = Counter(find=0, _rescored=0, find_exhaustively=0)

    def counted(way: str) -> None:
        def count(top: TopPassages, *arguments: object) -> list[Scored]:
            ways[way] += 1
            found: list[Scored] = original(top, *arguments)
            return found

        original = getattr(TopPassages, way)
        monkeypatch.setattr(TopPassages, way, count)

    for way in list(ways):
        counted(way)
    random = Random(4)
    for _ in range(100):
        for top in indexes:
            top.find(Counter(draw(random, 9).split()), 3)
    assert 0 < ways["_rescored"] < ways["find"] > ways["find_exhaustively"] > 0
    assert ways["_rescored"] + ways["find_exhaustively"] < ways["find"]


def key(address: tantivy.DocAddress) -> tuple[int, int]:
    return address.segment_ord, address.doc
