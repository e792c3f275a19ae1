"""Search an embedded BM25 index: tantivy's files on disk, memory-mapped, opened in milliseconds, nothing to start."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import tantivy

from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval.analysis import analyze
from deeprag_graph.retrieval.folder import read_manifest, segments_of
from deeprag_graph.retrieval.index import MOST_TERMS, Explanation, Hit, TermScore, check_k
from deeprag_graph.retrieval.manifest import Manifest, damaged
from deeprag_graph.retrieval.top import Scored, TopPassages

ENGINE_VERSION = version("tantivy")


class BM25Index:
    """An open index. It is immutable, may be searched from many threads at once, and pickles as its path."""

    def __init__(self, path: Path, manifest: Manifest, index: tantivy.Index) -> None:
        """Use `BM25Index.open`."""
        self.path = path
        self.manifest = manifest
        self._schema = index.schema
        self._searcher = index.searcher()
        self._top = TopPassages(index)

    @classmethod
    def open(cls, path: str | Path) -> "BM25Index":
        """Open the index in the folder `path`.

        Raises `OperatorError` if there is none, if it is none of ours or of another version, or if it is damaged.
        """
        path = Path(path).absolute()
        manifest = read_manifest(path)
        while True:
            try:
                opened = cls(path, manifest, _open_segments(path, manifest))
                # tantivy takes a file of positions that vanishes while it opens the others for one that is not needed
                _check_files(path, manifest)
                return opened
            except OperatorError:
                # A build may have replaced the index, and removed the old files, since the manifest was read.
                if (current := read_manifest(path)) == manifest:
                    raise
                manifest = current

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """Return the `k` best passages for `query`, best first; `PassageIndex` says what is best.

        Raises `OperatorError` if `k` is below 1 and `RetrievalError` if the files cannot be read any more.
        """
        with self._failures():
            return [self._hit(*found) for found in self._find(_query_terms(query), k)]

    def search_many(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """Return the passages of each of the queries, one after the other."""
        return [self.search(query, k) for query in queries]

    def explain(self, query: str, k: int = 3) -> list[Explanation]:
        """Return what `search` returns, each passage with what its score is made of."""
        terms = _query_terms(query)
        with self._failures():
            return [
                Explanation(self._hit(score, address), self._term_scores(terms, address))
                for score, address in self._find(terms, k)
            ]

    def _find(self, terms: Counter[str], k: int) -> list[Scored]:
        check_k(k)
        return self._top.find(terms, k) if terms else []

    def _hit(self, score: float, address: tantivy.DocAddress) -> Hit:
        document = self._searcher.doc(address)
        id, title, text = (bytes(document.get_all(name)[0]).decode() for name in ("id", "title", "text"))
        return Hit(id, title, text, score)

    def _term_scores(self, terms: Counter[str], address: tantivy.DocAddress) -> list[TermScore]:
        found = []
        for field in ("title", "text"):
            for term, count in terms.items():
                query = tantivy.Query.term_query(self._schema, f"{field}_terms", term, "freq")
                with suppress(ValueError):  # the passage does not hold the term
                    found.append(_term_score(field, term, count, query.explain(self._searcher, address).to_json()))
        return found

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, OperatorError) or not _is_of_tantivy(error):
                raise
            raise RetrievalError(f"The search in {self.path} failed: {error}") from error

    def __len__(self) -> int:
        """Return the number of passages."""
        return self.manifest.passages

    def __repr__(self) -> str:
        return f"BM25Index({str(self.path)!r}, {len(self):,} passages)"

    def __reduce__(self) -> tuple[Any, ...]:
        return BM25Index.open, (self.path,)


def _query_terms(query: str) -> Counter[str]:
    return Counter(dict(islice(Counter(analyze(query)).items(), MOST_TERMS)))


def _open_segments(path: Path, manifest: Manifest) -> tantivy.Index:
    _check_files(path, manifest)
    try:
        return _open_tantivy(segments_of(path, manifest.build))
    except BaseException as error:
        if not _is_of_tantivy(error):
            raise
        if manifest.engine_version == ENGINE_VERSION:
            raise OperatorError(damaged(str(path))) from error
        raise OperatorError(
            f"The index {path} was built with tantivy {manifest.engine_version}, which tantivy {ENGINE_VERSION} "
            f"cannot read; build it again with: deeprag index FILE --out {path}"
        ) from error


def _check_files(path: Path, manifest: Manifest) -> None:
    segments = segments_of(path, manifest.build)
    try:
        sizes = {name: (segments / name).stat().st_size for name in manifest.files}
    except OSError:
        sizes = {}
    if sizes != manifest.files:
        raise OperatorError(damaged(str(path)))


def _open_tantivy(segments: Path) -> tantivy.Index:
    # tantivy writes a lock file where it opens an index, and an index may be where this user can only read. So open it
    # through links in a folder of our own; the files stay mapped when the links are gone.
    links = Path(tempfile.mkdtemp(prefix="deeprag-"))
    try:
        for file in segments.iterdir():
            (links / file.name).symlink_to(file)
        index = tantivy.Index.open(str(links))
        index.config_reader("manual")  # the index never changes: no thread that looks for new segments
        return index
    finally:
        for _ in range(100):  # more than once, since the thread that was there until now may just leave a lock file
            shutil.rmtree(links, ignore_errors=True)
            if not links.exists():
                break


def _is_of_tantivy(error: BaseException) -> bool:
    # A panic, which damaged files can bring about, is no Exception and has no class to import.
    return isinstance(error, ValueError | OSError) or type(error).__name__ == "PanicException"


def _term_score(field: str, term: str, count: int, explanation: str) -> TermScore:
    """Read tantivy's explanation of the score of one term in one passage."""
    node = json.loads(explanation)
    values = {}
    for part in [node, *node["details"], *(leaf for inner in node["details"] for leaf in inner.get("details", []))]:
        values[part["description"].split(",")[0]] = part["value"]
    return TermScore(
        field,
        term,
        score=count * node["value"],
        frequency=values["freq"],
        passages_with_term=int(values["n"]),
        length=values["dl"],
        average_length=values["avgdl"],
    )
