"""The bounds of a search: none is ever exceeded, and the search says which one ended it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worlds import Fact, World, Worlds
from deeprag_graph.errors import PolicyError
from deeprag_graph.explore import ExploreContext, Tree, aexplore, build_exploration_graph, explore
from deeprag_graph.explore.tree import SEARCH_STOPS
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from tests.explore.helpers import GOLD, WAYS, Scribe, context_of, scribes, search
from tests.fake_server import Shelf

WORLD = World("w", (Fact(False, False),) * 4)  # no right path, and each of 31 nodes but the root takes a call


class Watched(ScriptedPolicy):
    """Notes the tokens that were spent before each call, and the tokens that it was allowed."""

    def __init__(self, reply: Callable[[Prompt], Completion]) -> None:
        super().__init__(reply)
        self.spent = [0]

    def complete(self, prompt: Prompt) -> Completion:
        completion = super().complete(prompt)
        self.spent.append(self.spent[-1] + completion.prompt_tokens + completion.completion_tokens)
        return completion


spending = st.fixed_dictionaries(
    {
        "max_steps": st.integers(1, 5),
        "max_retrievals": st.integers(0, 4),
        "max_llm_calls": st.integers(1, 16),
        "max_tokens": st.integers(1, 800),
        "calibrate": st.sampled_from(["none", "path", "all"]),
    }
)


def check_bounds(tree: Tree, policy: Watched, limits: dict[str, Any]) -> None:
    usage, nodes = tree["usage"], tree["nodes"]
    assert tree["stop_reason"] in SEARCH_STOPS
    assert usage["llm_calls"] == len(policy.prompts) <= limits["max_llm_calls"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == policy.spent[-1]
    for prompt, spent in zip(policy.prompts, policy.spent, strict=False):
        assert spent < limits["max_tokens"]
        assert prompt.max_tokens <= limits["max_tokens"] - spent
    for node in nodes:
        assert node["depth"] <= limits["max_steps"]
        assert node["cost"] <= limits["max_retrievals"]
        assert not node["subquery"] or node["depth"] < limits["max_steps"]
    if tree["stop_reason"] == "max_llm_calls":
        assert usage["llm_calls"] >= limits["max_llm_calls"] - 1  # the last one is for a conclusion alone
    if tree["stop_reason"] == "max_tokens":
        assert policy.spent[-1] >= limits["max_tokens"]
    if tree["stop_reason"] in ("exhausted", "max_steps", "max_retrievals"):
        assert not any(node["open"] for node in nodes)
    if tree["stop_reason"] == "solved":
        assert nodes[tree["best"]]["outcome"] == "right"
    else:
        assert tree["best"] == -1
        assert not any(node["outcome"] == "right" for node in nodes)


@given(scribes(), spending)
def test_whatever_a_policy_writes_no_bound_is_exceeded(scribe: Scribe, limits: dict[str, Any]) -> None:
    policy = Watched(scribe)
    check_bounds(explore("Which?", [GOLD], policy, Shelf(), context=ExploreContext(**limits)), policy, limits)


@given(scribes(), spending, st.integers(5, 60))
def test_nor_is_langgraphs_own_limit(scribe: Scribe, limits: dict[str, Any], recursion_limit: int) -> None:
    policy = Watched(scribe)
    graph = build_exploration_graph(policy, Shelf(), context=ExploreContext(**limits))
    output: Any = graph.invoke({"question": "Which?", "answers": [GOLD]}, {"recursion_limit": recursion_limit})
    check_bounds(output["tree"], policy, limits)


@given(scribes(), spending)
def test_what_a_bound_cuts_off_is_the_end_of_the_same_search(scribe: Scribe, limits: dict[str, Any]) -> None:
    """A search that a bound ends is the beginning of the one that has no bound."""
    whole_limits = {**limits, "max_llm_calls": 10_000, "max_tokens": 10**9}
    cut, whole = (
        explore("Which?", [GOLD], ScriptedPolicy(scribe), Shelf(), context=ExploreContext(**settings))
        for settings in (limits, whole_limits)
    )
    if cut["stop_reason"] in ("max_llm_calls", "max_tokens"):
        assert any(node["open"] for node in cut["nodes"]) or not cut["nodes"]
    begun = [{**node, "open": []} for node in cut["nodes"]]
    assert begun == [{**node, "open": []} for node in whole["nodes"][: len(begun)]]


def slow(prompt: Prompt) -> str:
    time.sleep(0.05)
    return Worlds([WORLD]).reply(prompt)


ENDS: dict[str, tuple[Callable[[Prompt], str | Exception], dict[str, Any]]] = {
    "solved": (lambda prompt: Worlds([WORLD]).reply(prompt).replace("error 4", WORLD.answer), {}),
    "exhausted": (Worlds([WORLD]).reply, {}),
    "max_steps": (Worlds([WORLD]).reply, {"max_steps": 3}),
    "max_retrievals": (Worlds([WORLD]).reply, {"max_retrievals": 2}),
    "max_llm_calls": (Worlds([WORLD]).reply, {"max_llm_calls": 9}),
    "max_tokens": (Worlds([WORLD]).reply, {"max_tokens": 99}),
    "max_seconds": (slow, {"max_seconds": 0.2}),
    "failed": (lambda _: PolicyError("down"), {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reason", set(SEARCH_STOPS) - {"recursion_limit"})  # that one is of the graph alone
def test_every_bound_has_its_own_reason(reason: str, way: str) -> None:
    reply, limits = ENDS[reason]
    library = Worlds([WORLD]).retriever()
    tree = search(way, WORLD.question, [WORLD.answer], ScriptedPolicy(reply), library, context=ExploreContext(**limits))
    assert tree["stop_reason"] == reason
    assert tree["outcome"] == (reason if reason in ("solved", "failed") else "unsolved")
    all_tried = not any(node["open"] for node in tree["nodes"])
    assert all_tried == (reason in ("exhausted", "max_steps", "max_retrievals", "failed"))


@pytest.mark.parametrize("limit", range(1, 12))
def test_the_last_call_is_kept_for_a_conclusion(limit: int) -> None:
    policy = ScriptedPolicy(Worlds([WORLD]).reply)
    context = ExploreContext(max_llm_calls=limit)
    tree = explore(WORLD.question, [WORLD.answer], policy, Worlds([WORLD]).retriever(), context=context)
    assert tree["stop_reason"] == "max_llm_calls"
    assert len(policy.prompts) == limit - 1


def test_a_conclusion_may_take_the_last_call() -> None:
    context = ExploreContext(max_llm_calls=2, max_steps=1)
    policy = ScriptedPolicy(["Follow up: Which?\nIntermediate answer: one\n", " the marsh"])
    tree = explore("Which?", [GOLD], policy, Shelf(), context=context)
    assert (tree["outcome"], tree["usage"]["llm_calls"]) == ("solved", 2)
    assert tree["nodes"][-1]["stop_reason"] == "max_steps"


def test_a_path_that_leaves_the_format_with_the_last_token_has_left_the_format() -> None:
    """What is written already needs no tokens: the search goes on to the right path."""
    replies = [
        Completion("Follow up: Which?\nIntermediate answer: one\nFollow up: What?\nIntermediate answer: two\n"),
        Completion("Well.", completion_tokens=50),
        Completion("Well.", completion_tokens=50),
    ]
    tree = explore("Which?", [GOLD], ScriptedPolicy(replies), Shelf(), context=ExploreContext(max_tokens=100))
    assert [node["outcome"] for node in tree["nodes"]] == ["inner", "inner", "malformed"]
    assert tree["stop_reason"] == "max_tokens"


def test_what_is_written_already_is_explored_though_no_call_is_left() -> None:
    """A bound forbids calls, not paths that cost none."""
    text = "Follow up: Which?\nIntermediate answer: one\nSo the final answer is: the marsh"
    tree = explore("Which?", [GOLD], ScriptedPolicy([text]), Shelf(), context=ExploreContext(max_llm_calls=2))
    assert (tree["outcome"], tree["usage"]["llm_calls"]) == ("solved", 1)
    spent = ScriptedPolicy([Completion(text, completion_tokens=7)])
    tree = explore("Which?", [GOLD], spent, Shelf(), context=ExploreContext(max_tokens=7))
    assert tree["outcome"] == "solved"


def test_a_spent_bound_leaves_a_search_that_calibrates_solved() -> None:
    world = World("w", (Fact(True, True),) * 3)
    known, context = Worlds([world]), ExploreContext(calibrate="all", max_llm_calls=4)
    tree = explore(world.question, [world.answer], ScriptedPolicy(known.reply), known.retriever(), context=context)
    assert (tree["outcome"], tree["stop_reason"], tree["cost"]) == ("solved", "solved", 0)
    assert tree["usage"]["llm_calls"] == 3
    assert any(node["open"] for node in tree["nodes"])


async def test_a_call_that_outlasts_the_time_bound_is_given_up() -> None:
    class Hanging(ScriptedPolicy):
        async def acomplete(self, prompt: Prompt) -> Completion:
            if prompt.trajectory["steps"]:
                await asyncio.sleep(60)
            return self.complete(prompt)

    policy, shelf = Hanging(Worlds([WORLD]).reply), Worlds([WORLD]).retriever()
    began = time.monotonic()
    tree = await aexplore(WORLD.question, [WORLD.answer], policy, shelf, context=context_of({}, max_seconds=0.3))
    assert (tree["outcome"], tree["stop_reason"], tree["error"]) == ("unsolved", "max_seconds", "")
    assert time.monotonic() - began < 30
    assert len(tree["nodes"]) == 1


def test_the_time_of_a_search_is_counted() -> None:
    tree = explore(WORLD.question, [WORLD.answer], ScriptedPolicy(slow), Worlds([WORLD]).retriever())
    assert tree["usage"]["seconds"] >= 0.05 * tree["usage"]["llm_calls"]
