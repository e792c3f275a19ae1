"""`deeprag ask`: answers one question with its narrative, or a file of questions, many at once."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from tqdm import tqdm

from deeprag_graph.bulk import AskJob, Row, Worker
from deeprag_graph.bulk import run as run_bulk
from deeprag_graph.bulk.jobs import answer_row
from deeprag_graph.cli.run_arguments import add_bounds, add_bulk, add_parts, choice_of, context_of, questions_of, say
from deeprag_graph.errors import OperatorError
from deeprag_graph.events import Event, FinalEvent
from deeprag_graph.graph import DeepRAGGraph, build_graph
from deeprag_graph.matching import exact_match
from deeprag_graph.narrative import Narrative, cost
from deeprag_graph.questions import Question
from deeprag_graph.state import Context, Output, Usage, no_usage
from deeprag_graph.turn import question_fault

_FAILED = ("policy_failed", "invalid_question")

_EPILOG = """\
Examples:
  deeprag ask "Which river flows through the town where Ole Romer was born?"
  deeprag ask "..." --index my-index --passages          your own passages, their texts shown
  deeprag ask "..." --decision 0.35                      search where the model's p(retrieve) is at least 0.35
  deeprag ask "..." --policy completion --base-url http://127.0.0.1:8000/v1    a tuned model on vLLM
  deeprag ask "..." --model openai:NAME                  any chat model of LangChain, here with OPENAI_API_KEY
  deeprag ask --questions dev.jsonl --concurrency 8 --json > answers.jsonl

A file of questions has one object a line, {"id": ..., "question": ..., "answers": [...]}. Answers are optional; where
they are given the share of exact matches is reported. Answers come in the order of completion. A question without an
answer counts as failed.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "ask",
        help="answer a question, or a file of them",
        description="Answer a question step by step, and show each step as it happens.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("question", metavar="QUESTION", nargs="*", help="the question, best in quotes")
    parser.add_argument("--questions", metavar="FILE", type=Path, help="a file of questions (JSONL, plain or gzip)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a question instead of the narrative")
    parser.add_argument("--passages", action="store_true", help="show the texts of the passages in the narrative")
    add_parts(parser)
    parser.add_argument(
        "--decision",
        metavar="MODE",
        type=_decision,
        default="policy",
        help="who decides: policy (the model), always, never, or a threshold 0..1 on p(retrieve)",
    )
    add_bounds(parser, "budgets", Context)
    add_bulk(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answer; 1 where a question failed."""
    question = None if args.question == [] else " ".join(args.question)
    if question is None and args.questions is None:
        raise OperatorError('Give a question in quotes, or a file with --questions: deeprag ask "Who ...?"')
    if question is not None and args.questions is not None:
        raise OperatorError("Give a question or a file with --questions, not both.")
    if question is not None and (fault := question_fault(question)):
        raise OperatorError(fault)
    choice, context = choice_of(args), context_of(args, Context, "decision")
    questions = None if args.questions is None else questions_of([args.questions], args.limit)
    print("Making the model ready ...", file=sys.stderr, flush=True)
    if questions is None:
        parts = choice.open(1, say)
        return asyncio.run(_ask_one(build_graph(parts.policy, parts.retriever, context=context), question or "", args))
    return _ask_many(AskJob(choice, context).open(args.concurrency, say), questions, args)


async def _ask_one(graph: DeepRAGGraph, question: str, args: argparse.Namespace) -> int:
    """Answer one question; asynchronously, so that Ctrl-C need not wait for a model call to end."""
    if args.json:
        row = answer_row(cast(Output, await graph.ainvoke({"question": question})))
        print(_printable(json.dumps(row, ensure_ascii=False)))
        return int(_failed(row))
    narrative = Narrative(sys.stdout, passages=args.passages)
    failed = False
    print("Asking; the first step takes longest, the model reads its instructions ...", file=sys.stderr, flush=True)
    async for event in cast("AsyncIterator[Event]", graph.astream({"question": question}, stream_mode="custom")):
        for line in narrative.lines(event):
            print(_printable(line), flush=True)
        failed = failed or (event["type"] == "final" and _failed(event))
    return int(failed)


def _ask_many(worker: Worker, questions: Sequence[Question], args: argparse.Namespace) -> int:
    """Answer a file of questions, `args.concurrency` at once, and print each as soon as it is there."""
    tally = _Tally(len(questions))
    rows = run_bulk(worker, questions, concurrency=args.concurrency, workers=args.workers, engine=args.engine, say=say)
    try:
        with closing(rows), tqdm(total=len(questions), unit="question", file=sys.stderr) as bar:
            for question, row in rows:
                if args.json:
                    line = json.dumps({"id": question["id"], **row}, ensure_ascii=False)
                else:
                    line = f"{question['id']}\t{row['answer']}\t{cost(row['usage'])}"
                tally.add(question, row)
                tqdm.write(_printable(line), file=sys.stdout)
                sys.stdout.flush()  # into a file, too: whoever follows it sees it, and a kill loses nothing
                bar.set_postfix_str(tally.short(), refresh=False)
                bar.update()
    finally:
        print(tally.summary(), file=sys.stderr)
    return int(tally.failed > 0)


def _failed(end: Row | FinalEvent) -> bool:
    return not end["answer"] or end["stop_reason"] in _FAILED


def _printable(text: str) -> str:
    """Return the text with a question mark for each half of a surrogate pair, which no output takes."""
    return text.encode(errors="replace").decode()


class _Tally:
    """What a file of questions, `total` of them, has come to so far."""

    def __init__(self, total: int) -> None:
        self.total, self._began = total, time.monotonic()
        self.asked = self.failed = self.judged = self.right = 0
        self.usage: Usage = no_usage()

    def add(self, question: Question, row: Row) -> None:
        """Count an answer."""
        self.asked += 1
        self.failed += _failed(row)
        if question["answers"]:
            self.judged += 1
            self.right += exact_match(row["answer"], question["answers"])
        for key, value in row["usage"].items():
            self.usage[key] += value  # type: ignore[literal-required]

    def short(self) -> str:
        return f"{self.right}/{self.judged} right" if self.judged else f"{self.failed} failed"

    def summary(self) -> str:
        right = f"{self.right} of {self.judged} exactly right, " if self.judged else ""
        asked = f"{self.asked}" if self.asked == self.total else f"{self.asked} of {self.total}"
        self.usage["seconds"] = time.monotonic() - self._began  # questions overlap: their seconds do not add up
        return f"{asked} questions, {right}{self.failed} failed; {cost(self.usage)} altogether"


def _decision(text: str) -> str | float:
    if text in ("policy", "always", "never"):
        return text
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise argparse.ArgumentTypeError(f"policy, always, never or a number from 0 to 1, not {text!r}")
    return threshold
