"""The README and the pages of docs: its Python runs as printed, their commands exist, their links lead somewhere."""

import pkgutil
import re
import shlex
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

import deeprag_graph
from deeprag_graph.cli import _parser
from deeprag_graph.ledger import Ledger, make_record
from deeprag_graph.policies import Prompt, ScriptedPolicy
from deeprag_graph.questions import Question
from deeprag_graph.transcript import FINAL

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RETRIEVAL, EXPLORATION = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("retrieval", "exploration")
)
REPLIES = [
    "Follow up: Who painted The Goldfinch?\nLet's search the question in Wikipedia.",
    "Intermediate answer: Carel Fabritius\n"
    f"{FINAL} <answer long>Born there.</answer long><answer short>There</answer short>",
]


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_python_runs_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def init_chat_model(_: str) -> GenericFakeChatModel:
        return GenericFakeChatModel(messages=cycle(map(AIMessage, REPLIES)))

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init_chat_model)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["output"]["answer"] == "There"
    assert names["documents"][0].metadata["subquery"] == "Who painted The Goldfinch?"
    assert names["event"]["type"] == "usage"
    answered = names["chat"].invoke({"messages": [("human", "In which village was he born?")]})
    assert answered["messages"][-1].text == "Born there."


def test_every_deeprag_command_parses() -> None:
    printed = "\n".join(block for page in (README, RETRIEVAL, EXPLORATION) for block in blocks("bash", page))
    printed = printed.replace("\\\n", " ")
    lines = [line.split("deeprag ", 1)[1] for line in printed.splitlines() if "deeprag " in line]
    commands = [shlex.split(line.split(">")[0], comments=True) for line in lines]
    assert {command[0] for command in commands} == {"ask", "index", "search", "explore", "tree", "data"}
    for command in commands:
        _parser().parse_args(command)


def test_the_python_of_the_guide_to_exploration_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(prompt: Prompt) -> str:
        if not prompt.opening:
            return "Follow up: In which village was Carel Fabritius born?\nLet's "
        return f" Middenbeemster\n{FINAL} <answer long>There.</answer long><answer short>Middenbeemster</answer short>"

    monkeypatch.setattr(deeprag_graph, "LocalPolicy", lambda: ScriptedPolicy(reply), raising=False)
    monkeypatch.chdir(tmp_path)
    search, label, load = blocks("python", EXPLORATION)
    names: dict[str, Any] = {}
    exec(compile(search, "exploration.md", "exec"), names)
    assert (names["tree"]["outcome"], names["tree"]["cost"]) == ("solved", 0)
    asked = Question(id="q", question="In which village?", answers=["Middenbeemster"])
    with Ledger("trees.jsonl") as ledger:
        ledger.append(make_record(asked, names["tree"], {"policy": "scripted"}))
    exec(compile(label, "exploration.md", "exec"), names)
    assert "chosen='parametric'" in capsys.readouterr().out
    exec(compile(load, "exploration.md", "exec"), names)
    assert names["trees"]["outcome"] == ["solved"]


@pytest.mark.parametrize(
    "page", ["README.md", "paper_index.md", "CHANGELOG.md", "docs/retrieval.md", "docs/exploration.md"]
)
def test_links_to_files_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert all(((ROOT / page).parent / link).exists() for link in links)


def test_the_paper_index_names_code_and_tests_that_exist() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$", (ROOT / "paper_index.md").read_text(), re.MULTILINE)[2:]
    assert len(rows) > 5
    for code, tests in rows:
        for name in re.findall(r"`([\w.]+)`", code):
            assert _exists(name if name.startswith("training.") else f"deeprag_graph.{name}"), name
        for file in re.findall(r"`([\w/]+\.py)`", tests):
            assert (ROOT / "tests" / file).exists(), file


def _exists(name: str) -> bool:
    """Whether a dotted name is that of a module, of something in one, or of a field or member of a class in one."""
    try:
        return bool(pkgutil.resolve_name(name))
    except AttributeError:
        owner, _, field = name.rpartition(".")
        return field in getattr(pkgutil.resolve_name(owner), "__annotations__", {})
