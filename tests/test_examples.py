"""The examples run as printed, with scripts in the place of the models."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall
from pydantic import Field

from deeprag_graph.policies.base import Prompt
from deeprag_graph.policies.scripted import ScriptedPolicy
from deeprag_graph.transcript import FINAL, FOLLOW_UP, RETRIEVE

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_title(prompt: Prompt) -> str:
    """Search for the question itself; the answer is the title of the best passage."""
    if not prompt.opening:
        return f"{FOLLOW_UP} {prompt.trajectory['question']}\n{RETRIEVE}\n"
    passages = prompt.trajectory["steps"][-1]["passages"]
    assert passages
    title = passages[0]["title"]
    return f" {title}\n{FINAL} <answer long>It is {title}.</answer long><answer short>{title}</answer short>"


class Caller(GenericFakeChatModel):
    """A chat model with a script that may be given tools; `tools` are their names."""

    tools: list[str] = Field(default_factory=list)

    def bind_tools(self, tools: Any, **_: Any) -> "Caller":
        self.tools += [tool.name for tool in tools]
        return self


def test_ask_and_stream_prints_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    example = load("ask_and_stream")
    example.main(ScriptedPolicy(first_title))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [example.QUESTION, ""]
    assert lines[2:4] == [f"1. {example.QUESTION}", "   decision: retrieve"]
    assert lines[4].startswith("   passages: Francium; ")
    assert lines[5:8] == ["   answer: Francium", "", "It is Francium. (concluded)"]
    assert lines[8].startswith("2 model calls, 1 retrievals, ")


def test_chat_node_answers_two_questions_of_one_thread(capsys: pytest.CaptureFixture[str]) -> None:
    load("chat_node").main(ScriptedPolicy(first_title))
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line and "===" not in line] == [
        "Which river does the Maria Pia Bridge cross?",
        "It is Maria Pia Bridge.",
        "Who discovered the element francium?",
        "It is Francium.",
    ]


def test_agent_with_tool_gets_its_answer_from_the_graph(capsys: pytest.CaptureFixture[str]) -> None:
    call = ToolCall(name="deeprag", args={"question": "Which river does the Maria Pia Bridge cross?"}, id="1")
    model = Caller(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("The Douro.")]))
    load("agent_with_tool").main(ScriptedPolicy(first_title), model)
    printed = capsys.readouterr().out
    assert "It is Maria Pia Bridge." in printed
    assert "Cost: {'llm_calls': 2, 'retrievals': 1," in printed
    assert printed.rstrip().endswith("The Douro.")
    assert "deeprag" in model.tools


def test_agent_with_tool_says_what_it_wants_when_no_model_is_named() -> None:
    command = [sys.executable, str(EXAMPLES / "agent_with_tool.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "openai:gpt-5-mini" in done.stderr


def test_explore_a_question_shows_each_node_and_the_path(capsys: pytest.CaptureFixture[str]) -> None:
    def reply(prompt: Prompt) -> str:
        if not prompt.opening:
            return f"{FOLLOW_UP} Where was Marguerite Perey born?\n{RETRIEVE}\n"
        place = "France" if prompt.trajectory["steps"][0]["passages"] else "Chad"
        return f" {place}\n{FINAL} <answer long>It is {place}.</answer long><answer short>{place}</answer short>"

    load("explore_a_question").main(ScriptedPolicy(reply))
    printed = capsys.readouterr().out
    assert (
        "  0 retrievals, parametric: Chad → Chad (wrong)\n  1 retrievals, retrieve: France → France (right)" in printed
    )
    assert "solved: 3 model calls" in printed
    assert printed.rstrip().endswith("<answer short>France</answer short>")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "answer"), [("ask_and_stream", "France"), ("chat_node", "Douro"), ("explore_a_question", "solved: ")]
)
def test_an_example_runs_as_printed_with_the_local_model(name: str, answer: str) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer in done.stdout


def test_every_example_is_tested_and_fits_on_a_screen() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"ask_and_stream", "chat_node", "agent_with_tool", "explore_a_question"}
    assert max(len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")) <= 45
