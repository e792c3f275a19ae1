"""`deeprag tree`: draws the search of one question, or what a ledger holds, as a page or in the terminal."""

import argparse
import difflib
import io
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from deeprag_graph.drafts import replacing
from deeprag_graph.errors import OperatorError
from deeprag_graph.explore.summary import lines, summarise
from deeprag_graph.ledger import Record, read_ledger
from deeprag_graph.pages import summary_page, text_tree, tree_page
from deeprag_graph.transcript import one_line

_EPILOG = """\
Examples:
  deeprag tree ledger.jsonl                                the searches of a ledger in figures: ledger.html
  deeprag tree ledger.jsonl --question 5a8b57f2            the search of one question: tree-5a8b57f2.html
  deeprag tree ledger.jsonl --question 5a8b57f2 --text     the same in the terminal
  deeprag tree ledger.jsonl --text                         the ids of the questions, and the figures
  deeprag tree ledger.jsonl --question 5a8b57f2 --out - > page.html

A page is one file: open it in any browser, send it to anyone; it asks for nothing from outside. A ledger can be drawn
while `deeprag explore` is still writing it.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "tree",
        help="draw a search",
        description="Draw the search of one question from a ledger of `deeprag explore`, or all of them in figures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ledger", metavar="LEDGER", type=Path, help="what deeprag explore wrote")
    parser.add_argument("--question", metavar="ID", help="draw the search of this question (default: sum up all)")
    parser.add_argument("--out", metavar="PAGE", help="file of the page, - for standard output (default: named for it)")
    parser.add_argument("--text", action="store_true", help="print in the terminal instead")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page, or print the text."""
    if args.text and args.out is not None:
        raise OperatorError("--text prints in the terminal: leave out --out.")
    records = _records(args.ledger)
    if args.question is None:
        _draw_all(records, args)
    else:
        _draw_one(_find(records, args.question, args.ledger), args)
    return 0


def _draw_one(record: Record, args: argparse.Namespace) -> None:
    if args.text:
        for line in text_tree(record, _columns()):
            print(line)
        return
    name = re.sub(r"[^\w-]+", "-", record["id"])[:80].strip("-")
    _write(tree_page(record), args.out or f"tree-{name or 'question'}.html", args.ledger)


def _draw_all(records: Iterator[Record], args: argparse.Namespace) -> None:
    if args.text:
        for line in lines(summarise(_listed(records, _columns()))):
            print(line)
        return
    _write(summary_page(records, args.ledger.name), args.out or f"{args.ledger.stem}.html", args.ledger)


def _listed(records: Iterable[Record], columns: int) -> Iterator[Record]:
    """Yield records, with a line for each."""
    for record in records:
        cost = "–" if record["cost"] is None else f"{record['cost']:,}"
        id = one_line(record["id"]) if record["id"] == one_line(record["id"]) else repr(record["id"])
        line = f"{id}  {record['outcome']}, cost {cost}  "
        print(line + one_line(record["question"], max(24, columns - len(line))))
        yield record


def _records(ledger: Path) -> Iterator[Record]:
    records = read_ledger(ledger)
    first = next(records, None)
    if first is None:
        raise OperatorError(f"{ledger} has no finished question yet; add some with: deeprag explore --ledger {ledger}")
    return chain([first], records)


def _find(records: Iterable[Record], id: str, ledger: Path) -> Record:
    ids = []
    for record in records:
        if record["id"] == id:
            return record
        ids.append(record["id"])
    close = difflib.get_close_matches(id, ids, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise OperatorError(f"{ledger} has no question {id!r}{hint} List them with: deeprag tree {ledger} --text")


def _columns() -> int:
    return shutil.get_terminal_size((96, 24)).columns


def _write(page: str, out: str, ledger: Path) -> None:
    if out == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # which the page says it is, whatever the terminal's own
        print(page, end="")
        return
    path = Path(out)
    if path.is_dir():
        raise OperatorError(f"{path} is a folder; name a file in it with --out.")
    if path.exists() and path.samefile(ledger):
        raise OperatorError(f"{path} is the ledger itself; name another --out.")
    with replacing(path) as file:
        file.write(page.encode())
    print(f"The page is in {path}; open it in a browser.")
