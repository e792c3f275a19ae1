"""Build an index from files of passages: streaming, in one pass, all of it or nothing, whichever engine takes it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.corpus import Corpus, Skipped
from deeprag_graph.retrieval.engine import IndexWriter, open_writer
from deeprag_graph.retrieval.manifest import Manifest

PROGRESS_EVERY = 1000  # passages

Progress = Callable[[int, int, int], None]


def build_index(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    append: bool = False,
    shards: int | None = None,
    progress: Progress | None = None,
    on_skip: Callable[[Skipped], None] | None = None,
) -> Manifest:
    """Build the index of all passages in `files` at `out`, in place of the index that may be there.

    `out` is a folder (the embedded engine) or `http(s)://HOST:PORT/NAME` (Elasticsearch, with `shards` primary shards,
    1 by default). With `append` the passages join those of the index at `out`, which must be there. `progress` is
    called now and then, and at the end, with the bytes read, the bytes there are, and the passages taken so far.
    `on_skip` is called for every line that gives no passage: a malformed one, one whose id was there before, or one
    that the engine refuses. If the build is stopped at whatever moment, `out` is as it was; what a killed one leaves
    beside `out` is removed by a later one.

    Raises `OperatorError` if a file is not one of passages, if there is no passage in any, if `out` is something else
    than an index, or if it cannot be written.
    """
    skipped: Counter[str] = Counter()

    def skip(record: Skipped) -> None:
        skipped[record.reason] += 1
        if on_skip:
            on_skip(record)

    corpus = Corpus([Path(file) for file in files], skip)
    started = time.monotonic()
    with open_writer(out, append=append, shards=shards, on_refused=skip) as writer:
        offered = _write(corpus, writer, progress)
        passages = writer.flush()
        if not passages and not writer.base:
            lines = ", ".join(f"{reason}: {count:,}" for reason, count in skipped.items()) or "none"
            raise OperatorError(f"There are no passages in {', '.join(map(str, files))} (lines skipped: {lines}).")
        manifest = Manifest(
            build=writer.build,
            passages=passages,
            offered=offered,
            skipped=dict(skipped),
            sources=corpus.sources,
            seconds=round(time.monotonic() - started, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            engine=writer.engine,
            engine_version=writer.engine_version,
        )
        return writer.publish(_joined(writer.base, manifest))


def _write(corpus: Corpus, writer: IndexWriter, progress: Progress | None) -> int:
    """Hand every passage with a new id to the writer; return how many the index has been offered in its life."""
    before = ordinal = writer.base.offered if writer.base else 0
    for passage in corpus:
        if not writer.seen.add(passage.id):
            corpus.skip("id seen before")
            continue
        writer.add(passage, ordinal, corpus.place)
        ordinal += 1
        if progress and ordinal % PROGRESS_EVERY == 0:
            progress(corpus.bytes_done, corpus.bytes_total, ordinal - before)
    if progress:
        progress(corpus.bytes_done, corpus.bytes_total, ordinal - before)
    return ordinal


def _joined(base: Manifest | None, added: Manifest) -> Manifest:
    """Return the manifest of an index after `added` has joined what it held."""
    if base is None:
        return added
    return replace(
        added,
        passages=base.passages + added.passages,
        skipped=dict(Counter(base.skipped) + Counter(added.skipped)),
        sources=[*base.sources, *added.sources],
        seconds=round(base.seconds + added.seconds, 3),
    )
