"""`deeprag ask`: the narrative, the JSON that scripts read, many questions at once, and what goes wrong."""

import gc
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from deeprag_graph import parts
from deeprag_graph.cli import ask, main
from deeprag_graph.errors import OperatorError, PolicyError
from deeprag_graph.policies import Policy, Prompt, ScriptedPolicy
from deeprag_graph.transcript import FINAL
from tests.fake_server import FakeServer, mortal_server

QUESTION = "In which village was the painter of The Goldfinch born?"


def _goldfinch(prompt: Prompt) -> str | Exception:
    """Follow the format over the starter corpus: one search, then the second fact from memory."""
    if "broken" in prompt.trajectory["question"]:
        return PolicyError("The model server was away.")
    if "refused" in prompt.trajectory["question"]:
        return OperatorError("The key is wrong.")
    if "pointless" in prompt.trajectory["question"]:
        return ""
    if not prompt.trajectory["steps"] and prompt.lead != FINAL:
        return "Follow up: Who painted The Goldfinch?\nLet's "
    return (
        " Carel Fabritius\nFollow up: Where was Carel Fabritius born?\nIntermediate answer: Middenbeemster\n"
        f"{FINAL} <answer long>He was born in Middenbeemster.</answer long><answer short>Middenbeemster</answer short>"
    )


Use = Callable[[Policy | OperatorError], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    def install(policy: Policy | OperatorError) -> None:
        def make(*_: Any, **__: Any) -> Policy:
            if isinstance(policy, OperatorError):
                raise policy
            return policy

        monkeypatch.setattr(parts, "make_policy", make)

    return install


def test_the_narrative_tells_every_step_and_the_cost(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", QUESTION]) == 0
    shown = capsys.readouterr().out
    assert "1  Who painted The Goldfinch?\n     searches\n     [1] The Goldfinch (painting)" in shown
    assert "2  Where was Carel Fabritius born?\n     answers from memory\n     → Middenbeemster" in shown
    assert "Answer: Middenbeemster\n        He was born in Middenbeemster.\n1 retrieval, 2 model calls" in shown


def test_a_question_without_quotes_is_its_words(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", *QUESTION.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == QUESTION


def test_json_is_one_object_with_the_documented_keys(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", QUESTION, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["answer"] == "Middenbeemster"
    assert record["stop_reason"] == "concluded"
    assert {"subquery", "decision", "p_retrieve", "passages", "answer"} == set(record["steps"][0])
    assert {"llm_calls", "retrievals", "prompt_tokens", "completion_tokens", "seconds"} == set(record["usage"])


def test_a_file_of_questions_gives_one_object_a_line_and_a_score(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(ScriptedPolicy(_goldfinch))
    answers = ["Middenbeemster", "Delft"]
    lines = [{"id": f"q{n}", "question": QUESTION, "answers": [answers[n % 2]]} for n in range(6)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["ask", "--questions", str(tmp_path / "q.jsonl"), "--concurrency", "3", "--json"]) == 0
    shown = capsys.readouterr()
    assert {json.loads(line)["id"] for line in shown.out.splitlines()} == {line["id"] for line in lines}
    assert "6 questions, 3 of 6 exactly right, 0 failed; 6 retrievals, 12 model calls" in shown.err


def test_a_failed_question_is_recorded_and_the_others_go_on(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(ScriptedPolicy(_goldfinch))
    lines = [{"id": "good", "question": QUESTION}, {"id": "bad", "question": "broken?"}]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["ask", "--questions", str(tmp_path / "q.jsonl"), "--json"]) == 1
    records = {r["id"]: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert records["good"]["answer"] == "Middenbeemster"
    assert (records["bad"]["stop_reason"], records["bad"]["error"]) == ("policy_failed", "The model server was away.")


@pytest.mark.parametrize(
    ("question", "sentence"),
    [("", "The question is empty"), (" \n ", "The question is empty"), ("why " * 2000, "7,999 characters")],
)
def test_an_empty_or_enormous_question_says_so_without_a_call(
    question: str, sentence: str, use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = ScriptedPolicy(_goldfinch)
    use(policy)
    assert main(["ask", question]) == 2
    assert sentence in capsys.readouterr().err
    assert policy.prompts == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ask"], "Give a question in quotes"),
        (["ask", "q", "--questions", "f"], "not both"),
        (["ask", "q", "--base-url", "nonsense"], "'nonsense' is not the address of a server"),
        (["ask", "q", "--base-url", "http://"], "'http://' is not the address of a server"),
        (["ask", "q", "--base-url", "http://127.0.0.1:port/v1", "--policy", "completion"], "is not the address"),
        (["ask", "q", "--k", "0"], "--k: "),
        (["ask", "q", "--max-steps", "0"], "--max-steps: "),
        (["ask", "q", "--index", "nowhere"], "nowhere; build one with: deeprag index FILE"),
        (["ask", "q", "--policy", "completion"], "needs a server: give --base-url"),
        (["ask", "q", "--policy", "chat"], "needs a model: give --model"),
        (["ask", "q", "--policy", "local", "--base-url", "http://127.0.0.1:1/v1"], "leave --base-url out"),
        (["ask", "q", "--model", "nowhere.gguf"], "There is no model 'nowhere.gguf'"),
        (["ask", "--questions", "nowhere.jsonl"], "nowhere.jsonl"),
        (["ask", "q", "--base-url", "http://127.0.0.1:9/v1"], "No model server answers at http://127.0.0.1:9/v1"),
        (
            ["ask", "q", "--base-url", "http://127.0.0.1:9/v1", "--policy", "completion"],
            "No model server answers at http://127.0.0.1:9/v1",
        ),
        (
            ["ask", "q", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"],
            "No model server answers at http://127.0.0.1:9/v1",
        ),
    ],
)
def test_a_mistake_of_the_operator_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert sentence in shown.err.splitlines()[-1]
    assert shown.err.splitlines()[-1].startswith("deeprag: ")


def test_ctrl_c_is_exit_code_130(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(_: Prompt) -> str:
        raise KeyboardInterrupt

    use(ScriptedPolicy(stop))
    assert main(["ask", QUESTION]) == 130
    assert capsys.readouterr().err.endswith("deeprag: stopped\n")


def test_budgets_and_decision_modes_reach_the_graph(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", QUESTION, "--decision", "never", "--max-steps", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["usage"]["retrievals"] == 0
    assert len(record["steps"]) == 1
    assert record["stop_reason"] == "max_steps"


def _file(folder: Path, *questions: str) -> str:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps({"id": f"q{n}", "question": q}) + "\n" for n, q in enumerate(questions)))
    return str(path)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_question_without_an_answer_has_failed_alone_and_in_a_file(
    form: list[str], use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", "A pointless question?", *form]) == 1
    shown = capsys.readouterr().out
    assert '"stop_reason": "malformed"' in shown or "Stopped: the policy did not follow the format" in shown
    assert main(["ask", "--questions", _file(tmp_path, "A pointless question?"), *form]) == 1
    assert "1 questions, 1 failed" in capsys.readouterr().err


def test_an_operators_mistake_on_the_way_keeps_the_answers_so_far_and_says_how_many(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", "--questions", _file(tmp_path, QUESTION, "refused?", QUESTION), "--json"]) == 2
    shown = capsys.readouterr()
    assert [json.loads(line)["id"] for line in shown.out.splitlines()] == ["q0"]
    assert "1 of 3 questions, 0 failed" in shown.err
    assert shown.err.splitlines()[-1] == "deeprag: The key is wrong."


@pytest.mark.parametrize("question", [QUESTION, "refused?"])
def test_the_garbage_collector_of_the_process_is_left_as_it_was(question: str, use: Use, tmp_path: Path) -> None:
    use(ScriptedPolicy(_goldfinch))
    before = gc.get_threshold(), gc.get_freeze_count()
    main(["ask", "--questions", _file(tmp_path, question)])
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_question_with_half_of_a_surrogate_pair_is_answered_and_printed(
    form: list[str], use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(ScriptedPolicy(_goldfinch))
    assert main(["ask", f"{QUESTION} \udcff", *form]) == 0
    assert "Middenbeemster" in capsys.readouterr().out
    assert ask._printable("Delft \udcff é") == "Delft ? é"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_ctrl_c_in_a_file_keeps_what_is_printed_and_says_how_far_it_came(tmp_path: Path) -> None:
    with FakeServer("P") as server:
        server.faults["/completions"] = chain([""], repeat("sleep"))
        file = _file(tmp_path, *["Which fact?"] * 4)
        flags = ["--policy", "completion", "--base-url", server.url, "--concurrency", "2", "--json"]
        command = [sys.executable, "-m", "deeprag_graph", "ask", "--questions", file, *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
            assert asking.stdout is not None
            first = asking.stdout.readline()  # there while the others are under way: nothing is held back
            asking.send_signal(signal.SIGINT)
            rest, shown = asking.communicate(timeout=20)
    assert json.loads(first)["answer"] == "done"
    assert (asking.returncode, rest) == (130, "")
    assert "1 of 4 questions, 0 failed" in shown
    assert shown.endswith("deeprag: stopped\n")


def test_a_server_that_dies_in_the_middle_of_a_file_is_waited_for(tmp_path: Path) -> None:
    file = _file(tmp_path, *[f"Which fact is number {n}?" for n in range(300)])
    with mortal_server() as (url, server):
        flags = ["--policy", "completion", "--base-url", url, "--concurrency", "4", "--json"]
        command = [sys.executable, "-m", "deeprag_graph", "ask", "--questions", file, *flags]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asking:
            assert asking.stdout is not None
            first = asking.stdout.readline()
            server.kill()
            server.wait()
            time.sleep(4)  # longer than the client's own retries take
            with mortal_server(url):
                rest, shown = asking.communicate(timeout=60)
    answers = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert asking.returncode == 0
    assert len({answer["id"] for answer in answers}) == len(answers) == 300
    assert {answer["answer"] for answer in answers} == {"done"}
    assert "Waiting for it" in shown
