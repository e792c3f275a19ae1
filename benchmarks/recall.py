"""Recall of gold passages for real questions: how much of what answers them is among the first 3, 5 and 20 found.

    python -m benchmarks.recall --data DIR

The dev questions of HotpotQA, 2WikiMultihopQA, MuSiQue and Natural Questions that have `supporting_ids` are searched
for as they stand, over the passages of their own set and over those of all sets together. Recall is the share of a
question's gold passages that is found, averaged over the questions; in square brackets stands the share of all gold
passages of the set, in which a question with many counts more. The reference is plain BM25 (one field, unstemmed words,
k1 0.9, b 0.4) over the same passages, at 5 and at 20, in whole per cent, so ours are rounded too before they are
compared. The exit code is 1 if any is lower.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.corpora import add_data_argument, corpus_files, dev_questions
from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import build_index, open_index

DEPTHS = (3, 5, 20)
# Per cent that plain BM25 finds at 5 and at 20: over the own passages, over all.
REFERENCE = {
    "hotpotqa": ({5: 69, 20: 88}, {5: 68, 20: 84}),
    "2wikimultihopqa": ({5: 67, 20: 71}, {5: 66, 20: 71}),
    "musique": ({5: 49, 20: 69}, {5: 44, 20: 58}),
    "nq": ({5: 91, 20: 96}, {5: 71, 20: 83}),
}


class Recall(NamedTuple):
    """Recall at one depth: the mean over the questions, and of all gold passages together."""

    mean: float
    of_all: float

    @property
    def percent(self) -> int:
        return round(100 * self.mean)


class Row(NamedTuple):
    """A question set over one corpus; `reference` is in whole per cent, at the depths where it is known."""

    name: str
    corpus: str
    questions: int
    recalls: dict[int, Recall]
    reference: dict[int, int]

    def lower(self) -> list[int]:
        return [depth for depth, percent in self.reference.items() if self.recalls[depth].percent < percent]


def recall(gold: Sequence[set[str]], found: Sequence[list[str]], depth: int) -> Recall:
    hits = [len(ids & set(ranked[:depth])) for ids, ranked in zip(gold, found, strict=True)]
    shares = [hit / len(ids) for hit, ids in zip(hits, gold, strict=True)]
    return Recall(statistics.mean(shares), sum(hits) / sum(map(len, gold)))


def measure(name: str, corpus: str, questions: list[Any], index: Path, reference: dict[int, int]) -> Row:
    opened = open_index(index)
    gold = [set(map(str, question["supporting_ids"])) for question in questions]
    found = [[hit.id for hit in opened.search(question["question"], max(DEPTHS))] for question in questions]
    return Row(name, corpus, len(questions), {depth: recall(gold, found, depth) for depth in DEPTHS}, reference)


def run(data: Path, work: Path) -> list[Row]:
    """Build the indexes in `work` and search them: the rows over the own passages first, then those over all."""
    questions = {
        name: [question for question in asked if question.get("supporting_ids")]
        for name, asked in dev_questions(data).items()
        if name in REFERENCE
    }
    if missing := REFERENCE.keys() - questions.keys():
        raise OperatorError(f"The dev questions of {', '.join(sorted(missing))} are not in {data / 'questions'}.")
    rows = []
    for name, (reference, _) in REFERENCE.items():
        build_index([data / "corpora" / f"{name}.tsv.gz"], work / name)
        rows.append(measure(name, "own", questions[name], work / name, reference))
    build_index(corpus_files(data), work / "union")
    for name, (_, reference) in REFERENCE.items():
        rows.append(measure(name, "union", questions[name], work / "union", reference))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown: ours in per cent, the reference after it."""
    heads = [f"at {depth}" + (" (reference)" if depth in rows[0].reference else "") for depth in DEPTHS]
    lines = [f"| questions | n | passages | {' | '.join(heads)} |", "|---|---:|---|" + "---:|" * len(DEPTHS)]
    for row in rows:
        cells = [_cell(row, depth) for depth in DEPTHS]
        lines.append(f"| {row.name} | {row.questions:,} | {row.corpus} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, depth: int) -> str:
    ours = f"{100 * row.recalls[depth].mean:.1f} [{100 * row.recalls[depth].of_all:.1f}]"
    if depth not in row.reference:
        return ours
    return f"{ours} ({row.reference[depth]})" + (" **lower**" if depth in row.lower() else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    data = parser.parse_args().data
    try:
        with tempfile.TemporaryDirectory(prefix="deeprag-") as work:
            rows = run(data, Path(work))
    except OperatorError as error:
        parser.error(str(error))
    print(table(rows))
    print("\nPer cent of a question's gold passages found, on average; in square brackets: of all gold passages.")
    return 1 if any(row.lower() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
