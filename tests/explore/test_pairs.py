"""Labels and preference pairs of Stage II, held against all decision sequences of scripted worlds."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from benchmarks.worlds import Fact, Library, World, Worlds
from deeprag_graph.explore import ExploreContext, Tree, children, explore, path, trajectory
from deeprag_graph.explore.calibration import Label, Pair, label, pairs, prefix
from deeprag_graph.explore.search import Calibration
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import ANSWER, RETRIEVE, Decision, parse, render

DECISIONS: tuple[Decision, Decision] = ("parametric", "retrieve")
WRONG = Label("wrong", None, least=True)
UNKNOWN = Label("unknown", None, least=False)

facts = st.builds(Fact, st.booleans(), st.booleans(), st.booleans(), st.booleans())
worlds = st.builds(World, st.just("w"), st.lists(facts, min_size=1, max_size=4).map(tuple))


def search(world: World, calibrate: Calibration, library: Library | None = None, **bounds: int) -> Tree:
    known = Worlds([world])
    context = ExploreContext(calibrate=calibrate, **bounds)
    policy = ScriptedPolicy(known.reply)
    return explore(world.question, [world.answer], policy, library or known.retriever(), context=context)


def decisions_to(tree: Tree, node: int) -> tuple[Decision, ...]:
    return tuple(n["action"] for n in path(tree, node) if n["action"])


def brute_force(world: World, decisions: tuple[Decision, ...], max_retrievals: int) -> Label:
    """Try every way to go on after the decisions."""
    ways = [decisions + rest for rest in product(DECISIONS, repeat=len(world.facts) - len(decisions))]
    costs = [way.count("retrieve") for way in ways if world.right(way)]
    least = min((cost for cost in costs if cost <= max_retrievals), default=None)
    return WRONG if least is None else Label("right", least, least=True)


def asking(tree: Tree) -> list[int]:
    return [node["id"] for node in tree["nodes"] if node["subquery"]]


@given(worlds, st.integers(0, 4))
def test_a_tree_that_is_fully_explored_labels_every_decision_as_brute_force_does(world: World, bound: int) -> None:
    tree = search(world, "all", max_retrievals=bound)
    for node in asking(tree):
        for action in DECISIONS:
            expected = brute_force(world, (*decisions_to(tree, node), action), bound)
            assert label(tree, node, action) == expected


@given(worlds, st.sampled_from(["none", "path", "all"]), st.integers(0, 4), st.integers(1, 12))
def test_what_a_label_says_is_so_however_little_was_explored(
    world: World, calibrate: Calibration, bound: int, calls: int
) -> None:
    tree = search(world, calibrate, max_retrievals=bound, max_llm_calls=calls)
    for node in asking(tree):
        for action in DECISIONS:
            found = label(tree, node, action)
            truth = brute_force(world, (*decisions_to(tree, node), action), bound)
            assert found in (truth, UNKNOWN)


@given(worlds, st.integers(0, 4))
def test_a_search_that_calibrates_the_path_labels_all_that_its_pairs_compare(world: World, bound: int) -> None:
    tree = search(world, "path", max_retrievals=bound)
    for pair in pairs(tree, "path"):
        before = decisions_to(tree, pair.node)
        assert pair.chosen_label == brute_force(world, (*before, pair.chosen), bound)
        assert pair.rejected_label == brute_force(world, (*before, pair.rejected), bound)
        assert pair.chosen_label.cost == tree["cost"]


@given(worlds, st.sampled_from(["none", "path", "all"]))
def test_the_path_gives_a_pair_at_each_of_its_subqueries_and_never_prefers_the_worse(
    world: World, calibrate: Calibration
) -> None:
    tree = search(world, calibrate)
    found = pairs(tree, "path")
    assert [pair.depth for pair in found] == list(range(len(world.facts) if tree["outcome"] == "solved" else 0))
    for pair in found:
        assert (pair.chosen, pair.rejected) in (DECISIONS, DECISIONS[::-1])
        rejected = pair.rejected_label.cost
        assert rejected is None or rejected >= (tree["cost"] or 0)
    if found:
        assert tuple(pair.chosen for pair in found) == decisions_to(tree, tree["best"])


@given(worlds, st.integers(0, 4))
def test_all_nodes_give_a_pair_exactly_where_one_decision_is_better(world: World, bound: int) -> None:
    tree = search(world, "all", max_retrievals=bound)
    expected: list[Pair] = []
    for node in asking(tree) if tree["outcome"] == "solved" else []:
        before = decisions_to(tree, node)
        for chosen, rejected in (DECISIONS[::-1], DECISIONS):
            one, other = (brute_force(world, (*before, action), bound) for action in (chosen, rejected))
            if one.cost is not None and (other.cost is None or one.cost < other.cost):
                expected.append(Pair(node, len(before), chosen, rejected, one, other))
    assert pairs(tree, "all") == expected


@given(worlds, st.sampled_from(["none", "path"]), st.integers(1, 12))
def test_no_pair_of_all_nodes_is_false_where_the_search_was_cut_short(
    world: World, calibrate: Calibration, calls: int
) -> None:
    tree = search(world, calibrate, max_llm_calls=calls)
    whole = search(world, "all")
    proven = {(decisions_to(whole, p.node), p.chosen) for p in pairs(whole, "all")}
    assert {(decisions_to(tree, p.node), p.chosen) for p in pairs(tree, "all")} <= proven


@given(worlds)
def test_the_prefix_of_a_pair_is_where_both_its_transcripts_begin(world: World) -> None:
    tree = search(world, "all")
    for pair in (*pairs(tree, "path"), *pairs(tree, "all")):
        before = prefix(tree, pair.node)
        text = render(before)
        assert text.endswith(f"{tree['nodes'][pair.node]['subquery']}\n")
        assert render(parse(text, before["question"])) == text
        for action, child in children(tree, pair.node).items():
            marker = RETRIEVE if action == "retrieve" else ANSWER
            assert render(trajectory(tree, child["id"])).startswith(text + marker)


def test_a_node_that_asks_nothing_has_no_labels_and_no_prefix() -> None:
    tree = search(World("w", (Fact(True, True),)), "none")
    with pytest.raises(ValueError, match="asks nothing"):
        label(tree, tree["best"], "retrieve")
    with pytest.raises(ValueError, match="subquery"):
        prefix(tree, tree["best"])


def test_a_decision_that_was_not_tried_is_unknown() -> None:
    tree = search(World("w", (Fact(True, True), Fact(True, True))), "none")
    assert pairs(tree, "path") == [
        Pair(node, node, "parametric", "retrieve", Label("right", 0, least=True), UNKNOWN) for node in (0, 1)
    ]
    assert pairs(tree, "all") == []


def test_a_tie_is_a_pair_of_the_path_with_equal_labels_and_none_of_all_nodes() -> None:
    tree = search(World("w", (Fact(False, True), Fact(True, True, retrieve_recovers=True))), "all")
    first = pairs(tree, "path")[0]
    assert (first.chosen_label, first.rejected_label) == (Label("right", 1, True), Label("right", 1, True))
    assert all(pair.node != first.node for pair in pairs(tree, "all"))


def test_of_two_right_decisions_the_cheaper_is_chosen_at_all_nodes() -> None:
    tree = search(World("w", (Fact(True, True), Fact(False, True))), "all")
    assert pairs(tree, "all")[0] == Pair(
        0, 0, "parametric", "retrieve", Label("right", 1, least=True), Label("right", 2, least=True)
    )


class BrokenLibrary(Library):
    """Fails for one hop."""

    broken: str

    def _get_relevant_documents(self, query: str, *, run_manager: object, k: int = 3) -> list[Document]:
        if self.broken in query:
            raise OSError("the index is gone")
        return super()._get_relevant_documents(query, run_manager=run_manager, k=k)


def test_a_failed_branch_leaves_unknown_what_no_right_path_answers() -> None:
    world = World("w", (Fact(True, True), Fact(True, True)))
    library = BrokenLibrary(worlds=Worlds([world]), broken="fact 2")
    tree = search(world, "all", library)
    assert tree["outcome"] == "solved"
    retrieved = children(tree, 0)["retrieve"]["id"]
    assert label(tree, 0, "retrieve") == Label("right", 1, least=True)
    assert label(tree, retrieved, "retrieve") == UNKNOWN
    assert [pair.node for pair in pairs(tree, "all")] == [0]


def test_a_right_path_beside_a_cheaper_failed_branch_may_not_be_the_least() -> None:
    world = World("w", (Fact(True, True), Fact(True, True)))
    tree = search(world, "all")
    for node in tree["nodes"]:
        if decisions_to(tree, node["id"]) == ("retrieve", "parametric"):
            node["outcome"] = "failed"
    assert label(tree, 0, "retrieve") == Label("right", 2, least=False)
    assert all(pair.node != 0 for pair in pairs(tree, "all"))


def test_failed_and_unsolved_searches_give_no_pairs() -> None:
    failed = search(World("w", (Fact(True, True),)), "all") | {"outcome": "failed"}
    unsolved = search(World("w", (Fact(False, False),)), "all")
    assert unsolved["outcome"] == "unsolved"
    for tree in (failed, unsolved):
        assert pairs(tree, "path") == pairs(tree, "all") == []
