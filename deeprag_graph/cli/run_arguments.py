"""What the commands that run the graph take: a model, passages, bounds, and how many questions at once."""

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from tqdm import tqdm

from deeprag_graph.bulk import PartsChoice, check_engine
from deeprag_graph.bulk.patience import WAIT_SECONDS
from deeprag_graph.cli.arguments import positive, seconds
from deeprag_graph.errors import OperatorError
from deeprag_graph.parts import ModelChoice
from deeprag_graph.questions import Question, read_questions
from deeprag_graph.state import Context

_C = TypeVar("_C", bound=Context)
_BOUNDS = {
    "max_steps": int,
    "max_retrievals": int,
    "max_llm_calls": int,
    "max_tokens": int,
    "max_seconds": float,
}


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the model and the passages."""
    group = parser.add_argument_group("model and passages")
    group.add_argument("--index", metavar="INDEX", help="folder or http://HOST:PORT/NAME (default: starter corpus)")
    group.add_argument(
        "--policy",
        choices=("local", "chat", "completion"),
        help="who writes (default: local; chat with --base-url or openai:NAME)",
    )
    group.add_argument("--model", metavar="NAME", help="a name at the server, PROVIDER:NAME, or a GGUF file")
    base_url = "an OpenAI-compatible server, with /v1 (key: OPENAI_API_KEY); several share the questions of a file"
    group.add_argument("--base-url", metavar="URL", action="append", default=[], help=base_url)
    group.add_argument("--k", metavar="N", type=int, help="passages a retrieval (default 3; 1 with the local model)")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a second model, which answers from its parameters."""
    group = parser.add_argument_group(
        "a second model",
        "the model to be trained, which writes the answers from memory while the other writes the rest",
    )
    group.add_argument("--target-policy", choices=("local", "chat", "completion"), help="as --policy")
    group.add_argument("--target-model", metavar="NAME", help="as --model")
    group.add_argument("--target-base-url", metavar="URL", action="append", default=[], help="as --base-url")


def add_bounds(parser: argparse.ArgumentParser, title: str, context: type[Context]) -> None:
    """Add the arguments that bound a run; their texts and defaults are those of the context."""
    group = parser.add_argument_group(title)
    for name, kind in _BOUNDS.items():
        field = context.model_fields[name]
        text = f"{field.description} (default {field.default:,})"
        group.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=kind, default=field.default, help=text)


def add_bulk(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how many questions are worked on at once, and where."""
    group = parser.add_argument_group("many questions")
    group.add_argument("--limit", metavar="N", type=positive, help="only the first N questions of each file")
    at_once = "questions at once, on all servers together (default 1; the local model works on at most 4 of them)"
    group.add_argument("--concurrency", metavar="N", type=positive, default=1, help=at_once)
    workers = "processes that share them, once one core is too few (default 1)"
    group.add_argument("--workers", metavar="N", type=positive, default=1, help=workers)
    engine = "where the processes are: on this machine, or on the Ray cluster at RAY_ADDRESS (extra `ray`)"
    group.add_argument("--engine", choices=("local", "ray"), default="local", help=engine)
    wait = f"how long to wait for a server that stops answering on the way (default {WAIT_SECONDS:,.0f})"
    group.add_argument("--wait", metavar="SECONDS", type=seconds, default=WAIT_SECONDS, help=wait)


def choice_of(args: argparse.Namespace) -> PartsChoice:
    """Return the model and the passages that were asked for. Raises `OperatorError`."""
    policy = ModelChoice(args.policy, args.model, tuple(args.base_url))
    second = {name: getattr(args, f"target_{name}", None) for name in ("policy", "model", "base_url")}
    target = ModelChoice(second["policy"], second["model"], tuple(second["base_url"] or ()))
    choice = PartsChoice(policy, args.index, target if target != ModelChoice() else None, args.wait)
    check_engine(choice, args.workers, args.engine)
    return choice


def context_of(args: argparse.Namespace, kind: type[_C], *names: str) -> _C:
    """Return the context with the bounds and the settings `names` as the arguments have them.

    Raises `OperatorError` where one is out of range.
    """
    settings = {name: getattr(args, name) for name in ("k", *names, *_BOUNDS)}
    try:
        return kind(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise OperatorError(f"{flag}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']}.") from error


def questions_of(files: list[Path], limit: int | None) -> list[Question]:
    """Return the first `limit` questions of each file, or all.

    Raises `OperatorError` where two files have questions of the same id.
    """
    questions: dict[str, Question] = {}
    for file in files:
        for question in read_questions(file)[:limit]:
            if question["id"] in questions:
                raise OperatorError(
                    f"{file} has a question with the id {question['id']!r}, and so has an earlier file."
                )
            questions[question["id"]] = question
    return list(questions.values())


def say(text: str) -> None:
    """Tell a person something on the way, above the progress bar."""
    tqdm.write(text, file=sys.stderr)
