"""`deeprag search`: shows what the retriever finds for a query, with scores and what they are made of."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from deeprag_graph.cli.arguments import positive
from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question, read_questions
from deeprag_graph.retrieval import Explanation, Hit, PassageIndex, open_index, starter_index
from deeprag_graph.transcript import one_line

_TOGETHER = 64  # questions searched for in one request
_SHOWN = 300  # characters of a passage

_EPILOG = """\
Examples:
  deeprag search "painter of The Goldfinch"                       in the corpus that comes with the package
  deeprag search "lighthouse near Skagen" --index my-index --k 5
  deeprag search "lighthouse near Skagen" --explain               which word of the query gives how much
  deeprag search --questions dev.jsonl --index http://127.0.0.1:9200/my-index --json > found.jsonl

The score is BM25 over the title and over the text: the better one and half of the other. Where a file of questions
names the passages that answer them (supporting_ids), the share of these that was found is reported.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "search",
        help="show what the retriever finds",
        description="Show which passages the retriever finds for a query, without any model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("query", metavar="QUERY", nargs="*", help="the words to search for")
    parser.add_argument("--questions", metavar="FILE", type=Path, help="search for each question of a file (JSONL)")
    parser.add_argument("--limit", metavar="N", type=positive, help="only the first N questions of the file")
    parser.add_argument("--index", metavar="INDEX", help="folder or http://HOST:PORT/NAME (default: starter corpus)")
    parser.add_argument("--k", metavar="N", type=positive, default=3, help="passages (default 3)")
    parser.add_argument("--explain", action="store_true", help="show what each score is made of")
    parser.add_argument("--json", action="store_true", help="print one JSON object a query")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search for one query or for a file of questions."""
    if bool(args.query) == (args.questions is not None):
        raise OperatorError('Give a query, or a file with --questions: deeprag search "lighthouse near Skagen"')
    if args.explain and args.questions:
        raise OperatorError("--explain goes with one query: leave out --questions.")
    if args.limit and not args.questions:
        raise OperatorError("--limit goes with --questions.")
    questions = read_questions(args.questions)[: args.limit] if args.questions else None
    index = starter_index() if args.index is None else open_index(args.index)
    if questions is not None:
        _search_questions(index, questions, args)
    elif args.explain:
        _explain(index, " ".join(args.query), args)
    else:
        query = " ".join(args.query)
        _show({"query": query}, index.search(query, args.k), as_json=args.json)
    return 0


def _search_questions(index: PassageIndex, questions: Sequence[Question], args: argparse.Namespace) -> None:
    recall = _Recall()
    waiting = iter(tqdm(questions, unit="question", file=sys.stderr))
    while batch := list(islice(waiting, _TOGETHER)):
        found = index.search_many([question["question"] for question in batch], args.k)
        for question, hits in zip(batch, found, strict=True):
            recall.add(question, hits)
            _show({"query": question["question"], "id": question["id"]}, hits, as_json=args.json)
    if recall.gold:
        print(f"gold passages in the first {args.k}: {recall.found:,} of {recall.gold:,}", file=sys.stderr)


def _explain(index: PassageIndex, query: str, args: argparse.Namespace) -> None:
    explanations = index.explain(query, args.k)
    if args.json:
        passages = [{**asdict(e.hit), "terms": [asdict(term) for term in e.terms]} for e in explanations]
        print(json.dumps({"query": query, "passages": passages}, ensure_ascii=False))
        return
    for rank, explanation in enumerate(explanations, start=1):
        print("\n".join([*_lines(rank, explanation.hit), *_reasons(explanation)]))
    if not explanations:
        print(_nothing(query))


def _show(record: dict[str, Any], hits: Sequence[Hit], *, as_json: bool) -> None:
    if as_json:
        line = json.dumps(record | {"passages": [asdict(hit) for hit in hits]}, ensure_ascii=False)
    elif hits:
        shown = [line for rank, hit in enumerate(hits, start=1) for line in _lines(rank, hit)]
        line = "\n".join([f"{record['id']}: {one_line(record['query'])}", *shown, ""] if "id" in record else shown)
    else:
        line = _nothing(record["query"])
    tqdm.write(line, file=sys.stdout)


def _nothing(query: str) -> str:
    return f"No passage holds a word of {one_line(query)!r}."


def _lines(rank: int, hit: Hit) -> Iterator[str]:
    yield f"{rank:>3}  {hit.score:.3f}  {one_line(hit.title) or '(no title)'}  (id {one_line(hit.id)})"
    text = one_line(hit.text)
    yield f"     {text if len(text) <= _SHOWN else text[:_SHOWN] + ' …'}"


def _reasons(explanation: Explanation) -> Iterator[str]:
    """Yield the lines that take a score apart: the two fields, then each term in each."""
    scores = {field: explanation.field_score(field) for field in ("title", "text")}
    better, other = sorted(scores, key=lambda field: -scores[field])
    yield f"     = {better} {scores[better]:.3f} + ½ × {other} {scores[other]:.3f}"
    for term in sorted(explanation.terms, key=lambda term: -term.score):
        having = "1 passage has it" if term.passages_with_term == 1 else f"{term.passages_with_term:,} passages have it"
        yield (
            f"       {term.score:7.3f}  {term.field:<5}  {term.term:<16} {term.frequency:g} × in {term.length:g} terms "
            f"(average {term.average_length:.1f}); {having}"
        )
    yield ""


class _Recall:
    """How many of the gold passages were found, over all questions."""

    def __init__(self) -> None:
        self.gold = self.found = 0

    def add(self, question: Question, hits: Sequence[Hit]) -> None:
        gold = {str(id) for id in cast("dict[str, Any]", question).get("supporting_ids") or []}
        self.gold += len(gold)
        self.found += len(gold & {hit.id for hit in hits})
