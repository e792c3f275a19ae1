"""The graphs that Studio opens, in the API server that it talks to; those that search have a file of their own."""

from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import SyncLangGraphClient

from deeprag_graph.nodes import NODES
from deeprag_graph.retrieval import build_index
from deeprag_graph.state import Context
from deeprag_graph.studio import StudioContext, scripted
from deeprag_graph.transcript import one_line
from tests.fake_server import FakeServer
from tests.rivers import EVENTS

ASK: Any = {"question": "Which river does the Maria Pia Bridge cross?"}
TITLE = "Maria Pia Bridge"


def test_the_script_answers_in_every_decision_mode() -> None:
    modes: dict[Any, list[str]] = {
        "policy": ["retrieve", "parametric"],
        "always": ["retrieve", "retrieve"],
        "never": ["parametric", "parametric"],
        0.05: ["retrieve", "retrieve"],
        0.95: ["parametric", "parametric"],
    }
    for decision, expected in modes.items():
        output: Any = scripted.invoke(ASK, context=Context(decision=decision))
        assert [step["decision"] for step in output["steps"]] == expected
        assert output["stop_reason"] == "concluded"
        assert (output["answer"] == TITLE) == ("retrieve" in expected)


slow = pytest.mark.slow


@slow
def test_the_server_lists_all_graphs_with_their_descriptions(studio: SyncLangGraphClient) -> None:
    found: Any = {assistant["graph_id"]: assistant for assistant in studio.assistants.search()}
    assert set(found) == {"deeprag", "scripted", "explore", "explore_scripted"}
    assert all(assistant["description"] for assistant in found.values())


@slow
@pytest.mark.parametrize("name", ["deeprag", "scripted"])
def test_the_drawing_has_the_five_nodes_with_their_descriptions(studio: SyncLangGraphClient, name: str) -> None:
    nodes = {node["id"]: node for node in studio.assistants.get_graph(name, xray=True)["nodes"]}
    assert set(nodes) == {"__start__", *NODES, "__end__"}
    for title, logic in NODES.items():
        assert nodes[title]["metadata"] == {"description": logic.__doc__}


@slow
@pytest.mark.parametrize(("name", "schema"), [("deeprag", StudioContext), ("scripted", Context)])
def test_the_panel_has_a_title_and_a_description_for_every_setting(
    studio: SyncLangGraphClient, name: str, schema: type[Context]
) -> None:
    (assistant,) = studio.assistants.search(graph_id=name)
    schemas: Any = studio.assistants.get_schemas(assistant["assistant_id"])
    settings = schemas["context_schema"]["properties"]
    assert set(settings) == set(schema.model_fields)
    for setting in settings.values():
        assert setting["title"]
        assert setting["description"]
    assert settings["instruction"]["langgraph_type"] == "prompt"
    assert set(schemas["input_schema"]["properties"]) == {"question", "messages"}
    assert "messages" in schemas["output_schema"]["properties"]


@slow
def test_a_run_answers_the_question(studio: SyncLangGraphClient) -> None:
    output: Any = studio.runs.wait(None, "scripted", input=ASK)
    assert "__error__" not in output
    assert (output["answer"], output["stop_reason"]) == (TITLE, "concluded")
    assert [step["decision"] for step in output["steps"]] == ["retrieve", "parametric"]
    assert [message["type"] for message in output["messages"]] == ["ai"]


@slow
def test_the_context_of_a_run_holds(studio: SyncLangGraphClient) -> None:
    output: Any = studio.runs.wait(None, "scripted", input=ASK, context={"k": 1, "decision": "always"})
    assert [len(step["passages"]) for step in output["steps"]] == [1, 1]


@slow
def test_a_streamed_run_has_the_events_in_their_order(studio: SyncLangGraphClient) -> None:
    parts: Any = list(studio.runs.stream(None, "scripted", input=ASK, stream_mode=["custom"]))
    assert {part.event for part in parts} == {"metadata", "custom"}
    kinds = [part.data["type"] for part in parts if part.event == "custom"]
    assert kinds == [*EVENTS[:4], "subquery", "decision", "answer", "final", "usage"]


@slow
def test_a_thread_keeps_a_checkpoint_of_every_node_and_the_talk(studio: SyncLangGraphClient) -> None:
    thread = studio.threads.create()["thread_id"]
    for turn in (1, 2):
        talk: Any = {"messages": [{"role": "user", "content": ASK["question"]}]}
        output: Any = studio.runs.wait(thread, "scripted", input=talk)
        assert "__error__" not in output
        assert len(output["messages"]) == 2 * turn
    state: Any = studio.threads.get_state(thread)
    assert (state["values"]["answer"], state["next"]) == (TITLE, [])
    nodes = {node for snapshot in studio.threads.get_history(thread, limit=50) for node in snapshot["next"]}
    assert nodes == {"__start__", *NODES}


@slow
@pytest.mark.parametrize(("reply", "expected"), [(True, "retrieve"), (False, "parametric")])
def test_a_retrieval_is_approved_or_refused_through_the_server(
    studio: SyncLangGraphClient, reply: bool, expected: str
) -> None:
    thread = studio.threads.create()["thread_id"]
    context: Any = {"approve_retrievals": True}
    waiting: Any = studio.runs.wait(thread, "scripted", input=ASK, context=context)
    assert "answer" not in waiting
    (request,) = waiting["__interrupt__"]
    assert request["value"]["type"] == "approve_retrieval"
    output: Any = studio.runs.wait(thread, "scripted", command={"resume": reply}, context=context)
    assert "__error__" not in output
    assert output["steps"][0]["decision"] == expected
    assert output["stop_reason"] == "concluded"


@slow
@pytest.mark.parametrize("policy", ["chat", "completion"])
def test_policy_model_and_index_come_from_the_context(studio: SyncLangGraphClient, tmp_path: Path, policy: str) -> None:
    # the same subquery for both: what the server's store has of one index must not come for another
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text(f"id\ttext\ttitle\n1\tFact 1 stands in this book alone.\tBook for {policy}\n")
    build_index([corpus], tmp_path / "index")
    with FakeServer("R") as server:
        context: Any = {"policy": policy, "base_url": server.url, "index": str(tmp_path / "index")}
        output: Any = studio.runs.wait(None, "deeprag", input=ASK, context={**context, "model": "scripted-model"})
    assert "__error__" not in output
    assert (output["answer"], output["stop_reason"]) == ("done", "concluded")
    assert [passage["title"] for passage in output["passages"]] == [f"Book for {policy}"]
    assert len(server.sent("completions")) == 2


@slow
def test_an_operators_mistake_is_the_runs_error_in_one_sentence(studio: SyncLangGraphClient) -> None:
    context: Any = {"policy": "completion", "base_url": "http://127.0.0.1:9/v1", "index": "/no/such/folder"}
    output: Any = studio.runs.wait(None, "deeprag", input=ASK, context=context, raise_error=False)
    assert output["__error__"]["error"] == "OperatorError"
    assert "/no/such/folder" in one_line(output["__error__"]["message"])
