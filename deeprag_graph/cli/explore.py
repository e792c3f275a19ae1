"""`deeprag explore`: searches the least-cost right path of each question, and keeps the trees in a ledger."""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Self, cast

from tqdm import tqdm

from deeprag_graph.bulk import ExploreJob
from deeprag_graph.bulk import run as run_bulk
from deeprag_graph.bulk.jobs import ExploreWorker
from deeprag_graph.cli.run_arguments import (
    add_bounds,
    add_bulk,
    add_parts,
    add_target,
    choice_of,
    context_of,
    questions_of,
    say,
)
from deeprag_graph.errors import OperatorError
from deeprag_graph.explore.search import ExploreContext
from deeprag_graph.explore.summary import lines, summarise
from deeprag_graph.ledger import Ledger, Record, read_ledger
from deeprag_graph.questions import Question

_EPILOG = """\
Examples:
  deeprag explore --questions train.jsonl --index my-index --ledger trees.jsonl --limit 100 --concurrency 4
  deeprag explore ... --policy completion --base-url http://127.0.0.1:8000/v1 --concurrency 64 --workers 2
  deeprag explore ... --base-url http://gpu1:8000/v1 --base-url http://gpu2:8000/v1    two servers of one model
  deeprag explore ... --calibrate path         label the decisions that the optimal path does not take, too
  deeprag explore ... --retry-failed           search those again of which a call has failed
  deeprag tree trees.jsonl --out trees.html    look at what was found

At each subquery both decisions may be tried, to answer from memory or to retrieve: the cheapest first, until a final
answer matches gold. No right path costs fewer retrievals than the one that is found. Each finished question is one line
of the ledger; stopped at any time, the same command goes on where it was. Questions without gold answers are refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "explore",
        help="search the least-cost right paths of questions with known answers",
        description="Search, for each question, the path to a right answer that retrieves least, and keep the tree.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = "files of questions with answers (JSONL, plain or gzip)"
    parser.add_argument("--questions", metavar="FILE", type=Path, nargs="+", required=True, help=files)
    ledger = "where the trees are added, a line a question"
    parser.add_argument("--ledger", metavar="FILE", type=Path, required=True, help=ledger)
    parser.add_argument("--retry-failed", action="store_true", help="search the failed questions of the ledger again")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    add_bulk(parser)
    add_parts(parser)
    add_target(parser)
    add_bounds(parser, "bounds", ExploreContext)
    _add_search(parser)
    parser.set_defaults(run=run)


def _add_search(parser: argparse.ArgumentParser) -> None:
    fields = ExploreContext.model_fields
    group = parser.add_argument_group("search")
    match = "when a final answer is right (default exact: normalised as in HotpotQA, over all aliases)"
    group.add_argument("--match", choices=("exact", "substring", "f1"), default="exact", help=match)
    threshold = fields["f1_threshold"].default
    least = f"least F1 of a right answer with --match f1 (default {threshold})"
    group.add_argument("--f1-threshold", metavar="F1", type=float, default=threshold, help=least)
    calibrate = "go on after the right path: try the other decision at each of its subqueries, or all (default none)"
    group.add_argument("--calibrate", choices=("none", "path", "all"), default="none", help=calibrate)
    gold = "search unsolved questions once more with their supporting passages; the tree is marked"
    group.add_argument("--retry-with-gold", action="store_true", help=gold)


def run(args: argparse.Namespace) -> int:
    """Explore; 1 where a question has failed."""
    questions = questions_of(args.questions, args.limit)
    if unanswered := [question["id"] for question in questions if not question["answers"]]:
        raise OperatorError(
            f"{len(unanswered):,} of {len(questions):,} questions have no answers, {unanswered[0]!r} is the first: "
            "a search has to know what is right."
        )
    context = context_of(args, ExploreContext, "match", "f1_threshold", "calibrate")
    job = ExploreJob(choice_of(args), context, args.retry_with_gold)
    with Ledger(args.ledger) as ledger:  # first: a model may take minutes to be fetched
        print("Making the model ready ...", file=sys.stderr, flush=True)
        worker = job.open(args.concurrency, say)
        ledger.check_settings(worker.settings)
        _explore(worker, ledger, questions, args)
    summary = summarise(read_ledger(args.ledger))
    print(json.dumps(summary, ensure_ascii=False) if args.json else "\n".join(lines(summary)))
    return int(any(ledger.done[question["id"]] == "failed" for question in questions))


def _explore(worker: ExploreWorker, ledger: Ledger, questions: list[Question], args: argparse.Namespace) -> None:
    """Search what the ledger does not have yet, and add it."""
    if ledger.torn:
        say(f"{ledger.path} ended in an unfinished line, which was dropped; its question is searched again.")
    ids = [question["id"] for question in questions]
    if args.retry_failed and (failed := ledger.drop_failed(ids)):
        say(f"{failed:,} failed questions are searched again.")
    missing = ledger.open_questions(questions)
    rows = run_bulk(worker, missing, concurrency=args.concurrency, workers=args.workers, engine=args.engine, say=say)
    with closing(rows), _Progress(len(questions), len(questions) - len(missing)) as progress:
        try:
            for _, row in rows:
                ledger.append(record := cast(Record, row))
                progress.add(record)
        except BaseException:
            if done := sum(id in ledger.done for id in ids):
                say(f"{done:,} of {len(ids):,} questions are in {ledger.path}; the same command goes on from there.")
            raise


class _Progress:
    """A bar: questions a second and time left, solved ones and their cost, model calls and tokens a question."""

    def __init__(self, total: int, done: int) -> None:
        often = 0.1 if sys.stderr.isatty() else 10.0  # seconds; without a terminal each refresh is a line of a log file
        self._bar = tqdm(total=total, initial=done, unit="question", mininterval=often, file=sys.stderr)
        self._searched = self._solved = self._cost = self._calls = self._tokens = 0

    def add(self, record: Record) -> None:
        """Count a question."""
        usage = record["usage"]
        self._searched += 1
        self._calls += usage["llm_calls"]
        self._tokens += usage["prompt_tokens"] + usage["completion_tokens"]
        if record["outcome"] == "solved":
            self._solved += 1
            self._cost += record["cost"] or 0
        self._bar.set_postfix_str(self._told(), refresh=False)
        self._bar.update()

    def _told(self) -> str:
        cost = f" at {self._cost / self._solved:.2f} retrievals" if self._solved else ""
        return (
            f"{self._solved / self._searched:.0%} solved{cost}, {self._calls / self._searched:.1f} calls and "
            f"{self._tokens / self._searched:,.0f} tokens a question"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
