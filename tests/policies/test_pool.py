"""Several servers behind one policy: a question stays where it is, unless its server is away."""

from collections import Counter

import pytest

from deeprag_graph.errors import ModelUnreachableError, PolicyError
from deeprag_graph.policies import Prompt, ScriptedPolicy
from deeprag_graph.policies.pool import PooledPolicy
from deeprag_graph.transcript import Trajectory

AWAY = ModelUnreachableError("No model server answers.")


def prompt(question: str) -> Prompt:
    return Prompt(Trajectory(question=question, steps=[], final=None))


def pool(*replies: str | Exception) -> tuple[PooledPolicy, list[ScriptedPolicy]]:
    servers = [ScriptedPolicy(lambda _, reply=reply: reply) for reply in replies]  # type: ignore[misc]
    return PooledPolicy(servers), servers


def test_all_calls_for_a_question_go_to_one_server_and_questions_are_shared_out() -> None:
    policy, servers = pool("a", "b", "c")
    for n in range(300):
        first = policy.complete(prompt(f"Question {n}?")).text
        assert policy.complete(prompt(f"Question {n}?")).text == first
    assert all(70 * 2 < len(server.prompts) < 130 * 2 for server in servers)


async def test_a_question_moves_on_where_its_server_is_away_and_back_to_it_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy, servers = pool("a", AWAY)
    assert {policy.complete(prompt(f"{n}")).text for n in range(20)} == {"a"}
    assert {(await policy.acomplete(prompt(f"{n}"))).text for n in range(20)} == {"a"}
    assert len(servers[1].prompts) == 1  # then it is left alone for a while
    monkeypatch.setattr("deeprag_graph.policies.pool._AVOIDED_SECONDS", 0.0)
    policy, servers = pool("a", AWAY)
    policy.complete(prompt("1"))
    servers[1]._replies = ["b"] * 100
    assert Counter(policy.complete(prompt(f"{n}")).text for n in range(40))["b"] > 5


async def test_where_all_are_away_that_is_what_is_raised() -> None:
    policy, _ = pool(AWAY, AWAY)
    with pytest.raises(ModelUnreachableError):
        policy.complete(prompt("Who?"))
    with pytest.raises(ModelUnreachableError):
        await policy.acomplete(prompt("Who?"))


def test_a_call_that_fails_is_not_repeated_elsewhere() -> None:
    policy, servers = pool(PolicyError("Too long."), PolicyError("Too long."))
    with pytest.raises(PolicyError):
        policy.complete(prompt("Who?"))
    assert sorted(len(server.prompts) for server in servers) == [0, 1]
