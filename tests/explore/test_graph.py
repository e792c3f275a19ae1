"""The exploration graph: one tree whichever way a search is run, its events, LangGraph's own limit, its drawing."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.retrievers import BaseRetriever
from langgraph.store.memory import InMemoryStore

from benchmarks.worlds import Fact, World, Worlds
from deeprag_graph.errors import OperatorError
from deeprag_graph.explore import ExploreContext, Tree, build_exploration_graph, explore
from deeprag_graph.explore.graph import ExploreInput
from deeprag_graph.nodes import NODES
from deeprag_graph.policies.base import Policy
from deeprag_graph.policies.scripted import ScriptedPolicy
from tests.explore.forks import GOLD as WELL
from tests.explore.forks import QUESTION, Fork, Guide, leaves, reason, trees
from tests.explore.helpers import GOLD, WAYS, Found, Scribe, bounds, context_of, scribes, search, timeless, worlds
from tests.fake_server import Shelf

calibrations = st.sampled_from(["none", "path", "all"])
LONG = World("long", (Fact(False, False),) * 3)  # 15 nodes, none of them right


def all_ways(
    question: str, answers: list[str], policy: Any, retriever: BaseRetriever | None, context: ExploreContext
) -> Tree:
    """Return the tree of a search, after comparing all ways to run it; `policy` makes a new one."""
    found = {way: timeless(search(way, question, answers, policy(), retriever, context=context)) for way in WAYS}
    for tree in found.values():
        assert tree == found["explore"]
    return found["explore"]


@given(worlds(4), bounds, calibrations)
def test_a_search_in_a_world_gives_the_same_tree_every_way(
    world: World, bounds: dict[str, Any], calibrate: Any
) -> None:
    known = Worlds([world])
    context = context_of(bounds, calibrate=calibrate)
    all_ways(world.question, [world.answer], lambda: ScriptedPolicy(known.reply), known.retriever(), context)


@given(trees, bounds, calibrations)
def test_a_search_where_paths_fork_gives_the_same_tree_every_way(
    root: Fork, bounds: dict[str, Any], calibrate: Any
) -> None:
    context = context_of(bounds, calibrate=calibrate)
    tree = all_ways(QUESTION, [WELL], lambda: ScriptedPolicy(Guide(root).reply), None, context)
    within = bounds["max_steps"], bounds["max_retrievals"]
    assert tree["stop_reason"] == reason(root, list(leaves(root, *within)), bounds["max_retrievals"])


@given(scribes(), bounds, calibrations, st.integers(1, 12), st.integers(1, 1_000))
def test_whatever_a_policy_writes_the_tree_is_the_same_every_way(
    scribe: Scribe, bounds: dict[str, Any], calibrate: Any, max_llm_calls: int, max_tokens: int
) -> None:
    spending = {"max_llm_calls": max_llm_calls, "max_tokens": max_tokens}
    context = ExploreContext(**bounds, **spending, calibrate=calibrate)
    all_ways("Which?", [GOLD], lambda: ScriptedPolicy(scribe), None, context)


# --- input ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answers", [None, "a value"], ids=["no answers", "a single string"])
def test_answers_that_are_no_list_are_the_operators_mistake(way: str, answers: Any) -> None:
    policy = ScriptedPolicy([])
    with pytest.raises(OperatorError, match="a list of the gold answer and its aliases"):
        if way in ("explore", "aexplore"):
            search(way, "Which?", answers, policy)
        else:
            given: Any = {"question": "Which?"} | ({"answers": answers} if answers else {})
            build_exploration_graph(policy, Shelf()).invoke(given)
    assert policy.prompts == []


def test_a_part_of_another_kind_is_the_operators_mistake() -> None:
    some: Any = object()
    for parts in ((some, Shelf()), (ScriptedPolicy([]), some), (ScriptedPolicy([]), Shelf(), some)):
        policy, retriever, target = (*parts, None)[:3]
        with pytest.raises(OperatorError, match="is of type object"):
            build_exploration_graph(policy, retriever, target=target)
        with pytest.raises(OperatorError, match="is of type object"):
            explore("Which?", [], policy, retriever, target=target)


# --- stores ---


@pytest.mark.parametrize("way", ["explore", "graph"])
def test_a_store_keeps_retrievals_for_other_searches(way: str) -> None:
    library = Worlds([LONG])
    shelf = Found(answer=library.retriever().invoke, metadata={"fingerprint": "worlds"})
    store, policy = InMemoryStore(), ScriptedPolicy(library.reply)
    found = []
    for _ in range(2):
        if way == "explore":
            found.append(explore(LONG.question, [LONG.answer], policy, shelf, store=store))
        else:
            found.append(build_exploration_graph(policy, shelf, store=store).invoke(ASKED)["tree"])
    assert timeless(found[0]) == timeless(found[1])
    assert found[0]["usage"]["retrievals"] == 7
    assert len(shelf.asked) == len(set(shelf.asked)) == 3  # one for each fact: after a wrong answer all are wrong


# --- events ---


def events_of(graph: Any, question: str, answers: list[str], mode: str, **settings: Any) -> tuple[list[Any], Tree]:
    given = ExploreInput(question=question, answers=answers)
    kinds = ["custom", "values"]
    if mode == "sync":
        parts = list(graph.stream(given, stream_mode=kinds, **settings))
    else:

        async def collect() -> list[Any]:
            return [part async for part in graph.astream(given, stream_mode=kinds, **settings)]

        parts = asyncio.run(collect())
    return [part for kind, part in parts if kind == "custom"], parts[-1][1]["tree"]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("calibrate", ["none", "all"])
def test_each_node_is_streamed_once_as_it_comes_into_the_tree(mode: str, calibrate: Any) -> None:
    known, context = Worlds([LONG]), ExploreContext(calibrate=calibrate)
    graph = build_exploration_graph(ScriptedPolicy(known.reply), known.retriever(), context=context)
    events, tree = events_of(graph, LONG.question, [LONG.answer], mode)
    streamed = [event["node"] for event in events if event["type"] == "node"]
    assert len(streamed) == 15
    # what is open at a node is closed later, as its decisions are tried
    assert [{**node, "open": []} for node in streamed] == [{**node, "open": []} for node in tree["nodes"]]
    assert [node["open"] for node in streamed if node["subquery"]] == [["parametric", "retrieve"]] * 7


def test_between_two_nodes_the_events_of_the_decision_process_are_streamed() -> None:
    world = World("w", (Fact(False, True),))
    known = Worlds([world])
    graph = build_exploration_graph(ScriptedPolicy(known.reply), known.retriever())
    events, _ = events_of(graph, world.question, [world.answer], "sync")
    first, parametric = ["subquery", "node"], ["decision", "answer", "final", "usage", "node"]
    assert [event["type"] for event in events] == [*first, *parametric, "decision", "passages", *parametric[1:]]
    assert [event["by"] for event in events if event["type"] == "decision"] == ["search", "search"]


# --- LangGraph's recursion limit ---


def long_search(context: ExploreContext | None = None, policy: Policy | None = None) -> Any:
    known = Worlds([LONG])
    return build_exploration_graph(policy or ScriptedPolicy(known.reply), known.retriever(), context=context)


ASKED: Any = ExploreInput(question=LONG.question, answers=[LONG.answer])


WHOLE = timeless(long_search().invoke(ASKED)["tree"])
SUPERSTEPS = len(list(long_search().stream(ASKED, stream_mode="updates")))
LIMITS = [*(("sync", limit) for limit in range(5, 90)), ("async", 5), ("async", 25), ("async", 60)]


@pytest.mark.parametrize(("mode", "limit"), LIMITS)
def test_a_recursion_limit_ends_a_search_with_its_reason_and_not_in_an_exception(mode: str, limit: int) -> None:
    graph, config = long_search(), {"recursion_limit": limit}
    run = graph.invoke(ASKED, config) if mode == "sync" else asyncio.run(graph.ainvoke(ASKED, config))
    tree = timeless(run["tree"])
    if tree["stop_reason"] == "recursion_limit":
        assert tree["outcome"] == "unsolved"
        cut = [{**node, "open": []} for node in tree["nodes"]]
        assert cut == [{**node, "open": []} for node in WHOLE["nodes"][: len(cut)]]
        assert any(node["open"] for node in tree["nodes"])
    else:
        assert tree == WHOLE
        assert limit > SUPERSTEPS


def test_a_recursion_limit_that_just_suffices_changes_nothing() -> None:
    """The limit is near, and nothing is left to try."""
    tree = long_search().invoke(ASKED, {"recursion_limit": SUPERSTEPS + 1})["tree"]
    assert (tree["stop_reason"], len(tree["nodes"])) == ("exhausted", 15)


def test_a_limit_reached_while_calibrating_leaves_the_search_solved() -> None:
    world = World("w", (Fact(True, True),) * 4)
    known = Worlds([world])
    graph = build_exploration_graph(
        ScriptedPolicy(known.reply), known.retriever(), context=ExploreContext(calibrate="all")
    )
    given = ExploreInput(question=world.question, answers=[world.answer])
    tree = graph.invoke(given, {"recursion_limit": 40})["tree"]
    assert (tree["outcome"], tree["stop_reason"], tree["cost"]) == ("solved", "solved", 0)
    assert any(node["open"] for node in tree["nodes"])


def test_a_batch_has_langgraphs_low_default_limit_and_says_so() -> None:
    batch: Any = long_search().batch([ASKED] * 2)
    assert [output["tree"]["stop_reason"] for output in batch] == ["recursion_limit"] * 2


def test_many_searches_in_a_batch_keep_their_questions_apart() -> None:
    questions = [World(f"q{n}", (Fact(False, True), Fact(n % 2 == 0, True))) for n in range(12)]
    known = Worlds(questions)
    graph = build_exploration_graph(ScriptedPolicy(known.reply), known.retriever())
    given: Any = [ExploreInput(question=world.question, answers=[world.answer]) for world in questions]
    batches: Any = (
        graph.batch(given, {"recursion_limit": 500}),
        asyncio.run(graph.abatch(given, {"recursion_limit": 500})),
    )
    for batch in batches:
        assert [output["tree"]["question"] for output in batch] == [world.question for world in questions]
        assert [output["tree"]["cost"] for output in batch] == [1, 2] * 6


# --- what Studio shows ---


def test_the_drawing_has_six_nodes_with_their_descriptions() -> None:
    nodes = long_search().get_graph().nodes
    assert set(nodes) == {"__start__", *NODES, "select", "__end__"}
    assert all((nodes[name].metadata or {})["description"] for name in (*NODES, "select"))


@given(scribes(), bounds)
def test_every_edge_that_a_search_takes_is_drawn(scribe: Scribe, bounds: dict[str, Any]) -> None:
    graph = build_exploration_graph(ScriptedPolicy(scribe), Shelf(), context=ExploreContext(**bounds))
    drawn = {(edge.source, edge.target) for edge in graph.get_graph().edges}
    given = ExploreInput(question="Which?", answers=[GOLD])
    way = ["__start__", *(name for part in graph.stream(given, stream_mode="updates") for name in part), "__end__"]
    assert set(pairwise(way)) <= drawn


def test_input_and_output_are_what_the_schemas_say() -> None:
    graph = long_search()
    assert set(graph.get_input_jsonschema()["properties"]) == {"question", "answers"}
    assert set(graph.get_output_jsonschema()["properties"]) == {"tree"}
    assert set(graph.invoke(ASKED)) == {"tree"}
