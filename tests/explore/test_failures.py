"""Calls and retrievals that fail: the search goes on, and never calls a path the cheapest that may not be."""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.errors import OperatorError, PolicyError, RetrievalError
from deeprag_graph.explore import Tree, aexplore, explore, trajectory
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import NO_PASSAGES, render
from tests.explore.forks import GOLD, QUESTION, End, Fork, Guide, Leaf, least_cost, leaves, reason, trees
from tests.explore.helpers import WAYS, Found, context_of, decisions, search, timeless
from tests.fake_server import Shelf

DOWN = PolicyError("The server is on fire.")
# right by the passages alone, wrong by heart
LOOK_UP = Fork(End(False), End(True), "parametric")


def check_failures(tree: Tree, found: list[Leaf], root: Fork | End, max_retrievals: int) -> None:
    least, failed = least_cost(found), [node for node in tree["nodes"] if node["outcome"] == "failed"]
    if tree["outcome"] == "solved":
        assert tree["cost"] == least
        assert all(node["cost"] >= tree["cost"] for node in failed if tree["cost"] is not None)
        assert tree["error"] == ""
    elif tree["outcome"] == "failed":
        assert tree["stop_reason"] == "failed"
        assert tree["error"] in [node["error"] for node in failed]
        assert tree["cost"] is None or any(node["cost"] < tree["cost"] for node in failed)
    else:
        assert (failed, least, tree["error"]) == ([], None, "")
        assert tree["stop_reason"] == reason(root, found, max_retrievals)
    for node in failed:
        assert node["error"]
        assert (node["open"], node["subquery"]) == ([], "")
    if tree["best"] == -1:  # it went on: whatever it did not get to lies under a branch that failed
        ends = [decisions(tree, node) for node in tree["nodes"] if node["outcome"] != "inner"]
        lost = [decisions(tree, node) for node in failed]
        for leaf in found:
            assert leaf.decisions in ends or any(leaf.decisions[: len(way)] == way for way in lost)


def both(policy: Callable[[], ScriptedPolicy], shelf: Any, **bounds: int) -> Tree:
    """Search sync and async, and return the tree, which is the same."""
    context = context_of(bounds)
    tree = explore(QUESTION, [GOLD], policy(), shelf, context=context)
    assert timeless(asyncio.run(aexplore(QUESTION, [GOLD], policy(), shelf, context=context))) == timeless(tree)
    return tree


@given(trees, st.integers(1, 5), st.integers(0, 4), st.integers(0, 3))
def test_whichever_calls_fail_no_path_is_called_the_cheapest_that_may_not_be(
    root: Fork | End, max_steps: int, max_retrievals: int, unlucky: int
) -> None:
    guide = Guide(root)

    def reply(prompt: Prompt) -> Completion | Exception:
        fails = zlib.crc32(render(prompt.trajectory, prompt.lead).encode()) % 4 == unlucky
        return DOWN if fails else guide.reply(prompt)

    tree = both(lambda: ScriptedPolicy(reply), Shelf(), max_steps=max_steps, max_retrievals=max_retrievals)
    check_failures(tree, list(leaves(root, max_steps, max_retrievals)), root, max_retrievals)


@given(trees, st.integers(1, 5), st.integers(0, 4), st.integers(0, 2))
def test_whichever_retrievals_fail_no_path_is_called_the_cheapest_that_may_not_be(
    root: Fork | End, max_steps: int, max_retrievals: int, unlucky: int
) -> None:
    def answer(query: str) -> Any:
        return RetrievalError("The index is damaged.") if zlib.crc32(query.encode()) % 3 == unlucky else []

    policies = [ScriptedPolicy(Guide(root).reply) for _ in range(2)]
    unused = iter(policies)
    tree = both(lambda: next(unused), Found(answer=answer), max_steps=max_steps, max_retrievals=max_retrievals)
    check_failures(tree, list(leaves(root, max_steps, max_retrievals)), root, max_retrievals)
    asked = [answer(step["subquery"]) for p in policies for step in _retrieved(p)]
    assert not any(asked)  # nobody was told that an index which failed has nothing
    for node in tree["nodes"]:
        if node["outcome"] == "failed":
            assert (node["action"], node["stop_reason"], node["llm_calls"]) == ("retrieve", "retrieval_failed", 0)
            assert trajectory(tree, node["id"])["steps"][-1]["answer"] is None


def _retrieved(policy: ScriptedPolicy) -> list[Any]:
    steps = [step for prompt in policy.prompts for step in prompt.trajectory["steps"]]
    return [step for step in steps if step["passages"] == [] and step["decision"] == "retrieve"]


def test_an_index_that_has_nothing_is_no_failure() -> None:
    policy = ScriptedPolicy(Guide(LOOK_UP).reply)
    tree = explore(QUESTION, [GOLD], policy, Found(answer=lambda _: []))
    assert (tree["outcome"], tree["cost"]) == ("solved", 1)
    assert NO_PASSAGES in render(policy.prompts[-1].trajectory)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("failure", "error"),
    [(DOWN, "The server is on fire."), (RuntimeError("a bug"), "RuntimeError: a bug"), (KeyError(7), "KeyError: 7")],
)
def test_a_failed_call_is_the_end_of_its_branch_alone(way: str, failure: Exception, error: str) -> None:
    guide = Guide(LOOK_UP)

    def reply(prompt: Prompt) -> Completion | Exception:
        steps = prompt.trajectory["steps"]
        return failure if steps and steps[-1]["decision"] == "retrieve" else guide.reply(prompt)

    tree = search(way, QUESTION, [GOLD], ScriptedPolicy(reply))
    assert [(node["outcome"], node["error"]) for node in tree["nodes"]] == [
        ("inner", ""),
        ("wrong", ""),
        ("failed", error),
    ]
    assert (tree["outcome"], tree["stop_reason"], tree["error"]) == ("failed", "failed", error)
    assert (tree["nodes"][2]["stop_reason"], len(tree["nodes"][2]["passages"])) == ("policy_failed", 3)
    assert (tree["cost"], tree["best"]) == (None, -1)


def fails_by_heart(right: Fork | End) -> Callable[[Prompt], Completion | Exception]:
    """Return a policy whose call fails that answers the first subquery by heart; looked up, the path goes on."""
    guide = Guide(Fork(End(True), right, "retrieve"))

    def reply(prompt: Prompt) -> Completion | Exception:
        steps = prompt.trajectory["steps"]
        return DOWN if [step["decision"] for step in steps] == ["parametric"] else guide.reply(prompt)

    return reply


def test_a_right_path_beside_a_cheaper_branch_that_failed_does_not_count() -> None:
    tree = explore(QUESTION, [GOLD], ScriptedPolicy(fails_by_heart(End(True))), Shelf())
    assert [node["outcome"] for node in tree["nodes"]] == ["inner", "failed", "right"]
    assert (tree["outcome"], tree["stop_reason"], tree["error"]) == ("failed", "failed", str(DOWN))
    assert tree["cost"] == 1  # it is there, but a cheaper one may be under the branch that failed


def test_a_right_path_beside_a_branch_that_failed_and_costs_as_much_counts() -> None:
    guide = Guide(Fork(Fork(End(False), End(False)), Fork(End(True), End(False)), "parametric"))

    def reply(prompt: Prompt) -> Completion | Exception:
        ways = [step["decision"] for step in prompt.trajectory["steps"]]
        return DOWN if ways == ["parametric", "retrieve"] else guide.reply(prompt)

    tree = explore(QUESTION, [GOLD], ScriptedPolicy(reply), Shelf())
    assert {node["outcome"] for node in tree["nodes"]} == {"inner", "wrong", "failed", "right"}
    assert (tree["outcome"], tree["stop_reason"], tree["cost"], tree["error"]) == ("solved", "solved", 1, "")


def test_a_conclusion_that_fails_is_a_failed_branch() -> None:
    guide = Guide(Fork(Fork(End(False), End(False)), End(False), "parametric"))

    def reply(prompt: Prompt) -> Completion | Exception:
        return DOWN if prompt.lead else guide.reply(prompt)

    tree = explore(QUESTION, [GOLD], ScriptedPolicy(reply), Shelf(), context=context_of({"max_steps": 1}))
    assert [node["outcome"] for node in tree["nodes"]] == ["inner", "failed", "wrong"]
    assert (tree["nodes"][1]["stop_reason"], tree["nodes"][1]["error"]) == ("max_steps", str(DOWN))
    assert tree["outcome"] == "failed"


# --- what ends a search at once ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_what_only_the_operator_can_mend_is_raised(way: str, calls: int) -> None:
    guide, asked = Guide(Fork(LOOK_UP, LOOK_UP)), iter(range(10))

    def reply(prompt: Prompt) -> Completion | Exception:
        return OperatorError("There is no server.") if next(asked) == calls else guide.reply(prompt)

    with pytest.raises(OperatorError, match="There is no server"):
        search(way, QUESTION, [GOLD], ScriptedPolicy(reply))


@pytest.mark.parametrize("way", WAYS)
def test_an_index_that_only_the_operator_can_mend_is_raised(way: str) -> None:
    shelf = Found(answer=lambda _: OperatorError("There is no index."))
    with pytest.raises(OperatorError, match="There is no index"):
        search(way, QUESTION, [GOLD], ScriptedPolicy(Guide(LOOK_UP).reply), shelf)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("question", "error"),
    [
        ("", "The question is empty: ask something."),
        (" \n\u200b", "The question is empty: ask something."),
        ("why " * 2_000, "The question has 7,999 characters; ask in at most 4,000."),
    ],
    ids=["empty", "invisible", "too long"],
)
def test_a_question_that_cannot_be_asked_has_failed_and_costs_nothing(way: str, question: str, error: str) -> None:
    policy = ScriptedPolicy([])
    tree = search(way, question, [GOLD], policy)
    assert (tree["outcome"], tree["stop_reason"], tree["error"]) == ("failed", "failed", error)
    assert [(n["outcome"], n["stop_reason"]) for n in tree["nodes"]] == [("failed", "invalid_question")]
    assert (policy.prompts, tree["usage"]["llm_calls"], tree["cost"]) == ([], 0, None)
