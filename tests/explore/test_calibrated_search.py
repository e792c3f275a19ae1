"""A search that goes on after the first right path, to learn what the other decisions lead to."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worlds import World, Worlds
from deeprag_graph.explore import Tree, explore
from deeprag_graph.explore.search import deviations
from deeprag_graph.explore.tree import within
from deeprag_graph.policies.base import Policy
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import Decision
from tests.explore.forks import GOLD, QUESTION, End, Fork, Guide, least_cost, leaves, trees
from tests.explore.helpers import GOLD as MARSH
from tests.explore.helpers import Scribe, context_of, decisions, scribes, timeless, worlds
from tests.fake_server import Shelf

DECISIONS: tuple[Decision, Decision] = ("parametric", "retrieve")
within_bounds = st.tuples(st.integers(1, 5), st.integers(0, 4))


def search(policy: Policy, calibrate: str, max_steps: int, max_retrievals: int, gold: str = GOLD) -> Tree:
    context = context_of({"max_steps": max_steps, "max_retrievals": max_retrievals}, calibrate=calibrate)
    return explore(QUESTION, [gold], policy, Shelf(), context=context)


def tries(tree: Tree, root: Fork | End, max_steps: int, max_retrievals: int) -> None:
    """Check that each deviation is searched to its least-cost right path, or to the end, and no further."""
    for node, other in deviations(tree):
        below, way = list(within(tree, node["id"], other)), (*decisions(tree, node), other)
        if way.count("retrieve") > max_retrievals:
            assert below == []
            continue
        found = list(leaves(root, max_steps, max_retrievals, way))
        right = [n["cost"] for n in below if n["outcome"] == "right"]
        least = least_cost(found)
        if least is None:
            assert right == []
            ends = {decisions(tree, n) for n in below if n["outcome"] != "inner"}
            assert ends == {leaf.decisions for leaf in found}
        else:
            assert right == [least]
            assert below[-1]["outcome"] == "right"
            assert all(n["cost"] <= least for n in below)


@given(trees, within_bounds)
def test_each_deviation_from_the_optimal_path_is_searched_until_right_or_exhausted(
    root: Fork | End, bounds: tuple[int, int]
) -> None:
    plain = search(ScriptedPolicy(Guide(root).reply), "none", *bounds)
    tree = search(ScriptedPolicy(Guide(root).reply), "path", *bounds)
    if plain["best"] == -1:
        assert timeless(tree) == timeless(plain)
        return
    tries(tree, root, *bounds)
    under = {n["id"] for node, other in deviations(tree) for n in within(tree, node["id"], other)}
    optimal = {*range(len(plain["nodes"]))}
    assert under | optimal == {node["id"] for node in tree["nodes"]}


@given(worlds(5), st.integers(0, 5))
def test_in_a_world_the_other_decisions_cost_what_they_cost(world: World, max_retrievals: int) -> None:
    known = Worlds([world])
    context = context_of({"max_retrievals": max_retrievals}, calibrate="path")
    tree = explore(world.question, [world.answer], ScriptedPolicy(known.reply), known.retriever(), context=context)
    assert tree["cost"] == world.least_cost(max_retrievals)
    if tree["best"] == -1:
        return
    assert len(deviations(tree)) == len(world.facts)
    for node, other in deviations(tree):
        way = (*decisions(tree, node), other)
        right = [n["cost"] for n in within(tree, node["id"], other) if n["outcome"] == "right"]
        paths = product(DECISIONS, repeat=len(world.facts))
        costs = [path.count("retrieve") for path in paths if path[: len(way)] == way and world.right(path)]
        assert right == [cost for cost in [min(costs, default=99)] if cost <= max_retrievals]


@given(trees, within_bounds)
def test_all_computes_every_path_within_the_bounds(root: Fork | End, bounds: tuple[int, int]) -> None:
    policy = ScriptedPolicy(Guide(root).reply)
    tree = search(policy, "all", *bounds)
    found = list(leaves(root, *bounds))
    ends = {decisions(tree, n): n["outcome"] == "right" for n in tree["nodes"] if n["outcome"] != "inner"}
    assert ends == {leaf.decisions: leaf.right for leaf in found}
    assert not any(node["open"] for node in tree["nodes"])
    assert (tree["cost"], tree["best"] != -1) == (least_cost(found), any(leaf.right for leaf in found))
    assert len(policy.prompts) == tree["usage"]["llm_calls"] == sum(node["llm_calls"] for node in tree["nodes"])


@pytest.mark.parametrize("calibrate", ["path", "all"])
@given(scribe=scribes(), bounds=within_bounds)
def test_the_optimal_path_is_the_one_found_without_calibration(
    calibrate: str, scribe: Scribe, bounds: tuple[int, int]
) -> None:
    """The search goes on where it would have ended: what was computed until then stays as it was."""
    plain = search(ScriptedPolicy(scribe), "none", *bounds, gold=MARSH)
    tree = search(ScriptedPolicy(scribe), calibrate, *bounds, gold=MARSH)
    for name in ("outcome", "stop_reason", "cost", "best", "error"):
        assert tree[name] == plain[name]
    begun = [{**node, "open": []} for node in plain["nodes"]]
    assert [{**node, "open": []} for node in tree["nodes"][: len(begun)]] == begun
    assert tree["passages"][: len(plain["passages"])] == plain["passages"]


def test_a_path_without_a_subquery_has_nothing_to_deviate_from() -> None:
    tree = search(ScriptedPolicy(Guide(End(True)).reply), "path", 5, 5)
    assert (tree["outcome"], tree["cost"], len(tree["nodes"]), deviations(tree)) == ("solved", 0, 1, [])
