"""The worlds that searches are measured in: what they say is possible, and what a policy does in them by itself."""

import pytest
from hypothesis import given

from benchmarks.worlds import Fact, World, Worlds, paper_world
from deeprag_graph.graph import build_graph
from deeprag_graph.policies.scripted import ScriptedPolicy
from tests.explore.helpers import worlds

KNOWN, LOOKED_UP, BOTH, NEITHER = Fact(True, False), Fact(False, True), Fact(True, True), Fact(False, False)


@pytest.mark.parametrize(
    ("facts", "cost"),
    [
        ([KNOWN], 0),
        ([LOOKED_UP], 1),
        ([NEITHER], None),
        ([KNOWN, LOOKED_UP, BOTH, LOOKED_UP], 2),
        ([BOTH, NEITHER, BOTH], None),
        ([NEITHER, Fact(False, False, retrieve_recovers=True), KNOWN], 1),
        ([NEITHER, Fact(False, True, parametric_recovers=True)], 0),
        ([LOOKED_UP, Fact(False, False, parametric_recovers=True)], 0),  # wrong first, then right again
    ],
)
def test_the_least_cost_by_hand(facts: list[Fact], cost: int | None) -> None:
    world = World("w", tuple(facts))
    assert world.least_cost() == cost
    if cost is not None:
        assert world.least_cost(cost) == cost
        assert cost == 0 or world.least_cost(cost - 1) is None


@given(worlds())
def test_left_alone_the_policy_retrieves_what_it_does_not_know_and_ends_where_the_world_says(world: World) -> None:
    known = Worlds([world])
    output = build_graph(ScriptedPolicy(known.reply), known.retriever()).invoke({"question": world.question})
    taken = [step["decision"] for step in output["steps"]]
    assert taken == ["parametric" if fact.known else "retrieve" for fact in world.facts]
    assert (output["answer"] == world.answer) == world.right(taken)
    assert output["usage"]["llm_calls"] == output["usage"]["retrievals"] + 1
    assert (output["stop_reason"], output["corrections"]) == ("concluded", [])


def test_the_questions_are_drawn_as_in_the_comparison_with_the_released_search() -> None:
    questions = paper_world(2_000)
    facts = [fact for world in questions for fact in world.facts]
    assert len({world.name for world in questions}) == 2_000
    assert sum(fact.known for fact in facts) / len(facts) == pytest.approx(0.45, abs=0.03)
    assert sum(fact.passage for fact in facts) / len(facts) == pytest.approx(0.7, abs=0.03)
    hops = [sum(len(world.facts) == n for world in questions) / 2_000 for n in (1, 2, 3, 4)]
    assert hops == pytest.approx([1 / 7, 3 / 7, 2 / 7, 1 / 7], abs=0.04)
    assert paper_world(10) == questions[:10] == paper_world(10)
    assert paper_world(10, seed=1) != questions[:10]
