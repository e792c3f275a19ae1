"""`deeprag ask`: answers one question with its narrative, or a file of questions, many at once."""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from tqdm import tqdm

from deeprag_graph.cli.arguments import positive
from deeprag_graph.errors import OperatorError
from deeprag_graph.events import Event, FinalEvent
from deeprag_graph.graph import DeepRAGGraph, build_graph
from deeprag_graph.matching import exact_match
from deeprag_graph.narrative import Narrative, cost
from deeprag_graph.parts import make_policy, make_retriever
from deeprag_graph.questions import Question, read_questions
from deeprag_graph.search import PassageCache
from deeprag_graph.state import Context, Output, Usage, no_usage
from deeprag_graph.turn import question_fault

_FAILED = ("policy_failed", "invalid_question")
_BUDGETS = {
    "max_steps": int,
    "max_retrievals": int,
    "max_llm_calls": int,
    "max_tokens": int,
    "max_seconds": float,
}

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
    parser.add_argument("--limit", metavar="N", type=positive, help="only the first N questions of the file")
    at_once = "questions at once (default 1; the local model works on at most 4 of them)"
    parser.add_argument("--concurrency", metavar="N", type=positive, default=1, help=at_once)
    parser.add_argument("--json", action="store_true", help="print one JSON object a question instead of the narrative")
    parser.add_argument("--passages", action="store_true", help="show the texts of the passages in the narrative")
    _add_parts(parser)
    _add_settings(parser)
    parser.set_defaults(run=run)


def _add_parts(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and passages")
    group.add_argument("--index", metavar="INDEX", help="folder or http://HOST:PORT/NAME (default: starter corpus)")
    group.add_argument(
        "--policy",
        choices=("local", "chat", "completion"),
        help="who writes (default: local; chat with --base-url or openai:NAME)",
    )
    group.add_argument("--model", metavar="NAME", help="a name at the server, PROVIDER:NAME, or a GGUF file")
    group.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible server, with /v1 (key: OPENAI_API_KEY)")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decisions and budgets")
    fields = Context.model_fields
    group.add_argument(
        "--decision",
        metavar="MODE",
        type=_decision,
        default="policy",
        help="policy, always, never, or a threshold 0..1",
    )
    group.add_argument("--k", metavar="N", type=int, help="passages a retrieval (default 3; 1 with the local model)")
    for name, kind in _BUDGETS.items():
        default = fields[name].default
        text = f"{fields[name].description} (default {default:,})"
        group.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=kind, default=default, help=text)


def run(args: argparse.Namespace) -> int:
    """Answer; 1 where a question failed."""
    question = None if args.question == [] else " ".join(args.question)
    if question is None and args.questions is None:
        raise OperatorError('Give a question in quotes, or a file with --questions: deeprag ask "Who ...?"')
    if question is not None and args.questions is not None:
        raise OperatorError("Give a question or a file with --questions, not both.")
    if question is not None and (fault := question_fault(question)):
        raise OperatorError(fault)
    context = _context(args)
    questions = None if args.questions is None else read_questions(args.questions)[: args.limit]
    retriever = make_retriever(args.index, parallel=args.concurrency)
    print("Making the model ready ...", file=sys.stderr, flush=True)
    policy = make_policy(args.policy, args.model, args.base_url, parallel=args.concurrency)
    if questions is None:
        graph = build_graph(policy, retriever, context=context)
        return asyncio.run(_ask_one(graph, question or "", args))
    graph = build_graph(policy, retriever, context=context, store=PassageCache())
    return asyncio.run(_ask_many(graph, questions, args))


def _context(args: argparse.Namespace) -> Context:
    settings = {name: getattr(args, name) for name in ("decision", "k", *_BUDGETS)}
    try:
        return Context(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise OperatorError(f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']}.") from error


async def _ask_one(graph: DeepRAGGraph, question: str, args: argparse.Namespace) -> int:
    """Answer one question; asynchronously, so that Ctrl-C need not wait for a model call to end."""
    if args.json:
        output = cast(Output, await graph.ainvoke({"question": question}))
        print(_printable(json.dumps(_record(output), ensure_ascii=False)))
        return int(_failed(output))
    narrative = Narrative(sys.stdout, passages=args.passages)
    failed = False
    print("Asking; the first step takes longest, the model reads its instructions ...", file=sys.stderr, flush=True)
    async for event in cast("AsyncIterator[Event]", graph.astream({"question": question}, stream_mode="custom")):
        for line in narrative.lines(event):
            print(_printable(line), flush=True)
        failed = failed or (event["type"] == "final" and _failed(event))
    return int(failed)


async def _ask_many(graph: DeepRAGGraph, questions: Sequence[Question], args: argparse.Namespace) -> int:
    """Answer a file of questions, `args.concurrency` at once, and print each as soon as it is there."""
    tally = _Tally(len(questions))
    try:
        with _seldom_collecting():
            async with aclosing(_answers(graph, questions, args.concurrency)) as answers:
                with tqdm(total=len(questions), unit="question", file=sys.stderr) as bar:
                    async for question, output in answers:
                        if args.json:
                            line = json.dumps({"id": question["id"], **_record(output)}, ensure_ascii=False)
                        else:
                            line = f"{question['id']}\t{output['answer']}\t{cost(output['usage'])}"
                        tqdm.write(_printable(line), file=sys.stdout)
                        sys.stdout.flush()  # into a file, too: whoever follows it sees it, and a kill loses nothing
                        tally.add(question, output)
                        bar.set_postfix_str(tally.short(), refresh=False)
                        bar.update()
    finally:
        print(tally.summary(), file=sys.stderr)
    return int(tally.failed > 0)


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Let Python collect garbage less often, and not in what is loaded by now.

    Going through all that hundreds of questions hold, again and again, is a third of the CPU of a call
    (benchmarks/throughput.py).
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def _answers(
    graph: DeepRAGGraph, questions: Sequence[Question], concurrency: int
) -> AsyncGenerator[tuple[Question, Output]]:
    """Yield (question, output) in the order of completion; at most `concurrency` questions are under way.

    What a question raises ends them all, but not before those that are done by then have been yielded.
    """
    waiting = iter(questions)
    running: dict[asyncio.Task[Any], Question] = {}
    try:
        while True:
            while len(running) < concurrency and (question := next(waiting, None)) is not None:
                running[asyncio.create_task(graph.ainvoke({"question": question["question"]}))] = question
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=_raised):
                yield running.pop(task), cast(Output, task.result())
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _raised(task: "asyncio.Task[Any]") -> bool:
    return task.cancelled() or task.exception() is not None


def _failed(end: Output | FinalEvent) -> bool:
    return not end["answer"] or end["stop_reason"] in _FAILED


def _printable(text: str) -> str:
    """Return the text with a question mark for each half of a surrogate pair, which no output takes."""
    return text.encode(errors="replace").decode()


def _record(output: Output) -> dict[str, Any]:
    keys = ("question", "answer", "answer_long", "stop_reason", "error", "steps", "corrections", "usage")
    return {key: output[key] for key in keys}  # type: ignore[literal-required]


class _Tally:
    """What a file of questions, `total` of them, has come to so far."""

    def __init__(self, total: int) -> None:
        self.total, self._began = total, time.monotonic()
        self.asked = self.failed = self.judged = self.right = 0
        self.usage: Usage = no_usage()

    def add(self, question: Question, output: Output) -> None:
        self.asked += 1
        self.failed += _failed(output)
        if question["answers"]:
            self.judged += 1
            self.right += exact_match(output["answer"], question["answers"])
        for key, value in output["usage"].items():
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
