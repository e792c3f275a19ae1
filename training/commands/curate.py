"""`python -m training curate`: reads ledgers, writes the trajectories that are kept, and reports on the others."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from deeprag_graph.cli.arguments import positive
from deeprag_graph.drafts import replacing
from deeprag_graph.errors import OperatorError
from deeprag_graph.ledger import Record, read_ledger
from training.curate import REASONS, Keep, Report, curate

_EPILOG = """\
Examples:
  python -m training curate hotpotqa.ledger --out stage1.jsonl
  python -m training curate hotpotqa.ledger 2wiki.ledger --out stage1.jsonl --limit 8000
  python -m training curate hotpotqa.ledger --out most.jsonl --keep most

--keep least is the paper's choice; most and random are its ablation. They differ from it only where a question has more
than one right path in the ledger, that is where the search went on after the first (deeprag explore --calibrate all);
the report says how many of the kept questions do.

The same question from several ledgers is kept once, from the first. The same ledgers and flags give the same bytes.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "curate",
        help="choose the trajectories of ledgers that are worth imitating",
        description="Choose the trajectories of ledgers that are worth imitating, and say what was dropped and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ledgers", metavar="LEDGER", nargs="+", type=Path, help="what `deeprag explore` has written")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="JSONL to write, one trajectory a line")
    parser.add_argument(
        "--keep",
        choices=get_args(Keep),
        default="least",
        help="which right path of a question: of least cost (default), of most cost, or one drawn at random",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of --keep random (default 0)")
    parser.add_argument("--limit", metavar="N", type=positive, help="only the first N trajectories")
    parser.add_argument("--no-gold", action="store_true", help="drop what was searched with the gold passages")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the curated file, and report."""
    _check(args)
    report = Report(keep=args.keep)
    with replacing(args.out) as file:
        for row in curate(_read(args.ledgers), report, seed=args.seed, gold=not args.no_gold, limit=args.limit):
            file.write(json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n")
        if not report.kept:
            _show(report, as_json=args.json)
            raise OperatorError(_nothing_left(report, args))
    _show(report, as_json=args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise `OperatorError` for what would else be found out only after many minutes."""
    for ledger in args.ledgers:
        if not ledger.is_fifo():  # which can be read only once
            next(read_ledger(ledger), None)
        if args.out.exists() and args.out.samefile(ledger):
            raise OperatorError(f"{args.out} is a ledger; name another --out.")
    if args.out.exists() and not args.out.is_file():
        raise OperatorError(f"{args.out} is no file; name a file with --out.")


def _read(ledgers: Sequence[Path]) -> Iterator[tuple[str, Record]]:
    for ledger in ledgers:
        for record in tqdm(read_ledger(ledger), desc=ledger.name, unit="question", file=sys.stderr, disable=None):
            yield ledger.name, record


def _nothing_left(report: Report, args: argparse.Namespace) -> str:
    names = ", ".join(str(ledger) for ledger in args.ledgers)
    solved = report.read - report.dropped["failed"] - report.dropped["unsolved"]
    if not solved:
        return f"There is no solved question in {names}, so that nothing was written; explore more questions."
    return f"None of the {solved:,} solved questions in {names} is kept, for the reasons above; nothing was written."


def _show(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report)))
    print("\n".join(_table(report)), file=sys.stderr)


def _table(report: Report) -> Iterator[str]:
    yield f"{report.read:>9,}  questions read"
    for reason, count in report.dropped.items():
        if count:
            yield f"{count:>9,}  dropped: {REASONS[reason]}"
    yield f"{report.kept:>9,}  kept"
    if report.kept:
        retrievals, steps = report.retrievals / report.kept, report.steps / report.kept
        yield f"{retrievals:>9.2f}  retrievals in {steps:.2f} steps a trajectory"
        yield f"{report.with_choice:>9,}  with more than one right path to choose from (--keep {report.keep})"
    if report.with_gold:
        yield f"{report.with_gold:>9,}  searched with the gold passages"
