"""What an exploration came to, counted over the records of a ledger in one pass: the only place where it is counted."""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, cast

from typing_extensions import TypedDict

from deeprag_graph.explore.tree import Node, NodeOutcome, Outcome, SearchStop, path
from deeprag_graph.ledger import Record
from deeprag_graph.state import Usage, no_usage
from deeprag_graph.transcript import Decision, one_line

OUTCOMES: Final[tuple[Outcome, ...]] = ("solved", "unsolved", "failed")
ENDS: Final[tuple[NodeOutcome, ...]] = ("right", "wrong", "malformed", "failed")
_COMMON = 10  # corrections that are named
_CHARACTERS = 160  # of a correction

# A correction tells where it happened and may quote the policy; without both, the same ones are counted together.
_WHERE = re.compile(r"^step \d+: ")
_QUOTED = re.compile(r"""\s*\((['"]).*\1\)""", re.DOTALL)


class Average(TypedDict):
    """Something that each question took."""

    mean: float
    median: float


class Share(TypedDict):
    """How many of how many."""

    part: int
    of: int


class Summary(TypedDict):
    """A ledger in figures, all of them fit for JSON.

    Attributes:
        questions: lines of the ledger.
        outcomes: questions by outcome; `datasets` has the same for each data set that questions name.
        stop_reasons: questions by the reason for which their search ended.
        costs: solved questions by their cost; `steps` by the decisions on their optimal path.
        decisions: decisions on optimal paths by kind.
        own_decisions: those of them that the policy itself wrote, of those at which it wrote any.
        ends: branches that ended after so many decisions, by outcome; `end_reasons` by stop reason.
        nodes: of all trees; `free_nodes` are those that took no model call.
        usage: of all searches together.
        per_question: what a search took, by `llm_calls`, `tokens` and `seconds`.
        corrections: the most common ones, most common first.
        settings: what the searches were made with.
    """

    questions: int
    outcomes: dict[Outcome, int]
    datasets: dict[str, dict[Outcome, int]]
    stop_reasons: dict[SearchStop, int]
    costs: dict[int, int]
    steps: dict[int, int]
    decisions: dict[Decision, int]
    own_decisions: Share
    ends: dict[int, dict[NodeOutcome, int]]
    end_reasons: dict[int, dict[str, int]]
    nodes: int
    free_nodes: int
    usage: Usage
    per_question: dict[str, Average]
    corrections: dict[str, int]
    settings: dict[str, Any]


def summarise(records: Iterable[Record]) -> Summary:
    """Return the figures of records, of which only one is held at a time."""
    tally = _Tally()
    for record in records:
        tally.add(record)
    return tally.summary()


class _Tally:
    """The counters of a summary while records go by."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._datasets: dict[str, Counter[Outcome]] = defaultdict(Counter)
        self._stop_reasons: Counter[SearchStop] = Counter()
        self._costs: Counter[int] = Counter()
        self._steps: Counter[int] = Counter()
        self._decisions: Counter[Decision] = Counter()
        self._own_decisions = Share(part=0, of=0)
        self._ends: dict[int, Counter[NodeOutcome]] = defaultdict(Counter)
        self._end_reasons: dict[int, Counter[str]] = defaultdict(Counter)
        self._nodes = self._free_nodes = 0
        self._usage = no_usage()
        self._each: dict[str, list[float]] = {"llm_calls": [], "tokens": [], "seconds": []}
        self._corrections: Counter[str] = Counter()
        self._settings: dict[str, Any] = {}

    def add(self, record: Record) -> None:
        self._settings = self._settings or record["settings"]
        self._outcomes[record["outcome"]] += 1
        self._stop_reasons[record["stop_reason"]] += 1
        if record["dataset"]:
            self._datasets[record["dataset"]][record["outcome"]] += 1
        self._add_usage(record["usage"])
        if record["outcome"] == "solved":
            self._add_path(path(record, record["best"]))
        for node in record["nodes"]:
            self._add_node(node)

    def _add_usage(self, usage: Usage) -> None:
        tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        each = {"llm_calls": usage["llm_calls"], "tokens": tokens, "seconds": usage["seconds"]}
        for name, amount in each.items():
            self._each[name].append(amount)
        total, more = (cast("dict[str, float]", figures) for figures in (self._usage, usage))
        for name in total:
            total[name] += more[name]

    def _add_path(self, optimal: list[Node]) -> None:
        self._costs[optimal[-1]["cost"]] += 1
        self._steps[optimal[-1]["depth"]] += 1
        for before, after in pairwise(optimal):
            assert after["action"]
            self._decisions[after["action"]] += 1
            if before["written"]:
                self._own_decisions["of"] += 1
                self._own_decisions["part"] += before["written"] == after["action"]

    def _add_node(self, node: Node) -> None:
        self._nodes += 1
        self._free_nodes += node["llm_calls"] == 0
        self._corrections.update(map(_kind, node["corrections"]))
        if node["outcome"] != "inner":
            self._ends[node["depth"]][node["outcome"]] += 1
            self._end_reasons[node["depth"]][node["stop_reason"]] += 1

    def summary(self) -> Summary:
        return Summary(
            questions=self._outcomes.total(),
            outcomes={name: self._outcomes[name] for name in OUTCOMES},
            datasets={name: {o: found[o] for o in OUTCOMES} for name, found in sorted(self._datasets.items())},
            stop_reasons=dict(self._stop_reasons.most_common()),
            costs=dict(sorted(self._costs.items())),
            steps=dict(sorted(self._steps.items())),
            decisions={"retrieve": self._decisions["retrieve"], "parametric": self._decisions["parametric"]},
            own_decisions=self._own_decisions,
            ends={depth: {o: found[o] for o in ENDS} for depth, found in sorted(self._ends.items())},
            end_reasons={depth: dict(found.most_common()) for depth, found in sorted(self._end_reasons.items())},
            nodes=self._nodes,
            free_nodes=self._free_nodes,
            usage=self._usage,
            per_question={name: _average(amounts) for name, amounts in self._each.items()},
            corrections=dict(self._corrections.most_common(_COMMON)),
            settings=self._settings,
        )


def _kind(correction: str) -> str:
    return one_line(_QUOTED.sub("", _WHERE.sub("", correction)), _CHARACTERS)


def _average(amounts: list[float]) -> Average:
    if not amounts:
        return Average(mean=0.0, median=0.0)
    return Average(mean=statistics.fmean(amounts), median=statistics.median(amounts))


def percent(part: float, of: float) -> str:
    """Return a share in whole percent; only nothing is 0 % and only all is 100 %, and of nothing there is none."""
    if not of:
        return "–"
    rounded = f"{100 * part / of:.0f} %"
    return {"0 %": "<1 %" if part else rounded, "100 %": ">99 %" if part < of else rounded}.get(rounded, rounded)


def mean(histogram: Mapping[int, int]) -> float:
    """Return the mean of values that are counted in `histogram`, 0 where there are none."""
    return sum(value * count for value, count in histogram.items()) / (sum(histogram.values()) or 1)


def lines(summary: Summary) -> Iterator[str]:
    """Yield what a person reads of it in a terminal."""
    if not summary["questions"]:
        yield "No question was searched."
        return
    yield f"{_outcomes(summary['outcomes'])} of {summary['questions']:,} questions"
    if len(summary["datasets"]) > 1:
        solved = (
            f"{one_line(name)} {found['solved']:,} of {sum(found.values()):,}"
            for name, found in summary["datasets"].items()
        )
        yield _line("solved", ", ".join(solved))
    yield _line("ended by", _counts(summary["stop_reasons"]))
    if summary["costs"]:
        yield from _paths(summary)
    yield _line("branches", _counts(_totals(summary["ends"].values())))
    yield _line(
        "nodes", f"{summary['nodes']:,}, {percent(summary['free_nodes'], summary['nodes'])} without a model call"
    )
    yield from _usage(summary)
    if summary["corrections"]:
        text, count = next(iter(summary["corrections"].items()))
        yield _line("corrections", f"most often ({count:,} ×): {text}")


def _paths(summary: Summary) -> Iterator[str]:
    for name, values in (("cost", summary["costs"]), ("steps", summary["steps"])):
        yield _line(name, f"{mean(values):.2f} on average ({_each(values)})")
    decisions, own = summary["decisions"], summary["own_decisions"]
    text = (
        f"{percent(decisions['retrieve'], sum(decisions.values()))} of the decisions on optimal paths are to retrieve"
    )
    if own["of"]:
        text += f"; {percent(own['part'], own['of'])} are the policy's own"
    yield _line("decisions", text)


def _usage(summary: Summary) -> Iterator[str]:
    calls, tokens, seconds = (summary["per_question"][name] for name in ("llm_calls", "tokens", "seconds"))
    yield _line(
        "a question",
        f"{calls['mean']:.1f} model calls (median {calls['median']:g}), {tokens['mean']:,.0f} tokens "
        f"({tokens['median']:,.0f}), {seconds['mean']:.1f} s ({seconds['median']:.1f})",
    )
    usage = summary["usage"]
    yield _line(
        "in all",
        f"{usage['llm_calls']:,} model calls, {usage['retrievals']:,} retrievals, "
        f"{usage['prompt_tokens'] + usage['completion_tokens']:,} tokens, {usage['seconds']:,.1f} s",
    )


def _outcomes(outcomes: Mapping[Outcome, int]) -> str:
    total = sum(outcomes.values())
    return ", ".join(f"{outcomes[name]:,} {name} ({percent(outcomes[name], total)})" for name in OUTCOMES)


def _totals(counts: Iterable[Mapping[NodeOutcome, int]]) -> Counter[NodeOutcome]:
    total: Counter[NodeOutcome] = Counter()
    for found in counts:
        total.update(found)
    return total


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"


def _each(histogram: Mapping[int, int]) -> str:
    return ", ".join(f"{count:,} × {value}" for value, count in histogram.items())


def _line(name: str, text: str) -> str:
    return f"  {name:<13}{text}"
