"""`deeprag index`: builds an index from files of passages, in a folder or on Elasticsearch."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deeprag_graph.cli.arguments import positive
from deeprag_graph.retrieval import Skipped, build_index, open_index

_SHOWN = 10  # skipped lines named one by one
_LISTED = 10_000  # skipped lines that --json lists; those beyond are counted alone

_EPILOG = """\
A file of passages is one of these, plain or gzip:
  TSV    in the format of DPR: a first line  id<TAB>text<TAB>title, then one passage a line
  JSONL  one object a line:  {"id": "7", "title": "Skagen", "text": "Skagen is a town ..."}

INDEX is a folder, which needs nothing started, or an index on an Elasticsearch server. Both rank alike:
  deeprag index passages.tsv.gz --out my-index
  deeprag index passages.tsv.gz --out http://127.0.0.1:9200/my-index
  deeprag index more.jsonl --out my-index --append
  deeprag ask "Which lighthouse stands near Skagen?" --index my-index

A server that asks who you are: set ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD;
ELASTICSEARCH_CA_FILE names the certificate of your own authority.

Lines that hold no passage, or one whose id was there before, are skipped, counted and named. INDEX changes only when
the whole index is built; a build that was stopped is begun again with the same command.
"""


@dataclass(slots=True)
class Built:
    """What a build came to: passages in the index and those added now, its seconds, the lines it skipped."""

    passages: int = 0
    added: int = 0
    seconds: float = 0.0
    skipped: int = 0
    lines: list[Skipped] = field(default_factory=list)  # the first of them

    def skip(self, line: Skipped) -> None:
        """Count a line that was skipped."""
        self.skipped += 1
        if len(self.lines) < _LISTED:
            self.lines.append(line)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "index",
        help="build an index of passages",
        description="Build a BM25 index from one or many files of passages.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="TSV or JSONL, plain or gzip")
    parser.add_argument("--out", metavar="INDEX", required=True, help="folder of the index, or http://HOST:PORT/NAME")
    parser.add_argument("--append", action="store_true", help="add the passages to the index that is there")
    shards = "primary shards of an index on Elasticsearch (default 1)"
    parser.add_argument("--shards", metavar="N", type=positive, help=shards)
    parser.add_argument("--json", action="store_true", help="print counts and skipped lines as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the index, and say what it holds."""
    built = build(args.files, args.out, append=args.append, shards=args.shards)
    print(json.dumps(_record(built)) if args.json else summary(built, args.out))
    return 0


def build(files: Sequence[Path], out: str, *, append: bool = False, shards: int | None = None) -> Built:
    """Build the index under a bar, which counts the bytes read as they are on disk; name the lines skipped."""
    before = open_index(out).manifest.passages if append else 0
    built = Built()
    began = time.monotonic()
    often = 0.1 if sys.stderr.isatty() else 10.0  # seconds; without a terminal each refresh is a line of a log file
    with tqdm(total=0, unit="B", unit_scale=True, desc="Indexing", mininterval=often, file=sys.stderr) as bar:
        follow = _follow(bar)
        manifest = build_index(files, out, append=append, shards=shards, progress=follow, on_skip=built.skip)
    built.passages, built.added = manifest.passages, manifest.passages - before
    built.seconds = round(time.monotonic() - began, 3)
    for line in built.lines[:_SHOWN]:
        print(f"skipped {line.file}, line {line.line}: {line.reason}", file=sys.stderr)
    if built.skipped > _SHOWN:
        print(f"... and {built.skipped - _SHOWN:,} more lines (--json lists them)", file=sys.stderr)
    return built


def _record(built: Built) -> dict[str, Any]:
    lines = [{"file": str(line.file), "line": line.line, "reason": line.reason} for line in built.lines]
    counts = {name: getattr(built, name) for name in ("passages", "added", "skipped", "seconds")}
    return {**counts, "lines": lines}


def summary(built: Built, out: str) -> str:
    """Return what a person reads after a build."""
    rate = built.added / max(built.seconds, 1e-3)
    added = "" if built.added == built.passages else f" ({built.added:,} of them new)"
    return (
        f"{built.passages:,} passages in {out}{added}, {built.skipped:,} lines skipped, "
        f"{built.seconds:.1f} s ({rate:,.0f} passages a second)\n"
        f'Look into it with: deeprag search "..." --index {out}\n'
        f'Ask with: deeprag ask "..." --index {out}'
    )


def _follow(bar: "tqdm[Any]") -> Callable[[int, int, int], None]:
    began = time.monotonic()

    def progress(done: int, total: int, passages: int) -> None:
        bar.total = total
        rate = passages / max(time.monotonic() - began, 1e-3)
        bar.set_postfix_str(f"{passages:,} passages, {rate:,.0f}/s", refresh=False)
        bar.update(done - bar.n)

    return progress
