"""Two policies that share a search: the target writes what comes from parameters, the other one everything else."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worlds import Fact, World, Worlds
from deeprag_graph.explore import Tree, explore
from deeprag_graph.policies.base import Completion, Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import ANSWER, FINAL, FOLLOW_UP, STOP
from tests.explore.forks import GOLD, QUESTION, End, Fork, Guide, least_cost, leaves, trees
from tests.explore.helpers import GOLD as MARSH
from tests.explore.helpers import WAYS, Scribe, bounds, context_of, scribes, search, timeless
from tests.fake_server import Shelf

calibrations = st.sampled_from(["none", "path", "all"])


def check_shares(tree: Tree, policy: ScriptedPolicy, target: ScriptedPolicy) -> None:
    """Check who was asked for what, and that all calls are counted."""
    assert tree["usage"]["llm_calls"] == len(policy.prompts) + len(target.prompts)
    for prompt in target.prompts:
        step = prompt.trajectory["steps"][-1]
        assert (step["decision"], step["answer"], prompt.opening) == ("parametric", None, ANSWER)
        assert set(prompt.stop) == {*STOP, FOLLOW_UP, FINAL}  # what comes after is for the other to write
    for prompt in policy.prompts:
        steps = prompt.trajectory["steps"]
        assert not steps or steps[-1]["answer"] is not None or steps[-1]["decision"] == "retrieve"
        assert set(prompt.stop) == {*STOP, ANSWER}
    asked = [node for node in tree["nodes"] if node["action"] == "parametric"]
    assert len(target.prompts) == len(asked)


@given(trees, bounds, calibrations)
def test_the_target_writes_the_answers_from_parameters_and_the_path_is_still_the_cheapest(
    root: Fork | End, bounds: dict[str, Any], calibrate: Any
) -> None:
    policy = ScriptedPolicy(Guide(root, "the policy by heart", "the policy looked up").reply)
    target = ScriptedPolicy(Guide(root, "the target by heart", "the target looked up").reply)
    context = context_of(bounds, calibrate=calibrate)
    tree = explore(QUESTION, [GOLD], policy, Shelf(), target=target, context=context)
    written = {"": "", "parametric": "the target by heart", "retrieve": "the policy looked up"}
    assert all(node["answer"] == written[node["action"]] for node in tree["nodes"])
    assert not any(node["corrections"] for node in tree["nodes"])
    check_shares(tree, policy, target)
    assert tree["cost"] == least_cost(list(leaves(root, bounds["max_steps"], bounds["max_retrievals"])))


class Signed:
    """A scribe whose words can be told from another's: it signs each subquery, each answer and each final answer."""

    def __init__(self, scribe: Scribe, name: str) -> None:
        self.scribe, self.name = scribe, name

    def __call__(self, prompt: Prompt) -> Completion:
        completion, text = self.scribe(prompt), self.scribe(prompt).text
        for word in ("Which", "lake", "hill", "mill", "brook", "marsh", "moor", "Well"):
            text = text.replace(word, f"{word}-{self.name}")
        return Completion(text, completion.cut)


@given(scribes(), scribes(), bounds)
def test_whatever_both_write_nothing_of_one_stands_in_the_others_place(
    one: Scribe, other: Scribe, bounds: dict[str, Any]
) -> None:
    policy, target = ScriptedPolicy(Signed(one, "policy")), ScriptedPolicy(Signed(other, "target"))
    context = context_of(bounds, calibrate="all")
    tree = explore("Who?", [MARSH], policy, Shelf(), target=target, context=context)
    check_shares(tree, policy, target)
    for node in tree["nodes"]:
        by_target = node["answer"] if node["action"] == "parametric" else ""
        by_policy = [node["subquery"], *node["final"].values(), "" if by_target else node["answer"]]
        assert "policy" not in by_target
        assert not any("target" in str(text) for text in by_policy)


@given(scribes(), scribes(), bounds, calibrations)
def test_two_policies_give_the_same_tree_every_way(
    one: Scribe, other: Scribe, bounds: dict[str, Any], calibrate: Any
) -> None:
    context, found = context_of(bounds, calibrate=calibrate), []
    for way in WAYS:
        policy, target = ScriptedPolicy(one), ScriptedPolicy(other)
        found.append(timeless(search(way, "Who?", [MARSH], policy, target=target, context=context)))
        check_shares(found[-1], policy, target)
    assert found == [found[0]] * len(WAYS)


def test_where_the_target_knows_less_the_search_retrieves_more() -> None:
    """The cost of a question is the target's, though the policy would know the answer."""
    world = World("w", (Fact(True, True), Fact(True, True)))
    ignorant = World("w", (Fact(True, True), Fact(False, True)))
    policy, target = ScriptedPolicy(Worlds([world]).reply), ScriptedPolicy(Worlds([ignorant]).reply)
    library = Worlds([world]).retriever()
    assert explore(world.question, [world.answer], policy, library)["cost"] == 0
    tree = explore(world.question, [world.answer], policy, library, target=target)
    assert tree["cost"] == ignorant.least_cost() == 1


def test_an_answer_looked_up_takes_one_call_and_one_by_heart_two() -> None:
    """The policy's own decision, and what it wrote after it, are noted and not used."""
    world = World("w", (Fact(True, False), Fact(False, False)))
    known = Worlds([world])
    policy, target = ScriptedPolicy(known.reply), ScriptedPolicy(known.reply)
    tree = explore(world.question, [world.answer], policy, known.retriever(), target=target)
    calls = {node["action"]: node["llm_calls"] for node in tree["nodes"]}
    assert calls == {"": 1, "parametric": 2, "retrieve": 1}
    assert [node["llm_calls"] for node in tree["nodes"]] == [calls[node["action"]] for node in tree["nodes"]]


def test_what_the_policy_would_do_is_noted_where_it_does_not_heed_the_stop_string() -> None:
    def reply(prompt: Prompt) -> str:
        if prompt.trajectory["steps"]:
            return f"{FINAL} {MARSH}" if not prompt.opening else f" a hill\n{FINAL} the moor"
        return f"{FOLLOW_UP} Which?\n{ANSWER} a lake\n{FINAL} {MARSH}"

    target = ScriptedPolicy([f" a mill\n{FINAL} the moor"])
    tree = explore("Who?", [MARSH], ScriptedPolicy(reply), Shelf(), target=target)
    first, last = tree["nodes"]
    assert first["written"] == "parametric"
    assert (last["answer"], last["final"]["short"], last["outcome"]) == ("a mill", MARSH, "right")
