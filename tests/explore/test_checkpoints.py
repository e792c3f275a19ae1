"""Searches that are kept: killed in the middle they go on, and a thread's next question begins anew."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.worlds import Fact, World, Worlds
from deeprag_graph.errors import OperatorError
from deeprag_graph.explore import ExploreContext, Tree, build_exploration_graph, explore
from deeprag_graph.explore.graph import ExploreInput
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from tests.explore.forks import GOLD, QUESTION, Fork, Guide, trees
from tests.explore.helpers import Found, timeless
from tests.fake_server import Shelf

THREAD: Any = {"configurable": {"thread_id": "1"}}
WORLD = World("w", (Fact(False, True), Fact(False, True), Fact(True, False)))
OTHER = World("other", (Fact(True, True), Fact(False, True)))
KNOWN, BOTH = Worlds([WORLD]), Worlds([WORLD, OTHER])
ASKED: Any = ExploreInput(question=WORLD.question, answers=[WORLD.answer])
WHOLE = timeless(explore(WORLD.question, [WORLD.answer], ScriptedPolicy(KNOWN.reply), KNOWN.retriever()))
CALLS = WHOLE["usage"]["llm_calls"]
NO_SERVER = OperatorError("There is no server.")


class Killed(ScriptedPolicy):
    """Raises at one call, counted from 1; goes on at the next."""

    def __init__(self, reply: Callable[[Prompt], str | Completion], call: int, by: BaseException = NO_SERVER) -> None:
        super().__init__(reply)
        self.call, self.by = call, by

    def complete(self, prompt: Prompt) -> Completion:
        completion = super().complete(prompt)
        if len(self.prompts) == self.call:
            raise self.by
        return completion


def run(mode: str, graph: Any, given: Any) -> Tree:
    output: Any = graph.invoke(given, THREAD) if mode == "sync" else asyncio.run(graph.ainvoke(given, THREAD))
    return timeless(output["tree"])


def killed(mode: str, policy: Killed) -> Any:
    """Return a graph with a thread on which a search was killed."""
    graph = build_exploration_graph(policy, BOTH.retriever(), checkpointer=InMemorySaver())
    with pytest.raises(type(policy.by)):
        run(mode, graph, ASKED)
    return graph


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_search_that_was_killed_goes_on_to_the_same_tree_and_repeats_one_call(mode: str, call: int) -> None:
    policy = Killed(KNOWN.reply, call)
    graph = killed(mode, policy)
    assert run(mode, graph, None) == WHOLE
    assert len(policy.prompts) == CALLS + 1


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_search_that_was_interrupted_goes_on_to_the_same_tree(call: int) -> None:
    policy = Killed(KNOWN.reply, call, KeyboardInterrupt())
    graph = killed("sync", policy)
    assert run("sync", graph, None) == WHOLE
    assert len(policy.prompts) == CALLS + 1


@given(trees, st.integers(1, 20), st.sampled_from(["none", "path", "all"]))
def test_wherever_a_search_is_killed_it_goes_on_to_the_same_tree(root: Fork, call: int, calibrate: Any) -> None:
    guide, context = Guide(root), ExploreContext(calibrate=calibrate)
    whole = timeless(explore(QUESTION, [GOLD], ScriptedPolicy(guide.reply), Shelf(), context=context))
    policy = Killed(guide.reply, call)
    graph = build_exploration_graph(policy, Shelf(), context=context, checkpointer=InMemorySaver())
    given: Any = ExploreInput(question=QUESTION, answers=[GOLD])
    try:
        tree = run("sync", graph, given)
    except OperatorError:
        tree = run("sync", graph, None)
    assert tree == whole
    assert len(policy.prompts) <= whole["usage"]["llm_calls"] + 1


def test_a_search_that_was_killed_in_a_retrieval_goes_on_to_the_same_tree(mode: str) -> None:
    library, failures = KNOWN.retriever(), iter([None, NO_SERVER])
    shelf = Found(answer=lambda query: next(failures, None) or library.invoke(query))
    policy = ScriptedPolicy(KNOWN.reply)
    graph = build_exploration_graph(policy, shelf, checkpointer=InMemorySaver())
    with pytest.raises(OperatorError):
        run(mode, graph, ASKED)
    assert run(mode, graph, None) == WHOLE
    assert (len(policy.prompts), len(shelf.asked)) == (CALLS, WHOLE["usage"]["retrievals"] + 1)


def test_a_search_goes_on_in_a_graph_built_anew_over_the_same_database(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite")
    file = str(tmp_path / "checkpoints.sqlite")
    calls = 0
    for call in (2, 3, 1, 0):  # killed again and again, and at the first call
        policy = Killed(KNOWN.reply, call)
        with sqlite.SqliteSaver.from_conn_string(file) as saver:
            graph = build_exploration_graph(policy, KNOWN.retriever(), checkpointer=saver)
            if call:
                with pytest.raises(OperatorError):
                    graph.invoke(None if calls else ASKED, THREAD)
            else:
                assert run("sync", graph, None) == WHOLE
        calls += len(policy.prompts)
    assert calls == CALLS + 3


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_a_question_after_a_search_that_was_killed_begins_anew(mode: str, call: int) -> None:
    other: Any = ExploreInput(question=OTHER.question, answers=[OTHER.answer])
    fresh = explore(OTHER.question, [OTHER.answer], ScriptedPolicy(BOTH.reply), BOTH.retriever())
    graph = killed(mode, Killed(BOTH.reply, call))
    assert run(mode, graph, other) == timeless(fresh)
    assert run(mode, graph, ASKED) == WHOLE


@pytest.mark.parametrize("call", [1, 2, 5, CALLS])
@pytest.mark.parametrize("answers", [[WORLD.answer], ["error 3"], ["nothing"]], ids=["same", "other", "none right"])
def test_the_same_question_after_a_search_that_was_killed_begins_anew(mode: str, call: int, answers: list[str]) -> None:
    """Not with half of the branch that was killed, nor with the gold answers that were given then."""
    fresh = timeless(explore(WORLD.question, answers, ScriptedPolicy(KNOWN.reply), KNOWN.retriever()))
    for question in (WORLD.question, f" {WORLD.question}\n"):
        graph = killed(mode, Killed(KNOWN.reply, call))
        assert run(mode, graph, ExploreInput(question=question, answers=answers)) == fresh


def test_each_question_of_a_thread_is_a_search_of_its_own(mode: str) -> None:
    policy = ScriptedPolicy(BOTH.reply)
    graph = build_exploration_graph(policy, BOTH.retriever(), checkpointer=InMemorySaver())
    other: Any = ExploreInput(question=OTHER.question, answers=[OTHER.answer])
    found = [run(mode, graph, given) for given in (ASKED, ASKED, other, ASKED)]
    assert found[0] == found[1] == found[3] == WHOLE
    assert (found[2]["question"], found[2]["cost"]) == (OTHER.question, 1)
    assert len(policy.prompts) == 3 * CALLS + found[2]["usage"]["llm_calls"]


def test_a_search_can_be_taken_up_again_from_each_of_its_checkpoints() -> None:
    graph: Any = build_exploration_graph(ScriptedPolicy(KNOWN.reply), KNOWN.retriever(), checkpointer=InMemorySaver())
    run("sync", graph, ASKED)
    history = [snapshot for snapshot in graph.get_state_history(THREAD) if snapshot.next]
    assert len(history) > 60
    assert all(timeless(graph.invoke(None, snapshot.config)["tree"]) == WHOLE for snapshot in history)


STRICT = """
from langgraph.checkpoint.memory import InMemorySaver
from tests.explore.test_checkpoints import ASKED, CALLS, KNOWN, THREAD, WHOLE, Killed, run
from deeprag_graph.errors import OperatorError
from deeprag_graph.explore import build_exploration_graph
graph = build_exploration_graph(Killed(KNOWN.reply, CALLS - 1), KNOWN.retriever(), checkpointer=InMemorySaver())
try:
    run("sync", graph, ASKED)
except OperatorError:
    print(run("sync", graph, None) == WHOLE)
"""


def test_a_strict_serializer_reads_every_checkpoint_without_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRICT],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "True\n")
