"""The searches that Studio opens: the script by direct call, and both graphs in the API server that Studio talks to."""

from typing import Any, cast

import pytest
from langgraph_sdk.client import SyncLangGraphClient

from deeprag_graph.explore import ExploreContext, Tree, explore, path, trajectory
from deeprag_graph.nodes import NODES
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.retrieval import BM25Retriever, starter_index
from deeprag_graph.studio import StudioExploreContext, _search_script, explore_scripted
from tests.explore.helpers import decisions, timeless
from tests.fake_server import FakeServer

ASK: Any = {"question": "In which village was the painter of The Goldfinch born?", "answers": ["Middenbeemster"]}
slow = pytest.mark.slow


def direct(**settings: Any) -> Tree:
    """Return the tree of the scripted search, by direct call and without LangGraph."""
    policy, retriever = ScriptedPolicy(_search_script), BM25Retriever(starter_index())
    return timeless(explore(ASK["question"], ASK["answers"], policy, retriever, context=ExploreContext(**settings)))


def test_the_script_is_wrong_by_heart_and_right_by_the_passage() -> None:
    tree = cast(Tree, explore_scripted.invoke(ASK)["tree"])
    assert timeless(tree) == direct()
    assert (tree["outcome"], tree["cost"], len(tree["nodes"])) == ("solved", 1, 6)
    assert decisions(tree, tree["nodes"][tree["best"]]) == ("retrieve", "parametric")
    assert [step["answer"] for step in trajectory(tree, tree["best"])["steps"]] == ["Carel Fabritius", "Middenbeemster"]
    assert [node["p_retrieve"] for node in path(tree, tree["best"])] == [0.3, 0.2, None]
    assert {node["final"]["short"] for node in tree["nodes"] if node["outcome"] == "wrong"} == {"Leiden"}
    assert not any(node["corrections"] for node in tree["nodes"])


@slow
@pytest.mark.parametrize("name", ["explore", "explore_scripted"])
def test_the_drawing_has_the_six_nodes_with_their_descriptions(studio: SyncLangGraphClient, name: str) -> None:
    nodes = {node["id"]: node for node in studio.assistants.get_graph(name, xray=True)["nodes"]}
    assert set(nodes) == {"__start__", *NODES, "select", "__end__"}
    assert all(cast(Any, nodes[title])["metadata"]["description"] for title in (*NODES, "select"))


@slow
@pytest.mark.parametrize(("name", "schema"), [("explore", StudioExploreContext), ("explore_scripted", ExploreContext)])
def test_the_panel_has_a_title_and_a_description_for_every_setting(
    studio: SyncLangGraphClient, name: str, schema: type[ExploreContext]
) -> None:
    (assistant,) = studio.assistants.search(graph_id=name)
    assert assistant["description"]
    schemas: Any = studio.assistants.get_schemas(assistant["assistant_id"])
    settings = schemas["context_schema"]["properties"]
    assert set(settings) == set(schema.model_fields)
    assert all(setting["title"] and setting["description"] for setting in settings.values())
    assert set(schemas["input_schema"]["properties"]) == {"question", "answers"}
    assert set(schemas["output_schema"]["properties"]) == {"tree"}


@slow
@pytest.mark.parametrize("settings", [{}, {"calibrate": "all"}, {"max_retrievals": 0}, {"k": 1, "max_steps": 1}])
def test_a_run_gives_the_tree_of_a_direct_call(studio: SyncLangGraphClient, settings: dict[str, Any]) -> None:
    output: Any = studio.runs.wait(None, "explore_scripted", input=ASK, context=settings)
    assert "__error__" not in output
    assert timeless(output["tree"]) == direct(**settings)


@slow
def test_a_streamed_run_shows_each_node_as_it_comes(studio: SyncLangGraphClient) -> None:
    parts: Any = list(studio.runs.stream(None, "explore_scripted", input=ASK, stream_mode=["custom", "values"]))
    events = [part.data for part in parts if part.event == "custom"]
    streamed = [{**event["node"], "open": []} for event in events if event["type"] == "node"]
    assert streamed == [{**node, "open": []} for node in direct()["nodes"]]
    assert {"subquery", "decision", "passages", "answer"} < {event["type"] for event in events}
    assert timeless(parts[-1].data["tree"]) == direct()


@slow
def test_a_thread_shows_the_search_at_every_superstep_and_takes_the_next_question(studio: SyncLangGraphClient) -> None:
    thread = studio.threads.create()["thread_id"]
    for _ in range(2):
        output: Any = studio.runs.wait(thread, "explore_scripted", input=ASK)
        assert timeless(output["tree"]) == direct()
    history: Any = studio.threads.get_history(thread, limit=100)
    found = [
        len(snapshot["values"]["search"]["tree"]["nodes"]) for snapshot in history if snapshot["values"].get("search")
    ]
    assert set(found) == set(range(6))


@slow
def test_a_long_search_is_not_cut_by_the_servers_own_limit(studio: SyncLangGraphClient) -> None:
    """Six subqueries, none of which leads anywhere: 127 nodes, some 700 supersteps."""
    with FakeServer("RRRRRR") as server:
        context: Any = {"policy": "completion", "base_url": server.url, "max_llm_calls": 1_000, "k": 1}
        asked: Any = {"question": "What is the sum of the facts?", "answers": ["nothing"]}
        output: Any = studio.runs.wait(None, "explore", input=asked, context={**context, "model": "scripted-model"})
        assert "__error__" not in output
        tree = cast(Tree, output["tree"])
        assert (tree["outcome"], tree["stop_reason"], len(tree["nodes"])) == ("unsolved", "exhausted", 127)
        assert tree["usage"]["llm_calls"] == len(server.sent("completions"))


@slow
def test_a_limit_of_the_run_ends_the_search_with_its_reason(studio: SyncLangGraphClient) -> None:
    output: Any = studio.runs.wait(None, "explore_scripted", input=ASK, config={"recursion_limit": 12})
    assert "__error__" not in output
    assert (output["tree"]["outcome"], output["tree"]["stop_reason"]) == ("unsolved", "recursion_limit")


@slow
def test_an_input_without_answers_is_the_runs_error_in_one_sentence(studio: SyncLangGraphClient) -> None:
    asked: Any = {"question": ASK["question"]}
    output: Any = studio.runs.wait(None, "explore_scripted", input=asked, raise_error=False)
    assert output["__error__"]["error"] == "OperatorError"
    assert "a list of the gold answer and its aliases" in output["__error__"]["message"]
