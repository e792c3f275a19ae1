"""Read passages from files one at a time: DPR's TSV or JSONL, plain or gzip, without ever holding a corpus in memory.

A passage is one line. A line that holds none is skipped and reported; a file that cannot be one of passages is an
`OperatorError`.
"""

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeprag_graph.errors import OperatorError

FORMATS = (
    "expected a TSV with the header line id<TAB>text<TAB>title, or JSON lines with id, text and title, plain or gzip"
)

LONGEST_LINE = 1 << 24  # bytes: what is longer is no passage, and must not fill the memory

Place = tuple[Path, int]  # a file and the number of a line in it, from 1

csv.field_size_limit(sys.maxsize)  # the default refuses fields above 128 KB


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage as it stands in a corpus; `title` may be empty, `id` and `text` are not."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that gave no passage: its file, its number (the first line is 1), and one of a few reasons."""

    file: Path
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read to its end: its size in bytes and the SHA-256 of these bytes, in hex."""

    file: str
    bytes: int
    sha256: str


class _Malformed(Exception):
    """A line holds no passage; the text is the reason."""


class Corpus:
    """The passages of `files`, one file after the other; iterate it once.

    `place` is the file and line of the passage last given, `bytes_done` of `bytes_total` bytes are read so far
    (compressed ones, where a file is), `sources` grows with every file finished.

    Raises `OperatorError` at once for a file that is missing, a folder or unreadable, and while iterating for one in
    another format, or for a gzip file that is damaged.
    """

    def __init__(self, files: Sequence[Path], on_skip: Callable[[Skipped], None] = lambda _: None) -> None:
        self.files = [Path(file) for file in files]
        self.bytes_total = sum(_size(file) for file in self.files)
        self.bytes_done = 0
        self.sources: list[Source] = []
        self.place: Place = (Path(), 0)
        self._on_skip = on_skip

    def __iter__(self) -> Iterator[Passage]:
        for file in self.files:
            done_before = self.bytes_done
            with file.open("rb", buffering=0) as raw:
                measured = _Measured(raw)
                lines = enumerate(_lines(file, measured), start=1)
                parse: Callable[[str], Passage] | None = None
                for line, text in lines:
                    self.bytes_done = done_before + measured.bytes
                    self.place = (file, line)
                    if text is None:
                        self.skip("longer than 16 MB")
                        continue
                    if parse is None:
                        parse = _parser_for(file, text)
                        if parse is _parse_tsv:
                            continue  # the header
                    if passage := self._parsed(parse, text):
                        yield passage
            if parse is None:
                raise OperatorError(f"{file} is empty; {FORMATS}.")
            self.sources.append(Source(str(file), measured.bytes, measured.sha256.hexdigest()))

    def skip(self, reason: str) -> None:
        """Report the line last read as skipped: for a reader that finds fault with a passage, such as a second id."""
        self._on_skip(Skipped(*self.place, reason))

    def _parsed(self, parse: Callable[[str], Passage], line: bytes) -> Passage | None:
        try:
            text = line.decode()
            return parse(text) if text.strip(" \r\n") else None
        except UnicodeDecodeError:
            self.skip("not UTF-8")
        except _Malformed as error:
            self.skip(str(error))
        return None


class _Measured(io.RawIOBase):
    """A file that counts and hashes what is read from it."""

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        if count:
            self.bytes += count
            self.sha256.update(memoryview(buffer)[:count])
        return count


def _size(file: Path) -> int:
    try:
        with file.open("rb"):
            return file.stat().st_size
    except FileNotFoundError:
        raise OperatorError(f"{file} is not there; {FORMATS}.") from None
    except IsADirectoryError:
        raise OperatorError(
            f"{file} is a folder; name the files of passages in it, for example {file}/*.tsv."
        ) from None
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}.") from None


def _lines(file: Path, raw: _Measured) -> Iterator[bytes | None]:
    """Yield the lines of a file, None for one that is too long."""
    stream = io.BufferedReader(raw, 1 << 17)
    if stream.peek(2)[:2] == b"\x1f\x8b":  # by content: names lie
        stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), 1 << 17)  # type: ignore[arg-type]
    number = 0
    try:
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE)
                yield None
            else:
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise OperatorError(
            f"{file} is a damaged gzip file: it breaks off after line {number:,}; fetch or pack it again."
        ) from None
    except OSError as error:
        raise OperatorError(f"{file} cannot be read beyond line {number:,}: {error.strerror}.") from None


def _parser_for(file: Path, first_line: bytes) -> Callable[[str], Passage]:
    if first_line.lstrip()[:1] == b"{" or {".jsonl", ".json"} & set(file.suffixes):
        return _parse_json
    if first_line.rstrip(b"\r\n").split(b"\t") == [b"id", b"text", b"title"]:
        return _parse_tsv
    shown = first_line[:60].decode(errors="replace").rstrip()
    raise OperatorError(f"{file} is not a file of passages: its first line is {shown!r}; {FORMATS}.")


def _parse_tsv(line: str) -> Passage:
    line = line.rstrip("\r\n")
    # A quoted field ends on its line (a passage is one line), else one stray quote would swallow the rest of the file.
    try:
        row = next(csv.reader([line], delimiter="\t")) if '"' in line else line.split("\t")
    except csv.Error:
        raise _Malformed("not 3 columns") from None
    if len(row) != 3:
        raise _Malformed("not 3 columns")
    return _passage(id=row[0], title=row[2], text=row[1])


def _parse_json(line: str) -> Passage:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise _Malformed("not JSON") from None
    if not isinstance(row, dict):
        raise _Malformed("not a JSON object")
    passage = _passage(id=row.get("id"), title=row.get("title"), text=row.get("text", row.get("contents")))
    try:  # JSON can spell half of a surrogate pair, which no index and no model takes
        f"{passage.id}{passage.title}{passage.text}".encode()
    except UnicodeEncodeError:
        raise _Malformed("not Unicode") from None
    return passage


def _passage(*, id: object, title: object, text: object) -> Passage:
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str) or not id.strip():
        raise _Malformed("no id")
    if not isinstance(text, str):
        raise _Malformed("no text")
    if not isinstance(title, str | None):
        raise _Malformed("title is not a string")
    if not text.strip():
        raise _Malformed("empty text")
    return Passage(id.strip(), title or "", text)
