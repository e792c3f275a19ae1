"""`deeprag data`: fetches a public question set and its passages, or Wikipedia's, and indexes them if asked to."""

import argparse
from pathlib import Path

from deeprag_graph.cli import index
from deeprag_graph.cli.arguments import positive
from deeprag_graph.errors import OperatorError
from deeprag_graph.public_data import PASSAGES, QUESTION_SETS, UNFINISHED, WIKIPEDIA_URL, Fetched, fetch
from deeprag_graph.retrieval.engine import check_place

_EPILOG = f"""\
Question sets: {", ".join(QUESTION_SETS)}.
They come from the Hugging Face hub (the first three; needs  pip install "deeprag-graph[data]"), or, where there is no
network, from a folder named by DEEPRAG_DATA, with files corpora/NAME.tsv.gz and questions/NAME-dev.jsonl.

wikipedia: DPR's passages of the English Wikipedia of December 2018, 21,015,324 of 100 words, without questions. It is
one file of 4.7 GB from  {WIKIPEDIA_URL}
(or corpora/wikipedia.tsv.gz of DEEPRAG_DATA). A download that is stopped, or breaks off, stays in DIR/{UNFINISHED}, and
the same command goes on from there. When all of it has come, it is read once to see that it is whole.

The folder then holds passages.tsv.gz (for deeprag index), and train.jsonl and dev.jsonl: one question a line with id,
question, answers and, where the set has them, the titles and ids of the passages that answer it. data.json says where
the files are from, what they hold, and their SHA-256.

Examples:
  deeprag data hotpotqa --out hotpotqa --index hotpotqa/index
  deeprag data hotpotqa --out sample --limit 100
  deeprag data wikipedia --out wikipedia --index wikipedia/index
  DEEPRAG_DATA=~/qa-data deeprag data popqa --out popqa
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "data",
        help="fetch a public question set and its passages, or Wikipedia's",
        description="Fetch a public question set and its passages, or Wikipedia's, into a folder; index them if asked.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the question set, for example hotpotqa, or wikipedia")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to put it in; made if need be")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=positive,
        help="only the first N questions of each file; from the hub, only their passages, too",
    )
    parser.add_argument("--force", action="store_true", help="fetch again what is in the folder already")
    parser.add_argument(
        "--index", metavar="INDEX", help="then build this index of the passages, as  deeprag index --out INDEX  does"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch the data, say what is where, and index the passages or say what to do next; bars go to standard error."""
    if args.index:  # before hours of download, not after them
        if Path(args.index).resolve() in (args.out.resolve(), args.out.resolve() / PASSAGES):
            raise OperatorError(f"--index must be a place of its own, for example {args.out / 'index'}.")
        check_place(args.index)
    fetched = fetch(args.name, args.out, limit=args.limit, force=args.force)
    print(
        f"{fetched.name} from {fetched.source}" + ("" if fetched.fresh else " is there already (--force: fetch again)")
    )
    for file, count in fetched.files.items():
        print(f"  {file}: {count:,} {'passages' if file.name == PASSAGES else 'questions'}{_digest(fetched, file)}")
    passages = args.out / PASSAGES
    if passages not in fetched.files:
        if args.index:
            raise OperatorError(
                f"{fetched.name} has no passages to index; ask with an index of others, without --index."
            )
        print(f"It has no passages; ask with: deeprag ask --questions {next(iter(fetched.files))} --index INDEX")
    elif args.index:
        print(index.summary(index.build([passages], args.index), args.index))
    else:
        print(f"Index the passages with: deeprag index {passages} --out INDEX")
    return 0


def _digest(fetched: Fetched, file: Path) -> str:
    return f", SHA-256 {fetched.sha256[file]}" if file in fetched.sha256 else ""
