"""Waiting for a server that is away: when, for how long, and what a person is told."""

import asyncio
import time
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from deeprag_graph.bulk import patience
from deeprag_graph.bulk.patience import Waiting
from deeprag_graph.effects import Parts
from deeprag_graph.errors import (
    AwayError,
    ModelUnavailableError,
    ModelUnreachableError,
    OperatorError,
    PolicyError,
    SearchUnavailableError,
)
from deeprag_graph.explore import ExploreContext
from deeprag_graph.explore.loop import explore_with
from deeprag_graph.policies import Completion, Prompt, ScriptedPolicy
from tests.fake_server import Shelf, follow

AWAY = ModelUnreachableError("No model server answers.")
BUSY = ModelUnavailableError("The model server answered 503.")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.01)


async def test_a_server_that_never_answered_is_the_operators_mistake_at_once() -> None:
    with pytest.raises(ModelUnreachableError):
        await Waiting(lambda _: None).wait("policy", AWAY, 1)


async def test_one_that_has_answered_is_waited_for_and_a_person_is_told_once() -> None:
    said: list[str] = []
    waiting = Waiting(said.append)
    waiting.worked("policy")
    for attempt in range(1, 20):
        assert await waiting.wait("policy", AWAY, attempt)
    waiting.worked("policy")
    waiting.worked("policy")
    assert said[0] == "No model server answers. Waiting for it; everything finished is kept, and Ctrl-C stops."
    assert said[1].startswith("It answers again after ")
    assert len(said) == 2


async def test_one_that_is_still_loading_is_waited_for_from_the_beginning() -> None:
    assert await Waiting(lambda _: None).wait("policy", BUSY, 1)


async def test_there_is_an_end_to_patience_and_it_says_how_to_go_on() -> None:
    waiting = Waiting(lambda _: None, seconds=0.05)
    waiting.worked("policy")
    with pytest.raises(OperatorError, match=r"It has been away for \d+ s; run the same command again to go on\."):
        while True:
            await waiting.wait("policy", AWAY, 1)


async def test_a_call_that_fails_while_others_come_back_is_given_up() -> None:
    waiting = Waiting(lambda _: None)
    tried = 0
    for attempt in range(1, 50):
        waiting.worked("policy")  # another call
        if not await waiting.wait("policy", BUSY, attempt):
            break
        tried = attempt
    assert 3 < tried < 10


async def test_that_one_server_answers_says_nothing_of_another() -> None:
    said: list[str] = []
    waiting = Waiting(said.append, seconds=0.2)
    waiting.worked("target")
    for attempt in range(1, 12):
        waiting.worked("policy")
        assert await waiting.wait("target", AWAY, attempt)
    assert said == ["No model server answers. Waiting for it; everything finished is kept, and Ctrl-C stops."]
    await asyncio.sleep(0.2)
    waiting.worked("policy")
    with pytest.raises(OperatorError, match="It has been away for"):
        await waiting.wait("target", AWAY, 12)


class Flaky(ScriptedPolicy):
    """Follows the format, but for the calls `away`, which raise."""

    def __init__(self, away: dict[int, Exception]) -> None:
        self.calls, self.away = 0, away
        super().__init__(follow("RP"))

    async def acomplete(self, prompt: Prompt) -> Completion:
        self.calls += 1
        if error := self.away.get(self.calls):
            raise error
        return self.complete(prompt)


def search(away: dict[int, Exception], **waits: Any) -> Any:
    parts = Parts(Flaky(away), Shelf(), None, Waiting(lambda _: None, **waits))
    context = ExploreContext(max_seconds=60)
    return asyncio.run(explore_with(parts, "What is it?", ["nothing"], context))


def _comparable(tree: Any) -> Any:
    return {**tree, "usage": {**tree["usage"], "seconds": 0}}


@pytest.mark.parametrize("error", [AWAY, BUSY, ModelUnreachableError("Gone.")])
def test_an_outage_in_the_middle_of_a_search_leaves_no_trace_in_its_tree(error: AwayError) -> None:
    undisturbed = search({})
    assert _comparable(search({2: error, 3: error, 4: error, 7: error})) == _comparable(undisturbed)
    assert undisturbed["outcome"] == "unsolved"


def test_the_time_spent_waiting_is_not_the_searches_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.3)
    began = time.monotonic()
    tree = search({2: AWAY, 3: AWAY})
    assert time.monotonic() - began > 0.6
    assert tree["usage"]["seconds"] < 0.3


class Outage(BaseRetriever):
    """Finds what `Shelf` has, but for the searches `away`."""

    shelf: Shelf = Shelf()
    away: set[int]
    searches: int = 0

    def _get_relevant_documents(self, query: str, *, run_manager: Any, k: int = 3) -> list[Document]:
        self.searches += 1
        if self.searches in self.away:
            raise SearchUnavailableError("There is no Elasticsearch.")
        return self.shelf.invoke(query, k=k)


def test_an_index_and_a_second_model_that_are_away_leave_no_trace_in_the_tree_either() -> None:
    def search_over(shelf: BaseRetriever, target: Flaky) -> Any:
        parts = Parts(Flaky({}), shelf, target, Waiting(said.append))
        tree = asyncio.run(explore_with(parts, "What is it?", ["nothing"], ExploreContext()))
        return {**tree, "usage": {**tree["usage"], "seconds": 0}}

    said: list[str] = []
    undisturbed = search_over(Outage(away=set()), Flaky({}))
    assert said == []
    assert search_over(Outage(away={1, 2, 3}), Flaky({2: AWAY, 3: AWAY})) == undisturbed
    assert [text.split(" Waiting")[0] for text in said if "Waiting" in text] == [
        "No model server answers.",
        "There is no Elasticsearch.",
    ]
    assert sum("It answers again" in text for text in said) == 2


def test_any_other_failure_is_not_waited_for() -> None:
    tree = search({2: PolicyError("The model server answered 400.")})
    assert tree["outcome"] == "failed"
    assert tree["error"] == "The model server answered 400."
