"""The ledger of an exploration: a file to which each finished question adds one line, for good.

A line is a JSON object, a `Record`: the tree of the search with the question's id, its gold answers and the settings.
`datasets.load_dataset("json", data_files=..., features=ledger_features())` reads it. A line is in the file whole or,
after a crash, torn at the end: then it is dropped when the ledger is opened again, and its question is searched anew.
"""

import hashlib
import importlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Self, cast, get_args, get_origin, get_type_hints

import orjson
from typing_extensions import is_typeddict

from deeprag_graph.errors import OperatorError
from deeprag_graph.explore.tree import Outcome, Tree
from deeprag_graph.locking import lock_open
from deeprag_graph.questions import Question
from deeprag_graph.transcript import one_line

SCHEMA_VERSION: Final = 1
_FSYNC_SECONDS: Final = 5.0
_HEAD: Final = b'{"schema_version":'  # how each line begins, also a torn one


class Record(Tree):
    """A line: the tree of a search, and what was searched for.

    Attributes:
        schema_version: of this format.
        id: the question's.
        answers: the gold answer first, then its aliases.
        dataset: what the question's line has under that name, or "".
        settings: what the search was made with: models, index, bounds; `settings_hash` tells them from any others.
    """

    schema_version: int
    id: str
    answers: list[str]
    dataset: str
    settings: dict[str, Any]
    settings_hash: str


def make_record(question: Question, tree: Tree, settings: Mapping[str, Any]) -> Record:
    """Return the line of a question that was searched."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "id": question["id"],
        "dataset": str(question.get("dataset") or ""),
        "answers": question["answers"],
    }
    tail = {"settings": dict(settings), "settings_hash": settings_hash(settings)}
    return cast(Record, {**head, **tree, **tail})


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that are the same for the same settings, whatever their order."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Ledger:
    """A ledger open for writing, by this process alone; also a context manager.

    Attributes:
        path: the file.
        done: outcome of each question that the ledger has, by id.
        torn: whether an unfinished last line was dropped.
    """

    def __init__(self, path: str | Path) -> None:
        """Open the ledger at `path`, or begin one.

        Raises:
            OperatorError: it cannot be written, another process writes it, it is none or of another schema version.
        """
        self.path = Path(path).resolve()  # where a link leads, which `drop_failed` must not replace
        self._begun = not self.path.exists()
        self._settings: dict[str, Mapping[str, Any]] = {}  # of the lines, by hash
        self._questions: dict[str, str] = {}
        self.done: dict[str, Outcome] = {}
        self.torn = False
        self._size = 0
        self._synced = time.monotonic()
        self._file = _open_locked(self.path)
        try:
            self._recover()
        except BaseException:
            os.close(self._file)
            raise

    def _recover(self) -> None:
        with self.path.open("rb") as file:
            for record in _records(self.path, file):
                self._note(record)
            self._size = _end_of_last_line(file)
        size = os.fstat(self._file).st_size
        self.torn = self._size < size
        if self.torn:
            os.ftruncate(self._file, self._size)

    def _note(self, record: Record) -> None:
        self.done[record["id"]] = record["outcome"]
        self._questions[record["id"]] = record["question"]
        self._settings.setdefault(record["settings_hash"], record["settings"])

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise `OperatorError` where the ledger has lines that were made with other settings than these."""
        settings = json.loads(json.dumps(settings))  # as they come back from a line
        now = settings_hash(settings)
        for known, then in self._settings.items():
            if known != now:
                told = "; ".join(_differences(then, settings))
                raise OperatorError(
                    f"{self.path} was made with other settings ({told}); repeat those, or name another --ledger."
                )

    def open_questions(self, questions: Iterable[Question]) -> list[Question]:
        """Return the questions that the ledger does not have.

        Raises:
            OperatorError: one has the id of another question that is in the ledger.
        """
        missing = []
        for question in questions:
            known = self._questions.get(question["id"])
            if known is None:
                missing.append(question)
            elif known.strip() != question["question"].strip():
                raise OperatorError(
                    f"{self.path} has another question with the id {question['id']!r}; name another --ledger."
                )
        return missing

    def append(self, record: Record) -> None:
        """Add a line, whole or not at all.

        Raises:
            OperatorError: the disk is full, or fails; the ledger is as it was before.
        """
        line = _line(record)
        try:
            _write(self._file, line)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise self._unwritable(error) from error
        self._size += len(line)
        self._note(record)
        if time.monotonic() - self._synced > _FSYNC_SECONDS:  # a power cut loses seconds of work at the most
            self._sync()

    def drop_failed(self, ids: Iterable[str]) -> int:
        """Remove those lines of the questions `ids` that have failed, and return how many there were.

        Raises:
            OperatorError: the disk is full, or fails; the ledger is as it was before.
        """
        failed = {id for id in ids if self.done.get(id) == "failed"}
        if not failed:
            return 0
        beside = self.path.with_name(f"{self.path.name}.new")
        beside.unlink(missing_ok=True)
        file = _open_locked(beside)
        try:
            os.fchmod(file, stat.S_IMODE(os.fstat(self._file).st_mode))
            self._copy(file, failed)
            beside.replace(self.path)
        except BaseException as error:
            os.close(file)
            beside.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        os.close(self._file)
        self._file, self._size = file, os.fstat(file).st_size
        for id in failed:
            del self.done[id], self._questions[id]
        return len(failed)

    def _copy(self, file: int, without: set[str]) -> None:
        with self.path.open("rb") as lines:
            for line in lines:
                if json.loads(line)["id"] not in without:
                    _write(file, line)
        os.fsync(file)

    def _unwritable(self, error: OSError) -> OperatorError:
        return OperatorError(
            f"{self.path} cannot be written ({error.strerror}); mend that and run the same command again: "
            f"the {len(self.done):,} questions so far are kept."
        )

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error) from error
        self._synced = time.monotonic()

    def close(self) -> None:
        """Write what is still in memory to the disk, and let others write the ledger; one without a line is removed.

        Raises:
            OperatorError: the disk is full, or fails.
        """
        try:
            if self._size == 0 and self._begun:
                self.path.unlink(missing_ok=True)
            else:
                self._sync()
        finally:
            os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with nullcontext() if kind is None else suppress(OperatorError):  # what is under way says more
            self.close()


def read_ledger(path: str | Path) -> Iterator[Record]:
    """Yield the records of a ledger in their order, also while it is being written; a torn last line is left out.

    Raises:
        OperatorError: it is not there, no ledger, or of another schema version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            yield from _records(path, file)
    except FileNotFoundError:
        raise OperatorError(f"{path} is not there; make one with: deeprag explore --ledger {path}") from None
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from None


def ledger_features() -> Any:
    """Return the types of a ledger's columns as `datasets.Features` (extra `data`).

    Without them `load_dataset` guesses from the first 10 MB, and fails where a column that is empty there (no question
    solved yet, no correction made) is not empty later, or where two ledgers have settings of other names.
    """
    return importlib.import_module("datasets").Features(_feature(Record))


def _feature(kind: Any) -> Any:
    """Return the feature of a type: TypedDict, list, dict, Literal, an optional one, or a plain one."""
    datasets = importlib.import_module("datasets")
    if is_typeddict(kind):
        return {name: _feature(inner) for name, inner in get_type_hints(kind).items()}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return datasets.List(_feature(arguments[0]))
    if origin is dict:
        return datasets.Json()
    if origin is Literal:
        return datasets.Value("string")
    if arguments:
        return _feature(next(inner for inner in arguments if inner is not type(None)))
    return datasets.Value({str: "string", int: "int64", float: "float64", bool: "bool"}[kind])


def _records(path: Path, file: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            if not line.startswith(_HEAD[: len(line)]):
                raise OperatorError(f"{path}, line {number:,}: no line of a ledger; name another file.")
            return
        try:
            row = json.loads(line)
            version = row["schema_version"]
        except (ValueError, TypeError, KeyError):
            raise OperatorError(f"{path}, line {number:,}: no line of a ledger; name another file.") from None
        if version != SCHEMA_VERSION:
            raise OperatorError(
                f"{path}, line {number:,}: the ledger has schema version {version}, this release writes and reads "
                f"{SCHEMA_VERSION}; begin a new one with another --ledger."
            )
        if missing := Record.__required_keys__ - row.keys():
            raise OperatorError(f"{path}, line {number:,}: a line without {', '.join(sorted(missing))}; remove it.")
        yield row


def _end_of_last_line(file: BinaryIO) -> int:
    """Return where the last whole line ends."""
    end = file.seek(0, os.SEEK_END)
    step = 1 << 16
    at = end
    while at > 0:
        at = max(0, at - step)
        file.seek(at)
        if (newline := file.read(min(step, end - at)).rfind(b"\n")) >= 0:
            return at + newline + 1
    return 0


def _line(record: Record) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)  # a third of what the standard library takes
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise OperatorError(f"{path} is no regular file; name another --ledger.")
                lock_open(file)
                if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)  # another process has put a new file in its place meanwhile
    except BlockingIOError:
        raise OperatorError(f"Another process is writing {path}; wait for it, or name another --ledger.") from None
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from None


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    before, after = _flat(then), _flat(now)
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield one_line(f"{key}: {_short(before.get(key))} then, {_short(after.get(key))} now")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
