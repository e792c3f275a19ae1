"""The command line `python -m training`: one module a command, with the exit codes of `deeprag`."""

import argparse
import sys
from collections.abc import Sequence

from deeprag_graph.cli import run_command
from training.commands import curate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an operator's mistake is one sentence on standard error."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train a model to decide step by step whether to retrieve: the stages after `deeprag explore`.",
        epilog="Exit codes: 0 done, 2 something for you to mend, 130 stopped.",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (curate,):
        command.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
