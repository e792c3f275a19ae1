"""The command line `deeprag`: one module a command; here is what they share, the way in and the exit codes."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from deeprag_graph.cli import ask, data, explore, graph, index, search, tree
from deeprag_graph.errors import DeepRAGError, OperatorError

_EPILOG = """\
A first question, with the corpus and the model that come with the package:
  deeprag ask "In which town was the architect of the Sydney Opera House born?"

Your own passages:
  deeprag index passages.tsv.gz --out my-index
  deeprag ask "..." --index my-index

Questions whose answers are known, searched for the path that retrieves least, and a page of what was found:
  deeprag explore --questions train.jsonl --index my-index --ledger trees.jsonl
  deeprag tree trees.jsonl

Exit codes: 0 done, 1 done with failed questions, 2 something for you to mend, 130 stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an operator's mistake is one sentence on standard error."""
    return run_command(_parser(), arguments)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> int:
    """Run the command of any parser whose commands set `run`, with the exit codes that all commands share."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no arrows gets question marks
    args = parser.parse_args(arguments)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except OperatorError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except DeepRAGError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # nobody reads on, and whatever is still to be written must not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 141  # as of a program that SIGPIPE ends
    except OSError as error:  # of the output, mostly: a full disk
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deeprag",
        description="Answer questions step by step, deciding at each step whether to retrieve (DeepRAG on LangGraph).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"deeprag {version('deeprag-graph')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (ask, index, search, explore, tree, data, graph):
        command.add_parser(subparsers)
    return parser
