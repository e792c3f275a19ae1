"""Fetch public question sets and passages: from the folder $DEEPRAG_DATA, else from where they are published."""

import csv
import gzip
import hashlib
import html
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from tqdm import tqdm

from deeprag_graph.download import download
from deeprag_graph.errors import OperatorError
from deeprag_graph.locking import lock_folder
from deeprag_graph.questions import Question, read_questions, write_questions
from deeprag_graph.retrieval.corpus import Corpus

QUESTION_SETS = (
    "hotpotqa",
    "2wikimultihopqa",
    "musique",
    "popqa",
    "nq",
    "webquestions",
    "bamboogle",
    "strategyqa",
    "cag",
)
WIKIPEDIA = "wikipedia"  # passages alone
WIKIPEDIA_URL = "https://dl.fbaipublicfiles.com/dpr/wikipedia_split/psgs_w100.tsv.gz"
NAMES = (*QUESTION_SETS, WIKIPEDIA)
PASSAGES = "passages.tsv.gz"
UNFINISHED = "unfinished"  # folder in which a large download grows
SPLITS = {"train.jsonl": "train", "dev.jsonl": "validation"}  # our file: the hub's split
HUB_TIMEOUT = 10.0  # seconds to wait for the hub's first answer; the retries of `datasets` can take minutes
_RECORD = "data.json"  # what the folder holds; written last, so a folder that has it is complete

_T = TypeVar("_T")
Row = dict[str, Any]
Counts = dict[str, int]  # passages or questions in each file written, passages first


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a folder holds: `files` maps each file, passages first, to its number of passages or questions.

    `sha256` has the files' digests, in hex; none in a folder that an earlier release made.
    """

    name: str
    source: str
    files: dict[Path, int]
    sha256: dict[Path, str]
    fresh: bool  # False: it was there already


def fetch(name: str, out: Path, *, limit: int | None = None, force: bool = False) -> Fetched:
    """Put the data `name` into the folder `out`: passages.tsv.gz, train.jsonl, dev.jsonl, as far as there are.

    The source is the folder $DEEPRAG_DATA if that is set (corpora/NAME.tsv.gz, questions/NAME-train.jsonl and
    NAME-dev.jsonl), else the Hugging Face hub, and for the passages of Wikipedia the web. `limit` takes only the first
    questions of each file, and from the hub only their passages. What is there already is left as it is unless
    `force`; nothing else in `out` is touched. A fetch that is stopped leaves no file behind, but for that of Wikipedia,
    which the next one goes on with.

    Raises `OperatorError` for a name that is unknown or that the source lacks, for a source that cannot be reached or
    read, for a `limit` of what has no questions, and for an `out` that holds something else or cannot be written.
    """
    out = Path(out)
    if name not in NAMES:
        raise OperatorError(f"There is no data set {name!r}; choose one of {', '.join(NAMES)}.")
    if name == WIKIPEDIA and limit:
        raise OperatorError(
            "wikipedia has no questions to limit, and its passages are fetched whole: leave out --limit."
        )
    if out.exists() and not out.is_dir():
        raise OperatorError(f"{out} is a file; name a folder for the data.")
    if not force and (there := _already_there(name, out, limit)):
        return there
    source = _source(name)
    try:
        with _kept_folder(out) if isinstance(source, _Web) else _passing_folder(out) as work:
            counts = source.write(work, limit)
            digests = {file: _sha256(work / file) for file in counts}
            record = {"name": name, "source": source.place, "limit": limit, "files": counts, "sha256": digests}
            (work / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            _publish(work, out)
    except OSError as error:
        raise OperatorError(f"{out} cannot be written: {error.strerror or error}; choose another folder.") from error
    return _fetched(out, record, fresh=True)


def _already_there(name: str, out: Path, limit: int | None) -> Fetched | None:
    present = [file for file in (PASSAGES, *SPLITS) if (out / file).exists()]
    try:
        record = json.loads((out / _RECORD).read_text(encoding="utf-8"))
        held, _, held_limit, counts = (record[key] for key in ("name", "source", "limit", "files"))
    except (OSError, ValueError, KeyError, TypeError):
        if not present:
            return None
        raise OperatorError(
            f"{out} holds {present[0]} already; choose another folder, or --force to replace it."
        ) from None
    if (held, held_limit, set(counts)) == (name, limit, set(present)):
        return _fetched(out, record, fresh=False)
    part = "" if (held, held_limit) != (name, limit) else " but not all its files"
    part = f", the first {held_limit:,} questions of a file" if held_limit and not part else part
    raise OperatorError(f"{out} holds {held}{part}; choose another folder, or --force to replace it.")


def _fetched(out: Path, record: dict[str, Any], *, fresh: bool) -> Fetched:
    files, digests = ({out / file: of for file, of in record.get(key, {}).items()} for key in ("files", "sha256"))
    return Fetched(record["name"], record["source"], files, digests, fresh)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _source(name: str) -> "_Folder | _Hub | _Web":
    if folder := os.environ.get("DEEPRAG_DATA"):
        return _Folder(name, Path(folder).expanduser())
    return _Web() if name == WIKIPEDIA else _Hub(name)


@contextmanager
def _passing_folder(out: Path) -> Iterator[Path]:
    """Give a folder to work in, on the disk of `out`, that is gone afterwards, on Ctrl-C, too."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
        yield Path(work)


@contextmanager
def _kept_folder(out: Path) -> Iterator[Path]:
    """Give a folder in `out` to work in, one process at a time, that stays as long as something unfinished is in it."""
    work, new = out / UNFINISHED, not out.exists()
    work.mkdir(parents=True, exist_ok=True)
    lock = _lock(work)
    try:
        yield work
    finally:
        with suppress(OSError):  # where they are not empty
            work.rmdir()
            if new:
                out.rmdir()
        os.close(lock)


def _lock(folder: Path) -> int:
    try:
        return lock_folder(folder)
    except BlockingIOError:
        raise OperatorError(f"Another process fetches to {folder.parent}; wait for it to end.") from None


def _publish(work: Path, out: Path) -> None:
    """Move the files into `out`, the record last; what an earlier set left there goes."""
    out.mkdir(exist_ok=True)
    (out / _RECORD).unlink(missing_ok=True)
    for file in (PASSAGES, *SPLITS, _RECORD):
        if (work / file).exists():
            (work / file).replace(out / file)
        else:
            (out / file).unlink(missing_ok=True)


class _Folder:
    """Data in a folder: corpora/NAME.tsv.gz and questions/NAME-train.jsonl, NAME-dev.jsonl."""

    def __init__(self, name: str, folder: Path) -> None:
        self.place = str(folder)
        self._corpus = folder / "corpora" / f"{name}.tsv.gz"
        files = {file: folder / "questions" / f"{name}-{file}" for file in SPLITS}
        self._questions = {file: path for file, path in files.items() if path.exists()}
        if name == WIKIPEDIA and not self._corpus.exists():
            raise OperatorError(
                f"The folder {folder} (DEEPRAG_DATA) has no corpora/{name}.tsv.gz; "
                f"set DEEPRAG_DATA to a folder that has, or unset it to fetch {WIKIPEDIA_URL}."
            )
        if name != WIKIPEDIA and not self._questions:
            held = [n for n in NAMES if any((folder / "questions").glob(f"{n}-*.jsonl"))]
            raise OperatorError(
                f"The folder {folder} (DEEPRAG_DATA) has no questions/{name}-dev.jsonl or {name}-train.jsonl; "
                + (f"it has {', '.join(held)}." if held else "set DEEPRAG_DATA to a folder that has, or unset it.")
            )

    def write(self, work: Path, limit: int | None) -> Counts:
        """The passages stay whole under a limit: which of them are only distractors is not known here."""
        counts: Counts = {}
        if self._corpus.exists():
            counts[PASSAGES] = _count(self._corpus)
            shutil.copyfile(self._corpus, work / PASSAGES)
        for file, path in self._questions.items():
            counts[file] = write_questions(work / file, _bar(read_questions(path)[:limit], file))
        return counts


@dataclass(frozen=True, slots=True)
class _Set:
    """A question set on the hub, pinned to a commit, so that the numbers of its passages stay the same."""

    repo: str
    config: str | None
    revision: str
    convert: "Callable[[Row, _Passages], Row]"


class _Hub:
    """Question sets of the Hugging Face hub, whose passages are the contexts that come with each question."""

    def __init__(self, name: str) -> None:
        if name not in _HUB:
            raise OperatorError(
                f"{name} is not fetched from the Hugging Face hub ({', '.join(_HUB)} are); "
                "set DEEPRAG_DATA to a folder that has it."
            )
        self._set = _HUB[name]
        self._name = name
        self.place = f"https://huggingface.co/datasets/{self._set.repo}/tree/{self._set.revision}"

    def write(self, work: Path, limit: int | None) -> Counts:
        splits = self._load()
        counts: Counts = {PASSAGES: 0}
        with _Passages(work / PASSAGES) as passages:
            for file, rows in splits.items():
                questions = (
                    cast(Question, self._set.convert(row, passages) | {"dataset": self._name})
                    for row in _bar(islice(rows, limit), file, min(len(rows), limit or len(rows)))
                )
                counts[file] = write_questions(work / file, questions)
        counts[PASSAGES] = passages.count
        return counts

    def _load(self) -> dict[str, Any]:
        """Return a `datasets.Dataset` for each of our files of questions."""
        try:
            import datasets  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and slow to import
            from huggingface_hub import HfApi  # noqa: PLC0415
            from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415
        except ImportError:
            raise OperatorError(
                'The Hugging Face hub is read with datasets: pip install "deeprag-graph[data]", '
                "or set DEEPRAG_DATA to a folder that has the data."
            ) from None
        wanted = self._set
        try:
            with suppress(OfflineModeIsEnabled):  # asked for by the user: it has to be in the cache then
                HfApi().dataset_info(wanted.repo, revision=wanted.revision, timeout=HUB_TIMEOUT)
            return {
                file: datasets.load_dataset(wanted.repo, wanted.config, split=split, revision=wanted.revision)
                for file, split in SPLITS.items()
            }
        except Exception as error:  # of whichever HTTP client and file format are at work beneath
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise OperatorError(
                f"{self._name} could not be had from the Hugging Face hub ({reason}); "
                "try again later, or set DEEPRAG_DATA to a folder that has it."
            ) from error


class _Web:
    """DPR's passages of Wikipedia, 21,015,324 in one file of 4.7 GB, which stays in the folder of work as it grows."""

    def __init__(self) -> None:
        self.place = WIKIPEDIA_URL

    def write(self, work: Path, limit: int | None) -> Counts:
        file = work / PASSAGES
        otherwise = f"set DEEPRAG_DATA to a folder that has corpora/{WIKIPEDIA}.tsv.gz"
        if not file.exists():  # else it was stopped while it was read
            download(self.place, file, otherwise=otherwise)
        try:
            return {PASSAGES: _count(file)}
        except OperatorError as error:
            file.unlink()
            reason = str(error).partition(";")[0]
            raise OperatorError(
                f"What came from {self.place} is damaged and was deleted ({reason}): run this again, or {otherwise}."
            ) from error


class _Passages:
    """Writes each passage once, numbered from 1 in the order of first appearance; a context manager."""

    def __init__(self, path: Path) -> None:
        self._numbers: dict[bytes, int] = {}  # by digest: the texts of half a million passages fill the memory
        self._raw = path.open("wb")
        # Without name and time in it, the same passages give the same file.
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=self._raw, mtime=0)
        self._text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text, delimiter="\t", lineterminator="\n")
        self._writer.writerow(["id", "text", "title"])

    @property
    def count(self) -> int:
        return len(self._numbers)

    def number(self, title: str, text: str) -> int:
        """Return the number of the passage, which is written if it is new."""
        key = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=16).digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers) + 1
            self._writer.writerow([self._numbers[key], text, title])
        return self._numbers[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._text.close()
        self._raw.close()


def _from_hotpotqa(row: Row, passages: _Passages) -> Row:
    """HotpotQA's row, and 2WikiMultihopQA's: columns of titles and of lists of sentences."""
    context = row["context"]
    numbers: dict[str, int] = {}
    for title, sentences in zip(context["title"], context["sentences"], strict=True):
        if text := _clean(" ".join(sentences)):
            numbers[_clean(title)] = passages.number(_clean(title), text)
    titles = [_clean(title) for title in dict.fromkeys(row["supporting_facts"]["title"])]
    ids = [numbers[title] for title in titles if title in numbers]
    question = _question(row, [row["answer"]], titles, ids)
    return (
        question | {"context_ids": list(numbers.values())} | {key: row[key] for key in ("type", "level") if key in row}
    )


def _from_musique(row: Row, passages: _Passages) -> Row:
    """MuSiQue's row: a list of paragraphs, and the sub-questions, each with the index of its gold paragraph."""
    paragraphs = {p["idx"]: (_clean(p["title"]), _clean(p["paragraph_text"])) for p in row["paragraphs"]}
    numbers = {index: passages.number(*paragraph) for index, paragraph in paragraphs.items() if paragraph[1]}
    steps: list[Row] = [
        {
            "question": _clean(step["question"]),
            "answer": _clean(step["answer"]),
            "supporting_id": numbers[step["paragraph_support_idx"]],
            "supporting_title": paragraphs[step["paragraph_support_idx"]][0],
        }
        for step in row["question_decomposition"]
    ]
    titles = list(dict.fromkeys(step["supporting_title"] for step in steps))
    ids = list(dict.fromkeys(step["supporting_id"] for step in steps))
    return _question(row, [row["answer"], *row["answer_aliases"]], titles, ids) | {
        "context_ids": list(numbers.values()),
        "decomposition": steps,
        "type": row["id"].split("__")[0],
        "hops": len(steps),
    }


def _question(row: Row, answers: Iterable[str], titles: list[str], ids: list[int]) -> Row:
    return {
        "id": row["id"],
        "question": _clean(row["question"]),
        "answers": list(dict.fromkeys(map(_clean, answers))),
        "supporting_titles": titles,
        "supporting_ids": ids,
    }


def _clean(text: str) -> str:
    """Decode HTML entities, which HotpotQA's titles have, and make any white space one blank: a passage is one line."""
    return " ".join(html.unescape(text).split())


def _count(file: Path) -> int:
    """Read a file of passages to its end, which tells whether it is whole, and count them."""
    corpus, count = Corpus([file]), 0
    bar = tqdm(
        desc=f"reading {file.name}",
        total=corpus.bytes_total,
        unit="B",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 10.0,  # without a terminal each refresh is a line of a log file
        file=sys.stderr,
    )
    with bar:
        for _ in corpus:
            count += 1
            bar.update(corpus.bytes_done - bar.n)
        bar.update(corpus.bytes_total - bar.n)
    return count


def _bar(items: Iterable[_T], what: str, total: int | None = None) -> Iterator[_T]:
    yield from tqdm(items, desc=what, total=total, unit="", unit_scale=True, file=sys.stderr)


_HUB = {
    "hotpotqa": _Set("hotpotqa/hotpot_qa", "distractor", "1908d6afbbead072334abe2965f91bd2709910ab", _from_hotpotqa),
    "2wikimultihopqa": _Set(
        "framolfese/2WikiMultihopQA", None, "fe713bfbd1afbca1a65246741a75890405d56a3a", _from_hotpotqa
    ),
    "musique": _Set("dgslibisey/MuSiQue", None, "c8f4f8c9465fb69d31a8eae894c3fd509c4ca321", _from_musique),
}
