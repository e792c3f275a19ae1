"""The gold answers: what counts as right, and that nobody but the matching ever sees them."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worlds import World, Worlds
from deeprag_graph.explore import ExploreContext, build_exploration_graph, explore
from deeprag_graph.policies.base import Completion
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import FINAL, FOLLOW_UP
from tests.explore.helpers import GOLD, WAYS, Scribe, context_of, scribes, search, text_of, worlds
from tests.fake_server import Shelf

SECRET = "xq-7741-zv"
calibrations = st.sampled_from(["none", "path", "all"])
modes = st.sampled_from(["exact", "substring", "f1"])


def final(long: str, short: str) -> str:
    return f"{FINAL} <answer long>{long}</answer long><answer short>{short}</answer short>"


def outcome(replies: Sequence[str | Completion], answers: list[str], **settings: Any) -> str:
    """Return how a search over a single path ends."""
    return explore("Which?", answers, ScriptedPolicy(replies), Shelf(), context=ExploreContext(**settings))["outcome"]


@pytest.mark.parametrize(
    ("settings", "right", "wrong"),
    [
        ({}, ["The Red Boat.", "red boat", "BLUE boat!"], ["a small red boat", "red", "boat red"]),
        ({"match": "substring"}, ["the red boat", "a small red boat, I think"], ["red", "reddish boat", "bored boat"]),
        ({"match": "f1"}, ["red boat", "a small red boat"], ["red", "very small red boat", "boat house"]),
        ({"match": "f1", "f1_threshold": 0.5}, ["red", "very small red boat"], ["a house"]),
        ({"match": "f1", "f1_threshold": 1.0}, ["boat, red"], ["small red boat"]),
    ],
    ids=["exact", "substring", "f1", "f1 of a half", "f1 of all"],
)
def test_an_answer_is_right_by_the_chosen_matching_over_all_aliases(
    settings: dict[str, Any], right: list[str], wrong: list[str]
) -> None:
    answers = ["red boat", "blue boat"]
    for prediction in right:
        assert outcome([final("So it is.", prediction)], answers, **settings) == "solved", prediction
    for prediction in wrong:
        assert outcome([final("red boat", prediction)], answers, **settings) == "unsolved", prediction


@pytest.mark.parametrize("match", ["exact", "substring", "f1"])
def test_an_empty_answer_never_matches(match: str) -> None:
    for empty in (FINAL, f"{FINAL} \n", final("", ""), final(" ", "\u200b"), "", "\n"):
        assert outcome([Completion(empty)] * 20, ["", " ", "the"], match=match) == "unsolved", empty
    assert outcome([final("So it is.", "red")], [], match=match) == "unsolved"


def test_it_is_the_short_answer_that_is_compared() -> None:
    assert outcome([final("red boat", "house")], ["red boat"]) == "unsolved"
    assert outcome([final("It is a red boat.", "red boat")], ["red boat"]) == "solved"


def test_an_intermediate_answer_is_not_compared() -> None:
    text = f"{FOLLOW_UP} Which?\nIntermediate answer: red boat\n"
    assert (
        outcome([text + final("So it is.", "house"), f" red boat\n{final('So.', 'house')}"], ["red boat"]) == "unsolved"
    )


# --- nobody sees them ---


def check_secret(policy: ScriptedPolicy, *texts: str) -> None:
    assert policy.prompts
    for prompt in policy.prompts:
        assert SECRET not in repr(prompt)
    for text in texts:
        assert SECRET not in text


@given(scribes(), calibrations, modes)
def test_whatever_a_policy_writes_no_prompt_and_no_tree_holds_a_gold_answer(
    scribe: Scribe, calibrate: Any, match: Any
) -> None:
    policy, context = ScriptedPolicy(scribe), context_of({"max_steps": 4}, calibrate=calibrate, match=match)
    tree = explore("Which?", [SECRET, GOLD], policy, Shelf(), context=context)
    check_secret(policy, text_of(tree))
    graph = build_exploration_graph(policy, Shelf(), context=context)
    events = list(graph.stream({"question": "Which?", "answers": [SECRET, GOLD]}, stream_mode="custom"))
    check_secret(policy, repr(events))


@given(worlds(4), calibrations)
def test_in_a_world_no_prompt_and_no_tree_holds_a_gold_answer(world: World, calibrate: Any) -> None:
    known = Worlds([world])
    policy, context = ScriptedPolicy(known.reply), context_of({}, calibrate=calibrate)
    tree = explore(world.question, [world.answer, SECRET], policy, known.retriever(), context=context)
    check_secret(policy, text_of(tree))


@given(scribes(), st.lists(st.sampled_from([SECRET, "the moor", "a lake", ""]), max_size=2))
def test_the_gold_answers_change_nothing_but_what_is_right(scribe: Scribe, answers: list[str]) -> None:
    """Where everything is explored, the tree is the same for all gold answers but for the verdicts."""
    context = context_of({"max_steps": 3}, calibrate="all")
    trees = [explore("Which?", gold, ScriptedPolicy(scribe), Shelf(), context=context) for gold in (answers, [GOLD])]
    blind = [[{**n, "outcome": n["outcome"] in ("right", "wrong") or n["outcome"]} for n in t["nodes"]] for t in trees]
    assert blind[0] == blind[1]


@pytest.mark.parametrize("way", WAYS)
def test_every_alias_counts_every_way(way: str) -> None:
    tree = search(way, "Which?", ["nothing", "red boat"], ScriptedPolicy([final("So.", "the Red Boat")]))
    assert (tree["outcome"], tree["cost"]) == ("solved", 0)
