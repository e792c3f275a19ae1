"""What the exploration benchmarks have the bulk driver do: the scripted worlds, over a fake server or in process."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document

from benchmarks.arms import PASSAGE
from benchmarks.worlds import Library, Worlds, numbered
from deeprag_graph.bulk import ExploreJob, PartsChoice
from deeprag_graph.bulk.jobs import ExploreWorker, Say
from deeprag_graph.bulk.patience import Waiting
from deeprag_graph.effects import Parts
from deeprag_graph.explore import ExploreContext
from deeprag_graph.graph import check_parts
from deeprag_graph.parts import ModelChoice
from deeprag_graph.policies.base import Completion, Policy, Prompt
from deeprag_graph.questions import Question


class Shelf(Library):
    """Three passages of a hundred words, each a text of its own; the policy may read the first."""

    fingerprint: str = "shelf"

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        texts = [self.worlds.passage(query), *(f"{query} {n}" for n in range(1, k))]
        return [
            Document(f"{text} {PASSAGE}", id=f"{query} {n}", metadata={"title": "Facts", "score": 1.0})
            for n, text in enumerate(texts)
        ]


class InProcess(Policy):
    """The worlds' policy without a server; each call takes `cpu` seconds of CPU, as a client's would."""

    def __init__(self, worlds: Worlds, cpu: float) -> None:
        self._worlds, self._cpu = worlds, cpu

    def complete(self, prompt: Prompt) -> Completion:
        until = time.thread_time() + self._cpu
        text = prompt.opening + self._worlds.reply(prompt)
        while time.thread_time() < until:
            pass
        return Completion(text, prompt_tokens=500, completion_tokens=len(text.split()))

    async def acomplete(self, prompt: Prompt) -> Completion:
        await asyncio.sleep(0)  # so that the questions under way take turns, as they do with a server
        return self.complete(prompt)


@dataclass(frozen=True)
class WorldChoice(PartsChoice):
    """The worlds' policy and passages: over the server of `policy`, or, with `cpu` seconds a call, in process."""

    questions: int = 0
    cpu: float | None = None

    def open(self, concurrency: int, say: Say) -> Parts:
        worlds = Worlds(numbered(self.questions))
        policy = self.policy.open(parallel=concurrency) if self.cpu is None else InProcess(worlds, self.cpu)
        return check_parts(Parts(policy, Shelf(worlds=worlds), None, Waiting(say, self.wait)))


def over_http(base_url: str, questions: int) -> ExploreJob:
    """Return the job of searching worlds by completions of a fake server."""
    model = ModelChoice("completion", "fake", (base_url,))
    return ExploreJob(WorldChoice(model, questions=questions), ExploreContext())


def in_process(questions: int, cpu: float = 0.0) -> ExploreJob:
    """Return the job of searching worlds by a policy in this process."""
    return ExploreJob(WorldChoice(ModelChoice("completion"), questions=questions, cpu=cpu), ExploreContext())


def opened(job: ExploreJob, at_once: int) -> ExploreWorker:
    """Return the job with its parts open; a server that was away would spoil the figures."""

    def say(text: str) -> None:
        raise RuntimeError(text)

    return job.open(at_once, say)


def asked(questions: int) -> list[Question]:
    """Return the questions of the worlds as the driver takes them."""
    return [Question(id=w.name, question=w.question, answers=[w.answer]) for w in numbered(questions)]
