"""The search finds the least-cost right path whenever one is within its bounds, and computes no more than it needs."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from benchmarks.worlds import World, Worlds, paper_world
from deeprag_graph.explore import Tree, explore, path
from deeprag_graph.explore.tree import SearchStop
from deeprag_graph.policies.base import Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import FINAL, FOLLOW_UP, render
from tests.explore.forks import GOLD, QUESTION, End, Fork, Guide, least_cost, leaves, reason, trees
from tests.explore.helpers import Found, bounds, context_of, decisions, worlds
from tests.fake_server import Shelf


def check_result(tree: Tree, cost: int | None, stop: SearchStop) -> None:
    assert tree["cost"] == cost
    assert tree["stop_reason"] == stop
    assert tree["outcome"] == ("unsolved" if cost is None else "solved")
    assert tree["error"] == ""
    assert (tree["best"] == -1) == (cost is None)
    if cost is not None:
        best = tree["nodes"][tree["best"]]
        assert (best["outcome"], best["cost"], best["final"]["short"] != "") == ("right", cost, True)


def check_order(tree: Tree) -> None:
    """Check that nothing was computed twice, nothing dearer before something cheaper, and nothing for nothing."""
    nodes = tree["nodes"]
    assert [node["id"] for node in nodes] == list(range(len(nodes)))
    costs = [node["cost"] for node in nodes]
    assert costs == sorted(costs)
    tried = [(node["parent"], node["action"]) for node in nodes]
    assert len(set(tried)) == len(tried)
    if tree["best"] != -1:
        assert nodes[-1]["id"] == tree["best"]
    for node in nodes[1:]:
        parent = nodes[node["parent"]]
        assert node["depth"] == parent["depth"] + 1
        assert node["cost"] == parent["cost"] + (node["action"] == "retrieve")


def check_calls(tree: Tree, policy: ScriptedPolicy) -> None:
    """Check that the usage is what the policy really got, and that it was never asked the same twice."""
    assert tree["usage"]["llm_calls"] == len(policy.prompts) == sum(node["llm_calls"] for node in tree["nodes"])
    asked = [render(prompt.trajectory, prompt.lead) for prompt in policy.prompts]
    assert len(set(asked)) == len(asked)


@given(worlds(), bounds)
def test_in_any_world_the_least_cost_right_path_is_found(world: World, bounds: dict[str, int]) -> None:
    policy, library = ScriptedPolicy(Worlds([world]).reply), Worlds([world]).retriever()
    tree = explore(world.question, [world.answer], policy, library, context=context_of(bounds))
    hops = len(world.facts)
    cost = None if hops > bounds["max_steps"] else world.least_cost(bounds["max_retrievals"])
    stop: SearchStop = "solved"
    if cost is None and hops > bounds["max_steps"]:
        stop = "max_steps"
    elif cost is None:
        stop = "max_retrievals" if hops > bounds["max_retrievals"] else "exhausted"
    check_result(tree, cost, stop)
    check_order(tree)
    check_calls(tree, policy)
    if cost is not None:
        assert world.right(decisions(tree, tree["nodes"][tree["best"]]))


@given(trees, st.integers(1, 6), st.integers(0, 5))
def test_where_paths_fork_as_they_like_the_least_cost_right_one_is_found(
    root: Fork | End, max_steps: int, max_retrievals: int
) -> None:
    found = list(leaves(root, max_steps, max_retrievals))
    policy = ScriptedPolicy(Guide(root).reply)
    context = context_of({"max_steps": max_steps, "max_retrievals": max_retrievals})
    tree = explore(QUESTION, [GOLD], policy, Shelf(), context=context)
    check_result(tree, least_cost(found), reason(root, found, max_retrievals))
    check_order(tree)
    check_calls(tree, policy)
    ends = {decisions(tree, node) for node in tree["nodes"] if node["outcome"] != "inner"}
    assert ends <= {leaf.decisions for leaf in found}
    if least_cost(found) is None:
        assert ends == {leaf.decisions for leaf in found}


@given(worlds(5), st.integers(1, 6))
def test_of_two_decisions_that_cost_the_same_the_deepest_and_then_the_oldest_is_tried_first(
    world: World, max_steps: int
) -> None:
    known, context = Worlds([world]), context_of({"max_steps": max_steps})
    tree = explore(world.question, ["nowhere"], ScriptedPolicy(known.reply), known.retriever(), context=context)
    frontier: list[tuple[int, int, int, str]] = []
    for node in tree["nodes"]:
        if node["action"]:
            parent = tree["nodes"][node["parent"]]
            entry = (node["cost"], -parent["depth"], parent["id"], node["action"])
            assert entry == min(frontier)
            frontier.remove(entry)
        for action in ("parametric", "retrieve") if node["subquery"] else ():
            frontier.append((node["cost"] + (action == "retrieve"), -node["depth"], node["id"], action))
    assert frontier == []


def test_of_2000_questions_every_least_cost_path_is_found_in_8_6_calls_a_question() -> None:
    questions = paper_world(2_000)
    worlds = Worlds(questions)
    policy, library = ScriptedPolicy(worlds.reply), worlds.retriever()
    shelf = Found(answer=library.invoke)  # has no fingerprint: nothing is cached
    trees = [explore(world.question, [world.answer], policy, shelf) for world in questions]
    assert [tree["cost"] for tree in trees] == [world.least_cost() for world in questions]
    assert 0.65 < sum(tree["outcome"] == "solved" for tree in trees) / 2_000 < 0.69  # the world's, not the search's
    assert sum(tree["usage"]["llm_calls"] for tree in trees) == len(policy.prompts) <= 8.6 * 2_000
    assert sum(tree["usage"]["retrievals"] for tree in trees) == len(shelf.asked)
    for tree in trees:
        check_order(tree)


def test_a_question_that_the_policy_gets_right_without_searching_costs_one_call() -> None:
    world = paper_world(400)
    known = [w for w in world if all(fact.known for fact in w.facts)]
    assert len(known) > 20
    policy = ScriptedPolicy(Worlds(known).reply)
    for w in known:
        tree = explore(w.question, [w.answer], policy, Worlds(known).retriever())
        assert (tree["cost"], tree["usage"]["llm_calls"], tree["usage"]["retrievals"]) == (0, 1, 0)
        assert len(path(tree, tree["best"])) == len(w.facts) + 1


def test_a_retrieval_that_was_made_before_counts_and_does_not_reach_the_retriever_again() -> None:
    def reply(prompt: Prompt) -> str:
        answered = " a fact\n" if prompt.opening else ""
        asked = len(prompt.trajectory["steps"])
        return answered + (f"{FOLLOW_UP} What is fact {asked + 1}?\n" if asked < 2 else f"{FINAL} so")

    queries = [f"What is fact {n}?" for n in (1, 2, 2)]
    for mark, asked in ((None, queries), ("a shelf", queries[:2])):  # fact 2 comes up after either decision on fact 1
        shelf = Found(answer=lambda _: [Document("A fact.")], metadata={"fingerprint": mark})
        tree = explore("What are the facts?", ["gold"], ScriptedPolicy(reply), shelf)
        assert (tree["usage"]["retrievals"], sorted(shelf.asked)) == (3, asked)
        assert [node["passages"] for node in tree["nodes"] if node["action"] == "retrieve"] == [["#0"]] * 3
