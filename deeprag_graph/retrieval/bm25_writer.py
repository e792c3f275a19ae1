"""Write an embedded index: the new one grows in a folder beside its place and is moved there when it is whole.

Until then an index that is there already stays in use. Appending begins with hard links to that one's files, which the
engine never changes.
"""

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import tantivy

from deeprag_graph.errors import OperatorError
from deeprag_graph.locking import LOCKS, lock_folder
from deeprag_graph.retrieval.analysis import analyze_joined
from deeprag_graph.retrieval.bm25 import ENGINE_VERSION, BM25Index
from deeprag_graph.retrieval.corpus import Passage, Place
from deeprag_graph.retrieval.folder import IDS, MANIFEST, is_index, read_manifest, segments_of, write_manifest
from deeprag_graph.retrieval.manifest import Manifest
from deeprag_graph.retrieval.seen import SeenIds

WRITER_MEMORY = 256 << 20  # bytes; a segment is written when it is full


class BM25Writer:
    """An `IndexWriter` for a folder."""

    engine = "tantivy"
    engine_version = ENGINE_VERSION

    def __init__(self, out: Path, folder: Path, base: Manifest | None) -> None:
        """Use `BM25Writer.begin`."""
        self.build = uuid.uuid4().hex[:12]
        self.base = base
        self._out, self._folder = out, folder
        self._segments = segments_of(folder, self.build)
        self._segments.mkdir()
        if base is None:
            self.seen = SeenIds()
            index = tantivy.Index(_schema(), str(self._segments))
        else:
            _link_files(segments_of(out, base.build), self._segments)
            self.seen = SeenIds.load(segments_of(out, base.build) / IDS)
            index = tantivy.Index.open(str(self._segments))
        # One thread: the other core turns text into terms, and segments come in the order of the corpus.
        self._writer = index.writer(WRITER_MEMORY, num_threads=1)
        self._added = 0

    @classmethod
    @contextmanager
    def begin(cls, out: Path, *, append: bool) -> Iterator[Self]:
        """Begin a build of the index in the folder `out`; leaving without `publish` leaves `out` as it was.

        Raises `OperatorError` if `out` is something else than an index, is none to append to, or cannot be written.
        """
        out = out.resolve()
        _refuse_to_overwrite(out)
        base = BM25Index.open(out).manifest if append else None  # which looks whether all of it is there
        with _writing(out):
            folder, lock = _folder_beside(out)
        try:
            with _writing(out):
                writer = cls(out, folder, base)
            try:
                yield writer
            except BaseException:
                with suppress(ValueError, RuntimeError):  # dead, or done already
                    writer._writer.rollback()  # else its thread would go on writing into a folder that is being removed
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def add(self, passage: Passage, ordinal: int, place: Place) -> None:
        """Take a passage."""
        try:
            self._writer.add_document(_document(passage, ordinal))
        except (OSError, ValueError) as error:
            raise _unwritable(self._out, error) from error
        self._added += 1

    def flush(self) -> int:
        """Return the number of passages taken, once all are on disk."""
        with _writing(self._out):
            self._writer.commit()
            self._writer.wait_merging_threads()
        return self._added

    def publish(self, manifest: Manifest) -> Manifest:
        """Put the index in its place; the manifest that is returned names its files."""
        with _writing(self._out):
            return self._publish(manifest)

    def _publish(self, manifest: Manifest) -> Manifest:
        for lock in self._segments.glob("*.lock"):
            lock.unlink()
        self.seen.save(self._segments / IDS)
        manifest = replace(manifest, files={file.name: file.stat().st_size for file in self._segments.iterdir()})
        write_manifest(self._folder, manifest)
        for file in self._segments.iterdir():  # tantivy keeps some to their owner; who may read the manifest may search
            if file.stat().st_nlink == 1:  # not those of the index that is appended to
                shutil.copymode(self._folder / MANIFEST, file)
        _install(self._folder, self._out, manifest, self.base)
        return manifest


def _schema() -> tantivy.Schema:
    """Return the fields: terms to search in, the order in the corpus, and the passage itself as bytes, stored alone."""
    builder = tantivy.SchemaBuilder()
    for name in ("title_terms", "text_terms"):
        builder.add_text_field(name, tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field("ordinal", fast=True, indexed=True)
    for name in ("id", "title", "text"):
        builder.add_bytes_field(name, stored=True)
    return builder.build()


def _document(passage: Passage, ordinal: int) -> tantivy.Document:
    document = tantivy.Document()
    document.add_text("title_terms", analyze_joined(passage.title))
    document.add_text("text_terms", analyze_joined(passage.text))
    document.add_unsigned("ordinal", ordinal)
    for name, value in (("id", passage.id), ("title", passage.title), ("text", passage.text)):
        document.add_bytes(name, value.encode())
    return document


def _link_files(base: Path, segments: Path) -> None:
    for file in base.iterdir():
        if file.name == IDS:  # the one that is written anew, so it must not be the same file
            continue
        try:
            os.link(file, segments / file.name)
        except OSError:  # a file system without links, or a file of another user's
            shutil.copyfile(file, segments / file.name)


def _refuse_to_overwrite(out: Path) -> None:
    if out.is_dir() and (is_index(out) or not any(out.iterdir())):
        return
    if out.exists():
        raise OperatorError(f"{out} is there already and is not an index; name another place for the index.")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OperatorError:
        raise
    except (OSError, ValueError) as error:  # tantivy reports a full disk as a ValueError
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: Exception) -> OperatorError:
    return OperatorError(f"The index cannot be written to {out}: {error}")


def _folder_beside(out: Path) -> tuple[Path, int]:
    """Make a folder to build in, and return it with the lock on it; remove those of dead builds."""
    out.parent.mkdir(parents=True, exist_ok=True)
    # without locks there is no telling a dead build from a living one
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.build-*") if LOCKS else ():
        if (lock := _try_lock(leftover)) is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)
    while True:
        folder = out.parent / f".{out.name}.build-{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        lock = _try_lock(folder)
        if lock is not None and folder.exists():
            return folder, lock
        # A build that began at the same moment took the folder for a leftover before it was locked.


def _try_lock(folder: Path) -> int | None:
    """Lock a folder; None if it is taken, or gone."""
    try:
        return lock_folder(folder)
    except (BlockingIOError, FileNotFoundError):
        return None


def _install(folder: Path, out: Path, manifest: Manifest, base: Manifest | None) -> None:
    """Move a whole index from `folder` to `out`: in one step if there is none, else by replacing the manifest."""
    try:
        folder.rename(out)
        return
    except OSError:
        if not is_index(out):
            raise
    lock = lock_folder(out, wait=True)  # two builds may end at once
    try:
        if base and read_manifest(out).build != base.build:
            raise OperatorError(f"Another build has changed the index {out} meanwhile; append again.")
        segments = segments_of(out, manifest.build)
        segments_of(folder, manifest.build).rename(segments)
        write_manifest(out, manifest)
        for old in out.glob("segments-*"):
            if old != segments:
                shutil.rmtree(old, ignore_errors=True)
        for draft in out.glob(f"{MANIFEST}.*"):  # of a build that was killed at the very end
            draft.unlink()
    finally:
        os.close(lock)
