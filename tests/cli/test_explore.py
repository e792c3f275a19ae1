"""`deeprag explore`: ledger, summary, resuming after whatever may happen, and what goes wrong."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from benchmarks.worlds import Worlds, paper_world
from deeprag_graph import parts
from deeprag_graph.cli import main
from deeprag_graph.errors import PolicyError
from deeprag_graph.explore import ExploreContext
from deeprag_graph.explore import explore as direct
from deeprag_graph.explore.tree import trajectory
from deeprag_graph.ledger import Record, read_ledger
from deeprag_graph.policies import Policy, Prompt, ScriptedPolicy
from tests.fake_server import FakeServer, free_address, mortal_server

ROOT = Path(__file__).parents[2]
Use = Callable[[Policy], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    def install(policy: Policy) -> None:
        monkeypatch.setattr(parts, "make_policy", lambda *_, **__: policy)

    return install


def world_file(folder: Path, count: int = 20) -> tuple[Path, Worlds]:
    worlds = paper_world(count)
    file = folder / "questions.jsonl"
    lines = [{"id": w.name, "question": w.question, "answers": [w.answer], "dataset": "worlds"} for w in worlds]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file, Worlds(worlds)


def by_id(path: Path) -> dict[str, Any]:
    """Return the records of a ledger without clock times, after making sure that no id is there twice."""
    found: dict[str, Any] = {}
    for record in read_ledger(path):
        assert record["id"] not in found
        found[record["id"]] = {**record, "usage": {**record["usage"], "seconds": 0}}
    return found


def explore(*flags: str | Path | int) -> int:
    return main(["explore", *map(str, flags)])


def test_every_question_becomes_a_line_and_the_summary_counts_them(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, worlds = world_file(tmp_path)
    use(ScriptedPolicy(worlds.reply))
    monkeypatch.setattr("deeprag_graph.bulk.jobs.make_retriever", lambda *_, **__: worlds.retriever())
    ledger = tmp_path / "trees.jsonl"
    assert explore("--questions", file, "--ledger", ledger, "--concurrency", 4, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    records = by_id(ledger)
    costs = {name: world.least_cost() for name, world in worlds.by_name.items()}
    assert {id: record["cost"] for id, record in records.items()} == costs
    solved = sum(cost is not None for cost in costs.values())
    assert summary["outcomes"] == {"solved": solved, "unsolved": 20 - solved, "failed": 0}
    assert summary["usage"]["llm_calls"] == sum(record["usage"]["llm_calls"] for record in records.values())
    assert {record["dataset"] for record in records.values()} == {"worlds"}


def test_the_driver_finds_the_trees_that_direct_calls_find(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, worlds = world_file(tmp_path, 40)
    use(ScriptedPolicy(worlds.reply))
    monkeypatch.setattr("deeprag_graph.bulk.jobs.make_retriever", lambda *_, **__: worlds.retriever())
    ledger = tmp_path / "trees.jsonl"
    assert explore("--questions", file, "--ledger", ledger, "--concurrency", 16, "--calibrate", "path") == 0
    for id, record in by_id(ledger).items():
        world = worlds.by_name[id]
        context = ExploreContext(calibrate="path")
        tree: Any = direct(
            world.question, [world.answer], ScriptedPolicy(worlds.reply), worlds.retriever(), context=context
        )
        tree["usage"]["seconds"] = 0
        assert {key: record[key] for key in tree} == tree


def test_the_settings_tell_kinds_of_policies_apart_and_leave_out_what_is_not_used(tmp_path: Path) -> None:
    file = questions_file(tmp_path, 1)
    with FakeServer("RP") as server:
        flags: list[str | Path] = ["--questions", file, "--base-url", server.url, "--model", "m"]
        assert explore(*flags, "--ledger", tmp_path / "a", "--policy", "completion") == 0
        assert explore(*flags, "--ledger", tmp_path / "a", "--policy", "chat") == 2
        assert explore(*flags, "--ledger", tmp_path / "a", "--policy", "completion", "--f1-threshold", "0.5") == 0
        assert explore(*flags, "--ledger", tmp_path / "b", "--policy", "chat") == 0
    assert [next(read_ledger(tmp_path / name))["settings"]["policy"] for name in "ab"] == ["completion m", "chat m"]


@pytest.mark.parametrize("policy", ["completion", "chat"])
def test_a_run_begins_while_one_of_its_servers_is_away(policy: str, tmp_path: Path) -> None:
    file = questions_file(tmp_path, 6)
    with FakeServer("RP") as server:
        servers = ["--base-url", free_address(), "--base-url", server.url]
        assert explore("--questions", file, "--ledger", tmp_path / "l", "--policy", policy, *servers) == 0
    assert {record["outcome"] for record in by_id(tmp_path / "l").values()} == {"solved"}


def test_only_the_questions_of_this_run_are_searched_again(use: Use, tmp_path: Path) -> None:
    file, worlds = world_file(tmp_path, 4)
    use(ScriptedPolicy(lambda _: PolicyError("The model server answered 500.")))
    ledger = tmp_path / "trees.jsonl"
    flags: list[str | Path] = ["--questions", file, "--ledger", ledger, "--max-retrievals", "0"]
    assert explore(*flags) == 1
    use(ScriptedPolicy(worlds.reply))
    assert explore(*flags, "--limit", "2", "--retry-failed") == 0
    failed = [id for id, record in by_id(ledger).items() if record["outcome"] == "failed"]
    assert sorted(failed) == ["q2", "q3"]


@pytest.mark.parametrize("text", ["-5", "nan", "inf", "soon"])
def test_seconds_to_wait_are_a_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        explore("--questions", "q", "--ledger", "l", "--wait", text)
    assert f"seconds, a number from 0 on, not '{text}'" in capsys.readouterr().err


def test_a_second_run_searches_nothing_and_says_the_same(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, worlds = world_file(tmp_path, 5)
    policy = ScriptedPolicy(worlds.reply)
    use(policy)
    ledger = tmp_path / "trees.jsonl"
    flags: list[str | Path] = ["--questions", file, "--ledger", ledger, "--max-retrievals", "0"]
    assert explore(*flags) == 0
    calls, lines, told = len(policy.prompts), ledger.read_bytes(), capsys.readouterr().out
    assert explore(*flags) == 0
    assert (len(policy.prompts), ledger.read_bytes(), capsys.readouterr().out) == (calls, lines, told)


def test_failed_questions_stay_failed_until_they_are_asked_for_again(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, worlds = world_file(tmp_path, 6)
    broken = {"q1", "q4"}

    def reply(prompt: Prompt) -> str | Exception:
        name = re.search("‹(.+?)›", prompt.trajectory["question"])
        assert name is not None
        return PolicyError("The model server answered 500.") if name.group(1) in broken else worlds.reply(prompt)

    policy = ScriptedPolicy(reply)
    use(policy)
    ledger = tmp_path / "trees.jsonl"
    flags: list[str | Path] = ["--questions", file, "--ledger", ledger, "--max-retrievals", "0"]
    assert explore(*flags) == 1
    assert explore(*flags) == 1
    assert {id for id, record in by_id(ledger).items() if record["outcome"] == "failed"} == broken
    assert all(by_id(ledger)[id]["error"] == "The model server answered 500." for id in broken)
    broken.clear()
    assert explore(*flags, "--retry-failed") == 0
    assert {record["outcome"] for record in by_id(ledger).values()} <= {"solved", "unsolved"}
    assert len(by_id(ledger)) == 6
    assert "2 failed questions are searched again." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--max-steps", "0"], "--max-steps: input should be greater than or equal to 1, not 0."),
        (["--f1-threshold", "2"], "--f1-threshold: input should be less than or equal to 1, not 2.0."),
        (["--workers", "2"], "The local model takes all cores as it is: leave --workers out, or name a --base-url."),
        (["--index", "no/such/folder"], "no/such/folder"),
        (["--base-url", "nonsense"], "'nonsense' is not the address of a server"),
        (["--base-url", "http://127.0.0.1:9/v1"], "No model server answers at http://127.0.0.1:9/v1"),
        (["--base-url", "http://me:secret@127.0.0.1:9/v1"], "Leave credentials out of --base-url (127.0.0.1)"),
        (["--policy", "completion"], "The completion policy needs a server: give --base-url"),
    ],
)
def test_a_mistake_of_the_operator_is_one_sentence_and_leaves_no_ledger(
    flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = world_file(tmp_path, 2)
    assert explore("--questions", file, "--ledger", tmp_path / "new.jsonl", *flags) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("deeprag: ")
    assert sentence in shown.err.splitlines()[-1]
    assert not (tmp_path / "new.jsonl").exists()


def test_questions_without_answers_and_ids_of_two_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = world_file(tmp_path, 2)
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"id": "b", "question": "Who?"}\n')
    assert explore("--questions", file, bare, "--ledger", tmp_path / "l") == 2
    assert "1 of 3 questions have no answers, 'b' is the first" in capsys.readouterr().err
    assert explore("--questions", file, file, "--ledger", tmp_path / "l") == 2
    assert "has a question with the id 'q0', and so has an earlier file" in capsys.readouterr().err


def test_other_settings_and_another_ledgers_schema_are_refused_before_a_call(
    use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, worlds = world_file(tmp_path, 2)
    use(policy := ScriptedPolicy(worlds.reply))
    ledger = tmp_path / "trees.jsonl"
    flags: list[str | Path] = ["--questions", file, "--ledger", ledger, "--max-retrievals", "0"]
    assert explore(*flags) == 0
    calls, before = len(policy.prompts), ledger.read_bytes()
    assert explore(*flags[:-1], "1") == 2
    assert "other settings (context.max_retrievals: 0 then, 1 now)" in capsys.readouterr().err
    assert (len(policy.prompts), ledger.read_bytes()) == (calls, before)


def test_unsolved_questions_are_tried_with_their_gold_passages_on_request_and_marked(use: Use, tmp_path: Path) -> None:
    """The starter corpus has the passage; a query that names nothing of it does not find it."""

    def reply(prompt: Prompt) -> str:
        steps = prompt.trajectory["steps"]
        if not steps:
            return "Follow up: zzz zzzz?\nLet's "
        found = " ".join(p["text"] for p in steps[0]["passages"] or [])
        short = "Middenbeemster" if "Middenbeemster" in found else "nowhere"
        return f" {short}\nSo the final answer is: <answer long>{short}.</answer long><answer short>{short}"

    line = {"id": "g", "question": "Where?", "answers": ["Middenbeemster"], "supporting_titles": ["Carel Fabritius"]}
    file = tmp_path / "gold.jsonl"
    file.write_text(f"{json.dumps(line)}\n")
    use(ScriptedPolicy(reply))
    assert explore("--questions", file, "--ledger", tmp_path / "without") == 0
    assert explore("--questions", file, "--ledger", tmp_path / "with", "--retry-with-gold") == 0
    (without,), (tried,) = by_id(tmp_path / "without").values(), by_id(tmp_path / "with").values()
    assert (without["outcome"], without["gold_passages"]) == ("unsolved", False)
    assert (tried["outcome"], tried["gold_passages"], tried["cost"]) == ("solved", True, 1)
    assert tried["usage"]["llm_calls"] > without["usage"]["llm_calls"]
    steps = trajectory(tried, tried["best"])["steps"]
    assert [p["title"] for p in steps[0]["passages"] or []][:1] == ["Carel Fabritius"]


# --- real processes ---


def questions_file(folder: Path, count: int) -> Path:
    file = folder / "questions.jsonl"
    lines = [{"id": f"q{n}", "question": f"Which fact is number {n}?", "answers": ["done"]} for n in range(count)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def command(file: Path, ledger: Path, url: str, *flags: str) -> list[str]:
    given = ["--policy", "completion", "--base-url", url, "--concurrency", "8", *flags]
    return [sys.executable, "-m", "deeprag_graph", "explore", "--questions", str(file), "--ledger", str(ledger), *given]


@contextmanager
def running(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_lines(ledger: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if ledger.exists() and ledger.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"The ledger has no {count} lines: {process.communicate()[1]}")


def test_ctrl_c_keeps_the_lines_says_how_far_it_came_and_the_same_command_goes_on(tmp_path: Path) -> None:
    file, ledger = questions_file(tmp_path, 30), tmp_path / "trees.jsonl"
    with FakeServer("RP") as server:
        server.faults["/completions"] = chain([""] * 25, repeat("sleep"))
        with running(command(file, ledger, server.url)) as process:
            wait_for_lines(ledger, 5, process)
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate(timeout=20)
        assert process.returncode == 130
        kept = len(by_id(ledger))
        assert f"{kept} of 30 questions are in {ledger}; the same command goes on from there." in shown
        assert shown.endswith("deeprag: stopped\n")
        server.faults.clear()
        done = subprocess.run(command(file, ledger, server.url), capture_output=True, text=True, cwd=ROOT, check=True)
    assert len(by_id(ledger)) == 30
    assert "30 solved" in done.stdout


def test_a_second_process_on_the_ledger_is_refused_at_once(tmp_path: Path) -> None:
    file, ledger = questions_file(tmp_path, 20), tmp_path / "trees.jsonl"
    with FakeServer("RP") as server:
        server.faults["/completions"] = chain([""] * 10, repeat("sleep"))
        with running(command(file, ledger, server.url)) as process:
            wait_for_lines(ledger, 1, process)
            second = subprocess.run(
                command(file, ledger, server.url), capture_output=True, text=True, cwd=ROOT, check=False
            )
            assert process.poll() is None
    assert second.returncode == 2
    assert f"deeprag: Another process is writing {ledger}; wait for it, or name another --ledger." in second.stderr


def test_a_server_that_dies_half_way_is_waited_for_and_the_run_goes_on(tmp_path: Path) -> None:
    file, ledger, undisturbed = questions_file(tmp_path, 400), tmp_path / "trees.jsonl", tmp_path / "undisturbed.jsonl"
    with mortal_server() as (url, server):
        subprocess.run(command(file, undisturbed, url), capture_output=True, cwd=ROOT, check=True)
        with running(command(file, ledger, url)) as process:
            wait_for_lines(ledger, 10, process)
            server.kill()
            server.wait()
            time.sleep(4)  # longer than the client's own retries take
            assert process.poll() is None
            with mortal_server(url):
                _, shown = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert "Waiting for it; everything finished is kept, and Ctrl-C stops." in shown
    assert "It answers again after" in shown
    assert by_id(ledger) == by_id(undisturbed)


def test_patience_has_an_end_with_a_sentence_and_the_finished_questions_are_kept(tmp_path: Path) -> None:
    file, ledger = questions_file(tmp_path, 400), tmp_path / "trees.jsonl"
    with mortal_server() as (url, server), running(command(file, ledger, url, "--wait", "1")) as process:
        wait_for_lines(ledger, 10, process)
        server.kill()
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.search(r"It has been away for \d+ s; run the same command again to go on\.\n$", shown)
    assert len(by_id(ledger)) >= 10


def test_a_second_model_writes_the_answers_from_memory_and_nothing_else(tmp_path: Path) -> None:
    file, ledger = questions_file(tmp_path, 5), tmp_path / "trees.jsonl"
    with FakeServer("RP") as strong, FakeServer("PP") as weak:
        flags = ["--target-policy", "completion", "--target-base-url", weak.url]
        subprocess.run(command(file, ledger, strong.url, *flags), capture_output=True, cwd=ROOT, check=True)
        due = [body["prompt"][0] for body in weak.sent("/completions")]
        written = [body["prompt"][0] for body in strong.sent("/completions")]
    assert due
    assert all(re.search(r"Follow up: [^\n]+\nIntermediate answer:$", prompt) for prompt in due)
    assert not any(re.search(r"Follow up: [^\n]+\nIntermediate answer:$", prompt) for prompt in written)
    settings = next(iter(read_ledger(ledger)))["settings"]
    assert (settings["policy"], settings["target"]) == ("completion scripted-model",) * 2


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_each_question_once_as_if_undisturbed(tmp_path: Path) -> None:
    file, ledger, undisturbed = questions_file(tmp_path, 200), tmp_path / "trees.jsonl", tmp_path / "undisturbed.jsonl"
    draw = random.Random(7)
    with FakeServer("RPR") as server:
        subprocess.run(command(file, undisturbed, server.url), capture_output=True, cwd=ROOT, check=True)
        for kill in range(20):
            done = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
            with running(command(file, ledger, server.url, "--concurrency", "4")) as process:
                wait_for_lines(ledger, min(done + draw.randint(0, 9), 199), process)
                time.sleep(draw.random() * 0.02)
                assert process.poll() is None, f"it had ended before kill {kill}"
                process.kill()
        subprocess.run(command(file, ledger, server.url), capture_output=True, cwd=ROOT, check=True)
    assert len(ledger.read_text().splitlines()) == 200
    assert by_id(ledger) == by_id(undisturbed)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_with_a_sentence_and_whole_lines(tmp_path: Path) -> None:
    file, ledger = questions_file(tmp_path, 50), tmp_path / "trees.jsonl"
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1)); "
    run = "sys.argv[0] = 'deeprag'; runpy.run_module('deeprag_graph', run_name='__main__')"
    with FakeServer("RP") as server:
        arguments = command(file, ledger, server.url)
        full = [arguments[0], "-c", limited + run, *arguments[3:]]
        stopped = subprocess.run(full, capture_output=True, text=True, cwd=ROOT, check=False)
        assert stopped.returncode == 2
        assert "cannot be written (File too large)" in stopped.stderr.splitlines()[-1]
        assert 0 < len(by_id(ledger)) < 50
        subprocess.run(arguments, capture_output=True, cwd=ROOT, check=True)
    assert len(by_id(ledger)) == 50


def test_a_line_has_what_scripts_rely_on(use: Use, tmp_path: Path) -> None:
    file, worlds = world_file(tmp_path, 1)
    use(ScriptedPolicy(worlds.reply))
    explore("--questions", file, "--ledger", tmp_path / "l", "--max-retrievals", "0")
    (line,) = by_id(tmp_path / "l").values()
    assert (
        set(line)
        == Record.__required_keys__
        >= {"id", "question", "outcome", "cost", "usage", "nodes", "schema_version"}
    )
    assert os.linesep not in (tmp_path / "l").read_text().rstrip("\n")
