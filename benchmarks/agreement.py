"""Whether the embedded index and Elasticsearch rank alike: all dev questions over all passages, in both.

    python -m benchmarks.agreement --data DIR --elasticsearch URL

Both indexes are built anew, that of Elasticsearch as `deeprag-agreement`, which is deleted at the end. The engines
agree on a question if they give the same three passages in the same order. Where they do not, the cause is told:

    tie               in each engine, the passages that stand in each other's place have one and the same score
    rounding          as far as 32 bits tell (1e-5), the scores are the same in both engines and those passages' are too
    query terms       the engines take different terms from the question
    document terms    … or from a passage that stands elsewhere, and the question has these terms
    lengths           … and the question does not have these terms, so the passage is longer or shorter by them
    statistics        as `explain` tells it, the engines count other passages with a term, or another average length
    unexplained       none of these

The share of agreement leaves ties out. Differences of scores are relative, of passages among the three of both engines;
the largest of those above 1e-3 are told with their cause too, even where the order is the same.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.corpora import add_data_argument, corpus_files, dev_questions
from benchmarks.elasticsearch_server import ServerIndex
from deeprag_graph.errors import OperatorError, RetrievalError
from deeprag_graph.retrieval import Hit, PassageIndex, build_index, open_index
from deeprag_graph.retrieval.analysis import analyze

TOP = 3
LOOKED_AT = 50  # hits, where the first ones differ
ROUNDING = 1e-5  # relative: what sums of a dozen 32-bit numbers may differ by
NOTABLE = 1e-3  # relative, likewise: more than rounding and a slightly different average make
SHOWN = 20  # differences of scores
NAME = "deeprag-agreement"


class Disagreement(NamedTuple):
    question: str
    cause: str
    detail: str
    ours: list[Hit]
    theirs: list[Hit]


class ScoreDifference(NamedTuple):
    """A passage that both engines have among the three; `relative` is to the larger score."""

    relative: float
    question: str
    hit: Hit


class Report(NamedTuple):
    questions: int
    differences: list[ScoreDifference]
    disagreements: list[Disagreement]
    causes: list[tuple[ScoreDifference, str]]  # of differences that are more than rounding and averages


class Engines(NamedTuple):
    """Both indexes, and the second one's server for its analysis."""

    ours: PassageIndex
    theirs: PassageIndex
    server: ServerIndex

    def compare(self, questions: Sequence[str]) -> Report:
        ours, theirs = (index.search_many(questions, TOP) for index in (self.ours, self.theirs))
        differences: list[ScoreDifference] = []
        disagreements = []
        for question, mine, other in zip(questions, ours, theirs, strict=True):
            scores = {hit.id: hit.score for hit in other}
            both = [hit for hit in mine if hit.id in scores]
            differences += [ScoreDifference(_relative(hit.score, scores[hit.id]), question, hit) for hit in both]
            if [hit.id for hit in mine] != [hit.id for hit in other]:
                disagreements.append(self.diagnose(question))
        notable = sorted((each for each in differences if each.relative > NOTABLE), key=lambda each: -each.relative)
        causes = [(each, self._cause_of_scores(each.question, [each.hit])) for each in notable[:SHOWN]]
        return Report(len(questions), differences, disagreements, [(each, ": ".join(cause)) for each, cause in causes])

    def diagnose(self, question: str) -> Disagreement:
        ours, theirs = self.ours.search(question, LOOKED_AT), self.theirs.search(question, LOOKED_AT)
        swapped = [(a, b) for a, b in zip(ours[:TOP], theirs[:TOP], strict=False) if a.id != b.id]
        moved = [hit for pair in swapped for hit in pair]
        cause, detail = _same_scores(ours, theirs, swapped) or self._cause_of_scores(question, moved)
        return Disagreement(question, cause, detail, ours[: TOP + 1], theirs[: TOP + 1])

    def _cause_of_scores(self, question: str, hits: Sequence[Hit]) -> tuple[str, str]:
        """Return why the engines may score these passages differently."""
        return (
            self._query_terms(question)
            or self._document_terms(question, hits)
            or self._statistics(question)
            or ("unexplained", "")
        )

    def _query_terms(self, question: str) -> tuple[str, str] | None:
        difference = _difference(analyze(question), self.server.terms(question))
        return ("query terms", difference) if difference else None

    def _document_terms(self, question: str, hits: Sequence[Hit]) -> tuple[str, str] | None:
        asked = set(analyze(question))
        lengths = None
        for hit in hits:
            for field, text in (("title", hit.title), ("text", hit.text)):
                mine, other = analyze(text), self.server.terms(text)
                if not (difference := _difference(mine, other)):
                    continue
                detail = f"{field} of {hit.id}: {difference}"
                if _difference([t for t in mine if t in asked], [t for t in other if t in asked]):
                    return "document terms", detail
                if len(mine) != len(other):
                    lengths = "lengths", detail
        return lengths

    def _statistics(self, question: str) -> tuple[str, str] | None:
        counted = [
            {
                (term.field, term.term): (term.passages_with_term, round(term.average_length, 3))
                for explanation in index.explain(question, LOOKED_AT)
                for term in explanation.terms
            }
            for index in (self.ours, self.theirs)
        ]
        different = [
            f"{field}: {term} in {mine[0]} and {other[0]} passages of {mine[1]} and {other[1]} terms on average"
            for (field, term), mine in counted[0].items()
            if (other := counted[1].get((field, term), mine)) != mine
        ]
        more = [f"{len(different) - 3} more terms"] if len(different) > 3 else []
        return ("statistics", "; ".join(different[:3] + more)) if different else None


def _same_scores(
    ours: Sequence[Hit], theirs: Sequence[Hit], swapped: Sequence[tuple[Hit, Hit]]
) -> tuple[str, str] | None:
    """Tell a tie, in either engine's own scores, from scores that are alike but for rounding, and from neither."""
    mine, other = ({hit.id: hit.score for hit in hits} for hits in (ours, theirs))
    ids = [(a.id, b.id) for a, b in swapped]
    if not ids or any(id not in scores for pair in ids for id in pair for scores in (mine, other)):
        return None
    within = [_relative(scores[a], scores[b]) for a, b in ids for scores in (mine, other)]
    if not any(within):
        return "tie", ""
    between = [_relative(mine[id], other[id]) for pair in ids for id in pair]
    return ("rounding", f"{max(within):.1e} apart") if max(within + between) <= ROUNDING else None


def _relative(a: float, b: float) -> float:
    return abs(a - b) / max(a, b)


def _difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Return what one has and the other has not, or "" if both have the same terms as often."""
    mine, other = Counter(ours), Counter(theirs)
    if mine == other:
        return ""
    return f"ours alone {sorted((mine - other).elements())}, theirs alone {sorted((other - mine).elements())}"


def show(report: Report) -> str:
    """Return the report as Markdown."""
    causes = Counter(each.cause for each in report.disagreements)
    ties = causes["tie"]
    agreed = report.questions - len(report.disagreements)
    relative = sorted(each.relative for each in report.differences)
    lines = [
        f"{report.questions:,} questions; the same ordered top {TOP} for {agreed:,}, {agreed / report.questions:.2%}; "
        f"{ties:,} differ by a tie; of the others {agreed / (report.questions - ties):.2%} agree.",
        f"Scores differ by at most {relative[-1]:.1e}, at the median by {relative[len(relative) // 2]:.1e}.",
        "",
        *(f"- {cause}: {count:,}" for cause, count in causes.most_common()),
        *(f"- a score differs by {each.relative:.1e} ({each.question}): {cause}" for each, cause in report.causes),
    ]
    for each in report.disagreements:
        lines += ["", f"{each.question}", f"  {each.cause}{': ' if each.detail else ''}{each.detail}"]
        lines += [f"  {name}  {'  '.join(f'{hit.id} {hit.score:.6f}' for hit in hits)}" for name, hits in _sides(each)]
    return "\n".join(lines)


def _sides(each: Disagreement) -> list[tuple[str, list[Hit]]]:
    return [("ours         ", each.ours), ("Elasticsearch", each.theirs)]


def run(data: Path, elasticsearch: str, work: Path) -> Report:
    """Build both indexes, search them, and delete the one on the server."""
    files = corpus_files(data)
    address = f"{elasticsearch.rstrip('/')}/{NAME}"
    questions = [question["question"] for asked in dev_questions(data).values() for question in asked]
    build_index(files, work / "union")
    build_index(files, address)
    with closing(ServerIndex(address)) as server:
        try:
            return Engines(open_index(work / "union"), open_index(address), server).compare(questions)
        finally:
            server.delete()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_argument(parser)
    parser.add_argument("--elasticsearch", metavar="URL", required=True, help="the server: http://HOST:PORT")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="deeprag-") as work:
            report = run(args.data, args.elasticsearch, Path(work))
    except OperatorError as error:
        parser.error(str(error))
    except RetrievalError as error:
        sys.exit(str(error))
    print(show(report))


if __name__ == "__main__":
    main()
