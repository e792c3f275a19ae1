"""The engines that the retrieval benchmark compares: ours, and peers as somebody would write them in a few lines."""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import tantivy

from deeprag_graph.retrieval import build_index, open_index

Search = Callable[[str], int]  # finds the best passages with title and text, and returns how many there are
TOP = 3


class Engine(NamedTuple):
    """What is asked of an engine. A place is a folder, or for Elasticsearch the address of an index."""

    build: Callable[[Path, str], None]
    open: Callable[[str], Search]
    bytes_of: Callable[[str], int]  # 0 where there is no index
    needs: str = ""  # the package that has to be there


def _build_ours(passages: Path, place: str) -> None:
    build_index([passages], place)


def _open_ours(place: str) -> Search:
    index = open_index(place)
    return lambda query: len(index.search(query, TOP))


def _build_tantivy(passages: Path, place: str) -> None:
    schema = tantivy.SchemaBuilder().add_text_field("id", stored=True, tokenizer_name="raw")
    for field in ("title", "text"):
        schema.add_text_field(field, stored=True, tokenizer_name="en_stem")
    Path(place).mkdir(parents=True)
    writer = tantivy.Index(schema.build(), place).writer()
    for id, text, title in _rows(passages):
        writer.add_document(tantivy.Document(id=id, title=title, text=text))
    writer.commit()
    writer.wait_merging_threads()


def _open_tantivy(place: str) -> Search:
    index = tantivy.Index.open(place)
    searcher = index.searcher()

    def search(query: str) -> int:
        words = " ".join(re.findall(r"\w+", query.lower()))  # nothing that the query syntax knows
        fields = [index.parse_query(words, [field]) for field in ("title", "text")]
        either = tantivy.Query.disjunction_max_query(fields, 0.5)
        # without a count, which this index needs as little as ours and which doubles the time
        hits = searcher.search(either, TOP, count=False).hits
        return len([searcher.doc(address).to_dict() for _, address in hits])

    return search


def _build_bm25s(passages: Path, place: str) -> None:
    bm25s = import_module("bm25s")
    corpus = [{"id": id, "title": title, "text": text} for id, text, title in _rows(passages)]
    texts = [f"{passage['title']} {passage['text']}" for passage in corpus]
    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(bm25s.tokenize(texts, stemmer=_stemmer(), show_progress=False), show_progress=False)
    index.save(place, corpus=corpus, show_progress=False)


def _open_bm25s(place: str) -> Search:
    bm25s, stemmer = import_module("bm25s"), _stemmer()
    index = bm25s.BM25.load(place, load_corpus=True, mmap=True, show_progress=False)

    def search(query: str) -> int:
        tokens = bm25s.tokenize([query], stemmer=stemmer, show_progress=False)
        passages, _ = index.retrieve(tokens, k=TOP, show_progress=False)
        return len(passages[0])

    return search


def _stemmer() -> Any:
    return import_module("Stemmer").Stemmer("english")


def _rows(passages: Path) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with passages.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t")
        next(rows)
        yield from rows


def _bytes_of_folder(place: str) -> int:
    return sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())


def _bytes_on_server(address: str) -> int:
    # not at the top of the file: a build should not have in its memory what it does not use
    from benchmarks.elasticsearch_server import ServerIndex  # noqa: PLC0415

    with closing(ServerIndex(address)) as index:
        return index.bytes()


OURS, ELASTICSEARCH = "ours", "Elasticsearch"
ENGINES = {
    OURS: Engine(_build_ours, _open_ours, _bytes_of_folder),
    "plain tantivy": Engine(_build_tantivy, _open_tantivy, _bytes_of_folder),
    "bm25s": Engine(_build_bm25s, _open_bm25s, _bytes_of_folder, needs="bm25s"),
    ELASTICSEARCH: Engine(_build_ours, _open_ours, _bytes_on_server),
}
