"""What is done with each question of a file: answer it, or explore it; in words that travel to other processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from deeprag_graph.bulk.patience import WAIT_SECONDS, Waiting
from deeprag_graph.effects import Parts
from deeprag_graph.errors import RetrievalError
from deeprag_graph.explore.gold import GoldRetriever, gold_passages
from deeprag_graph.explore.loop import explore_with
from deeprag_graph.explore.search import ExploreContext, begin, fail
from deeprag_graph.explore.tree import Tree
from deeprag_graph.graph import check_parts, compile_graph
from deeprag_graph.ledger import Record, make_record
from deeprag_graph.parts import ModelChoice, make_retriever
from deeprag_graph.policies.base import Policy
from deeprag_graph.questions import Question
from deeprag_graph.search import PassageCache, fingerprint
from deeprag_graph.state import Context, Output, Usage, no_usage

Row = Mapping[str, Any]
Say = Callable[[str], None]


class Worker(Protocol):
    """A job with its parts open: works on many questions at once, in one event loop."""

    @property
    def job(self) -> "Job":
        """The job, to be opened in other processes as well."""

    async def work(self, question: Question) -> Row:
        """Return the row of a question. Raises `OperatorError` for what only a person can mend."""

    def failed(self, question: Question, reason: str) -> Row:
        """Return the row of a question that nothing could be done with."""


class Job(Protocol):
    """A picklable description of the work; every process opens it for itself."""

    @property
    def choice(self) -> "PartsChoice":
        """The model and the passages."""

    def open(self, concurrency: int, say: Say) -> Worker:
        """Open model and passages for `concurrency` questions at once; `say` is told of servers that are away.

        Raises `OperatorError`.
        """


@dataclass(frozen=True)
class PartsChoice:
    """The model that writes, the passages, and, for two that share the work, the model that answers from parameters.

    `wait` is how many seconds a server may be away before a run gives up.
    """

    policy: ModelChoice
    index: str | None = None
    target: ModelChoice | None = None
    wait: float = WAIT_SECONDS

    def open(self, concurrency: int, say: Say) -> Parts:
        """Open them. Raises `OperatorError`."""
        retriever = make_retriever(self.index, parallel=concurrency)
        target = self.target.open(parallel=concurrency) if self.target else None
        policy = self.policy.open(parallel=concurrency)
        return check_parts(Parts(policy, retriever, target, Waiting(say, self.wait)))


@dataclass(frozen=True)
class AskJob:
    """Answer each question."""

    choice: PartsChoice
    context: Context

    def open(self, concurrency: int, say: Say) -> "AskWorker":
        """Open model and passages."""
        return AskWorker(self, self.choice.open(concurrency, say))


class AskWorker:
    """Answers questions; a row is the output without what only a process can hold."""

    def __init__(self, job: AskJob, parts: Parts) -> None:
        self.job = job
        self._graph = compile_graph(parts, job.context, Context, store=PassageCache())

    async def work(self, question: Question) -> Row:
        """Return the answer to a question."""
        return answer_row(cast(Output, await self._graph.ainvoke({"question": question["question"]})))

    def failed(self, question: Question, reason: str) -> Row:
        """Return a row without an answer."""
        ended = {"answer": "", "answer_long": "", "stop_reason": "policy_failed", "error": reason}
        return {"question": question["question"], **ended, "steps": [], "corrections": [], "usage": no_usage()}


def answer_row(output: Output) -> Row:
    """Return what `deeprag ask --json` prints of an answer."""
    keys = ("question", "answer", "answer_long", "stop_reason", "error", "steps", "corrections", "usage")
    return {key: output[key] for key in keys}  # type: ignore[literal-required]


@dataclass(frozen=True)
class ExploreJob:
    """Search the least-cost right path of each question.

    `retry_with_gold`: where a search over the index stays without a right path, search once more with retrievals that
    bring the gold passages first; the tree says so.
    """

    choice: PartsChoice
    context: ExploreContext
    retry_with_gold: bool = False

    def open(self, concurrency: int, say: Say) -> "ExploreWorker":
        """Open model and passages."""
        return ExploreWorker(self, self.choice.open(concurrency, say))


class ExploreWorker:
    """Explores questions; a row is a line of the ledger, and `settings` are those that the ledger is kept under."""

    def __init__(self, job: ExploreJob, parts: Parts) -> None:
        self.job, self._parts = job, parts
        self.settings: dict[str, Any] = {
            "policy": _described(parts.policy),
            "target": _described(parts.target) if parts.target else "",
            "index": fingerprint(parts.retriever),
            "passages": parts.policy.passages,
            "retry_with_gold": job.retry_with_gold,
            "context": _bounds(job.context),
        }

    async def work(self, question: Question) -> Record:
        """Return the tree of a question."""
        asked, answers = question["question"], question["answers"]
        tree = await explore_with(self._parts, asked, answers, self.job.context)
        if self.job.retry_with_gold and tree["outcome"] == "unsolved":
            tree = await self._again(tree, question)
        return make_record(question, tree, self.settings)

    async def _again(self, first: Tree, question: Question) -> Tree:
        """Search with the gold passages, and return what has come of both searches."""
        try:
            gold = await gold_passages(question, self._parts)
        except RetrievalError as error:
            return fail(first, str(error))
        if not gold:
            return first
        parts = self._parts._replace(retriever=GoldRetriever(retriever=self._parts.retriever, gold=gold))
        asked, answers = question["question"], question["answers"]
        return _both(first, await explore_with(parts, asked, answers, self.job.context, gold_passages=True))

    def failed(self, question: Question, reason: str) -> Record:
        """Return a record of a search that came to nothing."""
        tree = begin(question["question"].strip(), question["answers"])["tree"]
        return make_record(question, fail(tree, reason), self.settings)


def _described(policy: Policy) -> str:
    """Return what tells the policy from any that would write other texts."""
    return f"{policy.kind} {policy.name}".strip()


def _bounds(context: ExploreContext) -> dict[str, Any]:
    """Return the settings that make a difference to a search."""
    unused = {"decision", "approve_retrievals", *(["f1_threshold"] if context.match != "f1" else [])}
    return context.model_dump(mode="json", exclude=unused)


def _both(first: Tree, again: Tree) -> Tree:
    """Return the tree of the second search if it has found something, at the cost of both."""
    tree = again if again["outcome"] == "solved" else first
    spent = {key: first["usage"][key] + again["usage"][key] for key in first["usage"]}  # type: ignore[literal-required]
    return Tree(**{**tree, "usage": cast(Usage, spent)})
