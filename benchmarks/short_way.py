"""The short way to the best passages (`retrieval/top.py`) beside scoring every passage that holds a word, in one index.

    python -m benchmarks.short_way INDEX --data DIR [--queries 1500] [--rounds 3]

The same real dev questions, warm, in turns: p50 and p95 of the 3 best in ms, their ratios by round (median [range]),
how often the short way had to score passages anew or had to go the long way, and how often the two differ (never).
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.corpora import add_data_argument, dev_questions
from deeprag_graph.retrieval import BM25Index
from deeprag_graph.retrieval.analysis import analyze
from deeprag_graph.retrieval.top import Scored, TopPassages

K = 3
Find = Callable[[Counter[str], int], list[Scored]]


def measure(find: Find, queries: Sequence[Counter[str]]) -> tuple[float, float]:
    """Return p50 and p95 of a search, in ms."""
    latencies = []
    for query in queries:
        began = time.perf_counter()
        find(query, K)
        latencies.append(time.perf_counter() - began)
    cuts = statistics.quantiles(latencies, n=100)
    return 1000 * cuts[49], 1000 * cuts[94]


def compare(top: TopPassages, queries: Sequence[Counter[str]], rounds: int) -> None:
    """Time both ways in turns, and print."""
    measure(top.find, queries)  # from now on the index is in memory
    times = [(measure(top.find, queries), measure(top.find_exhaustively, queries)) for _ in range(rounds)]
    for place, name in enumerate(("p50", "p95")):
        short, long = (statistics.median(pair[way][place] for pair in times) for way in (0, 1))
        ratios = sorted(pair[1][place] / pair[0][place] for pair in times)
        middle = statistics.median(ratios)
        print(f"{name}: short {short:.2f} ms, long {long:.2f} ms, {middle:.2f} × [{ratios[0]:.2f}–{ratios[-1]:.2f}]")


def count(top: TopPassages, queries: Sequence[Counter[str]]) -> None:
    """Count the ways taken, and what differs, and print."""
    ways: Counter[str] = Counter()
    for way in ("_rescored", "find_exhaustively"):
        _counted(top, way, ways)
    short = [top.find(query, K) for query in queries]
    del top.find_exhaustively, top._rescored  # the class's own again
    long = [top.find_exhaustively(query, K) for query in queries]
    differ = sum(list(map(_key, a)) != list(map(_key, b)) for a, b in zip(short, long, strict=True))
    print(
        f"of {len(queries):,} questions {ways['_rescored']:,} had some passages scored anew, "
        f"{ways['find_exhaustively']:,} all; {differ} differ from the long way"
    )


def _counted(top: TopPassages, way: str, ways: Counter[str]) -> None:
    original = getattr(top, way)

    def count(*arguments: Any) -> Any:
        ways[way] += 1
        return original(*arguments)

    setattr(top, way, count)


def _key(found: Scored) -> tuple[int, int]:
    return found[1].segment_ord, found[1].doc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", metavar="INDEX", type=Path)
    add_data_argument(parser)
    parser.add_argument("--queries", type=int, default=1500, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    args = parser.parse_args()
    questions = [question["question"] for asked in dev_questions(args.data).values() for question in asked]
    sample = Random(0).sample(questions, min(args.queries, len(questions)))
    queries = [Counter(analyze(question)) for question in sample]
    top = BM25Index.open(args.index)._top
    compare(top, queries, args.rounds)
    count(top, queries)


if __name__ == "__main__":
    main()
