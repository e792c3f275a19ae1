"""Curation: the trajectories of ledgers that are worth imitating (Stage I).

The paper fine-tunes on the least-cost right path of each question that has one (arXiv 2502.01142, section 3.2), less
those whose answers are not in the required format. A path is chosen first and looked at afterwards, so that `least`,
`most` and `random`, the paper's ablation, differ in the choice alone. What is dropped, and why, is counted.

A line is a `Row`. Its trajectory is in the form that a transcript holds, passage ids besides: the probabilities and
scores of the ledger are null here, so that `datasets.load_dataset("json", data_files=...)`, which takes the types of a
file from its first 10 MB, reads rows of different policies and retrievers alike.
"""

import hashlib
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from typing_extensions import TypedDict

from deeprag_graph.explore.tree import Node, path, trajectory
from deeprag_graph.ledger import Record
from deeprag_graph.transcript import Passage, Step, Trajectory, one_line, parse, render

Keep = Literal["least", "most", "random"]
Reason = Literal[
    "failed",
    "unsolved",
    "gold_passages",
    "made_to_conclude",
    "corrected",
    "empty_answer",
    "malformed",
    "enumerated",
    "too_long",
    "no_passage",
    "duplicate_question",
    "duplicate_path",
]

TEXT_CHARS: Final = 1_000  # more than a passage of DPR's has; an answer is a sentence or two
# In the order in which they are looked for: the first that applies is the one that counts.
REASONS: Final[dict[Reason, str]] = {
    "failed": "the search failed, so that a right path of less cost may have been missed",
    "unsolved": "no right path was found",
    "gold_passages": "the search was given the gold passages (--no-gold)",
    "made_to_conclude": "the policy did not conclude by itself",
    "corrected": "the policy left the format and had to be corrected",
    "empty_answer": "an intermediate answer is empty",
    "malformed": "it has no final answer in both forms, or its transcript does not read back as the same path",
    "enumerated": "an intermediate answer is a list",
    "too_long": f"a subquery or an answer is longer than {TEXT_CHARS:,} characters",
    "no_passage": "a retrieval brought no passage",
    "duplicate_question": "the same question was kept already",
    "duplicate_path": "the same path was kept already, for a question in other words",
}
_OPENS_A_LIST = re.compile(r"\(?[123][.)]\s")
_ITEM = re.compile(r"(?:\(?\d{1,2}[.)]|[-*•–])\s")


class Row(TypedDict):
    """A trajectory to imitate.

    Attributes:
        id: the question's, `dataset` the set it is from, `answers` its gold answers.
        trajectory: the path that was kept; its question is in legal form, one line, as in every prompt.
        cost: retrievals of the least-cost right path of the question.
        retrievals: of this path; more than `cost` only where another than the least was kept.
        steps: of this path.
        stop_reason: how the path ended: `concluded`.
        gold_passages: whether the search was given the gold passages.
        right_paths: how many right paths the tree has, of which `keep` says how this one was chosen.
        ledger: name of the ledger's file, `settings_hash` of the settings it was made with.
    """

    id: str
    dataset: str
    question: str
    answers: list[str]
    trajectory: Trajectory
    cost: int
    retrievals: int
    steps: int
    stop_reason: str
    gold_passages: bool
    right_paths: int
    keep: Keep
    ledger: str
    settings_hash: str


@dataclass
class Report:
    """What became of the questions that were read: `read` is `kept` and all of `dropped` together.

    `with_choice` of those kept have more than one right path, `with_gold` were given the gold passages; `retrievals`
    and `steps` are sums over the kept.
    """

    keep: Keep
    read: int = 0
    kept: int = 0
    dropped: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    with_choice: int = 0
    with_gold: int = 0
    retrievals: int = 0
    steps: int = 0

    def add(self, row: Row | Reason) -> None:
        """Count one question."""
        self.read += 1
        if isinstance(row, str):
            self.dropped[row] += 1
            return
        self.kept += 1
        self.with_choice += row["right_paths"] > 1
        self.with_gold += row["gold_passages"]
        self.retrievals += row["retrievals"]
        self.steps += row["steps"]


def curate(
    records: Iterable[tuple[str, Record]],
    report: Report,
    *,
    seed: int = 0,
    gold: bool = True,
    limit: int | None = None,
) -> Iterator[Row]:
    """Yield the rows to keep of ledgers' records, one at a time and in their order, and count what becomes of each.

    Args:
        records: lines of ledgers, each with the name of its ledger.
        report: says by its `keep` which right path of a question is kept; the counts are added to it on the way.
        seed: of the draw where `keep` is `random`; the draw depends on it and on the question's id alone.
        gold: keep also what was searched with the gold passages.
        limit: stop after so many rows; the records after that are not read.
    """
    seen: set[bytes] = set()
    for ledger, record in records:
        row = _row(ledger, record, report.keep, seed, gold=gold)
        if not isinstance(row, str):
            row = _new(row, seen)
        report.add(row)
        if not isinstance(row, str):
            yield row
        if report.kept == limit:
            return


def choose(record: Record, keep: Keep, seed: int = 0) -> Node:
    """Return the node that ends one right path of a solved question: the least, the dearest, or one drawn of all."""
    right = _right(record)
    if keep == "least":
        return record["nodes"][record["best"]]
    if keep == "most":
        return max(right, key=lambda node: node["cost"])  # of equals the first that was found
    return random.Random(f"{seed} {record['id']}").choice(right)


def _right(record: Record) -> list[Node]:
    return [node for node in record["nodes"] if node["outcome"] == "right"]


def _row(ledger: str, record: Record, keep: Keep, seed: int, *, gold: bool) -> Row | Reason:
    if record["outcome"] != "solved":
        return cast(Reason, record["outcome"])
    if record["gold_passages"] and not gold:
        return "gold_passages"
    end = choose(record, keep, seed)
    bare = _bare(trajectory(record, end["id"]))
    if fault := _fault(path(record, end["id"]), bare):
        return fault
    return Row(
        id=record["id"],
        dataset=record["dataset"],
        question=record["question"],
        answers=record["answers"],
        trajectory=bare,
        cost=record["nodes"][record["best"]]["cost"],
        retrievals=end["cost"],
        steps=end["depth"],
        stop_reason=end["stop_reason"],
        gold_passages=record["gold_passages"],
        right_paths=len(_right(record)),
        keep=keep,
        ledger=ledger,
        settings_hash=record["settings_hash"],
    )


def _bare(kept: Trajectory) -> Trajectory:
    """Return a trajectory with what its transcript holds, and the ids of its passages."""
    steps = [Step(**{**step, "p_retrieve": None, "passages": _unscored(step["passages"])}) for step in kept["steps"]]
    return Trajectory(question=one_line(kept["question"]), steps=steps, final=kept["final"])


def _unscored(passages: list[Passage] | None) -> list[Passage] | None:
    return None if passages is None else [Passage(**{**passage, "score": None}) for passage in passages]


def _fault(nodes: Sequence[Node], kept: Trajectory) -> Reason | None:
    """Return why a right path is not to be imitated, if there is a reason.

    A path that was made to conclude (at the step bound, at a repeated subquery) would teach to end where the policy did
    not want to: the termination decision is part of what is learnt. A corrected one reads well only because what the
    policy wrote in between is left out.
    """
    faults: dict[Reason, Callable[[], bool]] = {
        "made_to_conclude": lambda: nodes[-1]["stop_reason"] != "concluded",
        "corrected": lambda: any(node["corrections"] for node in nodes),
        "empty_answer": lambda: not all(step["answer"] for step in kept["steps"]),
        "malformed": lambda: not _reads_back(kept),
        "enumerated": lambda: any(_is_list(step["answer"] or "") for step in kept["steps"]),
        "too_long": lambda: any(len(text) > TEXT_CHARS for text in _texts(kept)),
        "no_passage": lambda: any(s["decision"] == "retrieve" and not s["passages"] for s in kept["steps"]),
    }
    return next((reason for reason, holds in faults.items() if holds()), None)


def _reads_back(kept: Trajectory) -> bool:
    """Whether the transcript is one, finished, and says the same as the trajectory, passage ids aside."""
    if kept["final"] is None or not (kept["final"]["long"] and kept["final"]["short"]):
        return False
    try:
        read = parse(render(kept), kept["question"])
    except ValueError:
        return False
    return read == Trajectory(question=kept["question"], steps=_without_ids(kept["steps"]), final=kept["final"])


def _without_ids(steps: list[Step]) -> list[Step]:
    return [
        Step(**{**step, "passages": [Passage(**{**p, "id": ""}) for p in step["passages"] or []]}) for step in steps
    ]


def _is_list(answer: str) -> bool:
    """Whether an answer opens with 1., 2. or 3., as in the paper's filter, or has several lines that are items."""
    items = sum(bool(_ITEM.match(line)) for line in answer.split("\n"))
    return items > 1 or _OPENS_A_LIST.match(answer) is not None


def _texts(kept: Trajectory) -> Iterator[str]:
    """Yield what the policy has written."""
    for step in kept["steps"]:
        yield step["subquery"]
        yield step["answer"] or ""
    if kept["final"]:
        yield from (kept["final"]["long"], kept["final"]["short"])


def _new(row: Row, seen: set[bytes]) -> Row | Reason:
    """Return the row, noted as seen, or as what it was seen already.

    Paths of no step are not compared: "yes" answers many questions.
    """
    question = _digest("question", _normalised(row["question"]))
    walked = _digest("path", render(row["trajectory"])) if row["steps"] else question
    if question in seen:
        return "duplicate_question"
    if walked in seen:
        return "duplicate_path"
    seen.update((question, walked))
    return row


def _normalised(question: str) -> str:
    """Return a question without what does not tell it from others: case, white space, the stop at its end."""
    text = unicodedata.normalize("NFKC", question).casefold()
    return " ".join(text.split()).rstrip(" ?.!") or text


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind} {text}".encode(errors="replace"), digest_size=16).digest()
