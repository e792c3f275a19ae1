"""Scripted worlds to search in: chains of facts that a policy knows or not, and passages that help or mislead.

In a world the least cost of a right path can be computed without any search, so that what a search finds can be held
against it. `paper_world` draws questions as in the comparison with the released code of the paper: hops from 1, 2, 2,
2, 3, 3, 4; each fact is known with probability 0.45, and else believed wrongly; its passage is right with 0.7, and else
misleads; after a wrong answer every later one is wrong; left alone, the policy retrieves what it does not know.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.policies.base import Prompt
from deeprag_graph.transcript import ANSWER, FINAL, FOLLOW_UP, RETRIEVE, Decision

_HOPS = (1, 2, 2, 2, 3, 3, 4)


@dataclass(frozen=True)
class Fact:
    """One hop: is it known, does its passage have it, and does either way lead back from a wrong answer before it?"""

    known: bool
    passage: bool
    parametric_recovers: bool = False
    retrieve_recovers: bool = False

    def right(self, decision: Decision, so_far: bool) -> bool:
        """Whether the answer to this hop is right, given whether the one before it was."""
        if decision == "parametric":
            return self.known if so_far else self.parametric_recovers
        return self.passage if so_far else self.retrieve_recovers


@dataclass(frozen=True)
class World:
    """A question of as many hops as there are facts; the name stands in the question and in every subquery."""

    name: str
    facts: tuple[Fact, ...]

    @property
    def question(self) -> str:
        """The question."""
        return f"What stands at the end of the chain <{self.name}>?".replace("<", "‹").replace(">", "›")

    @property
    def answer(self) -> str:
        """The gold answer."""
        return f"value {len(self.facts)}"

    def right(self, decisions: Sequence[Decision]) -> bool:
        """Whether these decisions, one a hop, end in the right answer."""
        so_far = True
        for fact, decision in zip(self.facts, decisions, strict=True):
            so_far = fact.right(decision, so_far)
        return so_far

    def least_cost(self, max_retrievals: int | None = None) -> int | None:
        """Return the retrievals of the cheapest right path by trying them all, or None where none is right."""
        paths: Iterator[tuple[Decision, ...]] = product(("parametric", "retrieve"), repeat=len(self.facts))
        costs = [path.count("retrieve") for path in paths if self.right(path)]
        within = [cost for cost in costs if max_retrievals is None or cost <= max_retrievals]
        return min(within, default=None)


def paper_world(questions: int, seed: int = 0) -> list[World]:
    """Return the questions of the world that the released search was measured in."""
    draw = random.Random(seed)
    return [
        World(
            f"q{n}",
            tuple(Fact(draw.random() < 0.45, draw.random() < 0.7) for _ in range(draw.choice(_HOPS))),
        )
        for n in range(questions)
    ]


def numbered(questions: int, seed: int = 0) -> list[World]:
    """Return the same questions with names that are all as long, 0000 to 9999."""
    return [replace(world, name=f"{n:04}") for n, world in enumerate(paper_world(questions, seed))]


class Worlds:
    """Many worlds behind one policy function (for `ScriptedPolicy`, or a server) and one retriever."""

    def __init__(self, worlds: Sequence[World]) -> None:
        self.by_name: Mapping[str, World] = {world.name: world for world in worlds}

    def reply(self, prompt: Prompt) -> str:
        """Go on with the transcript up to the end, or to where a stop string of the prompt would end it."""
        trajectory = prompt.trajectory
        world = self._world(trajectory["question"])
        if prompt.lead == FINAL:
            return _final("made to conclude", lead=False)
        steps = trajectory["steps"]
        lines: list[str] = []
        done = [s for s in steps if s["answer"] is not None]
        so_far = not done or (done[-1]["answer"] or "").startswith("value")
        if len(done) < len(steps):
            step, fact = steps[-1], world.facts[len(done)]
            if step["decision"] is None and not (prompt.opening or fact.known):
                return f"{RETRIEVE}\n"
            so_far = fact.right("retrieve" if step["passages"] else "parametric", so_far)
            lines.append(f"{'' if prompt.opening else ANSWER} {_answer(len(done) + 1, so_far)}")
        lines += _run_on(world, len(steps), so_far)
        text = "\n".join(lines) + "\n"
        return text[: min((at for stop in prompt.stop if (at := text.find(stop)) >= 0), default=len(text))]

    def _world(self, text: str) -> World:
        found = re.search("‹(.+?)›", text)
        assert found is not None
        return self.by_name[found.group(1)]

    def retriever(self) -> "Library":
        """Return a retriever that knows the passage of every fact."""
        return Library(worlds=self)

    def passage(self, query: str) -> str:
        """Return the passage for a subquery."""
        world, hop = self._world(query), int(re.findall(r"fact (\d+)", query)[0])
        fact = world.facts[hop - 1]
        return f"On fact {hop} of ‹{world.name}›: {_answer(hop, fact.passage)}, or so it is said."


class Library(BaseRetriever):
    """Finds the passage of the fact that a subquery asks for."""

    worlds: Any
    fingerprint: str = "worlds"

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        return [Document(self.worlds.passage(query), id=query, metadata={"title": "Facts", "score": 1.0})]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        return self._get_relevant_documents(query, run_manager=run_manager, k=k)


def _run_on(world: World, done: int, so_far: bool) -> Iterator[str]:
    """Yield the lines after `done` hops, to the first decision to retrieve or to the end."""
    for hop, fact in enumerate(world.facts[done:], done + 1):
        yield f"{FOLLOW_UP} What is fact {hop} of ‹{world.name}› after {_answer(hop - 1, so_far)}?"
        if not fact.known:
            yield RETRIEVE
            return
        so_far = fact.right("parametric", so_far)
        yield f"{ANSWER} {_answer(hop, so_far)}"
    yield _final(_answer(len(world.facts), so_far))


def _answer(hop: int, right: bool) -> str:
    return f"{'value' if right else 'error'} {hop}"


def _final(short: str, *, lead: bool = True) -> str:
    text = f" <answer long>It is {short}.</answer long><answer short>{short}</answer short>"
    return f"{FINAL}{text}" if lead else text
