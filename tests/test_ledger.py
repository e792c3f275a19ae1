"""The ledger: whole lines or none, one writer, and nothing done twice."""

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.errors import OperatorError
from deeprag_graph.explore.search import begin
from deeprag_graph.ledger import SCHEMA_VERSION, Ledger, Record, make_record, read_ledger, settings_hash
from deeprag_graph.questions import Question
from tests.strategies import hostile

SETTINGS = {"policy": "scripted", "context": {"max_steps": 6, "decision": "policy"}}


def record(id: str, outcome: str = "solved", question: str = "", **changes: Any) -> Record:
    question = question or f"What is {id}?"
    tree = begin(question, ["yes"])["tree"]
    asked = Question(id=id, question=question, answers=["yes"])
    return cast(Record, {**make_record(asked, tree, SETTINGS), "outcome": outcome, **changes})


def ask(*ids: str) -> list[Question]:
    return [Question(id=id, question=f"What is {id}?", answers=["yes"]) for id in ids]


def write(path: Path, *records: Record) -> None:
    with Ledger(path) as ledger:
        for line in records:
            ledger.append(line)


def ids(path: Path) -> list[str]:
    return [line["id"] for line in read_ledger(path)]


@given(questions=st.lists(hostile.filter(str.strip), min_size=1, max_size=4))
def test_what_is_appended_is_read_back(questions: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("ledger") / "trees.jsonl"
    questions = [question.encode(errors="replace").decode() for question in questions]
    lines = [record(f"q{n}", question=question) for n, question in enumerate(questions)]
    write(path, *lines)
    assert list(read_ledger(path)) == lines
    assert path.read_bytes().count(b"\n") == len(lines)


def test_half_of_a_surrogate_pair_becomes_a_question_mark_and_no_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path, record("a", error="odd \udcff text"), record("b"))
    assert [(line["id"], line["error"]) for line in read_ledger(path)] == [("a", "odd ? text"), ("b", "")]


def test_a_ledger_that_is_opened_again_knows_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "trees.jsonl"
    write(path, record("a"), record("b", "unsolved"))
    with Ledger(path) as ledger:
        assert ledger.done == {"a": "solved", "b": "unsolved"}
        assert not ledger.torn
        assert [question["id"] for question in ledger.open_questions(ask("a", "b", "c"))] == ["c"]
        ledger.append(record("c"))
        assert ledger.open_questions(ask("a", "b", "c")) == []
    assert ids(path) == ["a", "b", "c"]


@given(cut=st.integers(0, 10_000))
def test_wherever_a_crash_tears_the_file_whole_lines_stay_and_the_torn_one_goes(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "trees.jsonl"
    write(path, *(record(f"q{n}") for n in range(4)))
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    complete = whole[:cut].count(b"\n")
    assert ids(path) == [f"q{n}" for n in range(complete)]
    with Ledger(path) as ledger:
        assert list(ledger.done) == [f"q{n}" for n in range(complete)]
        assert ledger.torn == (not whole[:cut].endswith(b"\n") and cut > 0)
        for n in range(complete, 4):
            ledger.append(record(f"q{n}"))
    assert path.read_bytes() == whole


def _open(path: Path, results: Any) -> None:
    try:
        Ledger(path)
        results.put("open")
    except OperatorError as error:
        results.put(str(error))


def _from_another_process(path: Path) -> str:
    processes = multiprocessing.get_context("spawn")
    results = processes.Queue()
    other = processes.Process(target=_open, args=(path, results))
    other.start()
    told = str(results.get(timeout=60))
    other.join()
    return told


def test_a_second_writer_is_refused_until_the_first_one_closes(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    with Ledger(path) as ledger:
        refused = f"Another process is writing {path}; wait for it, or name another --ledger."
        assert _from_another_process(path) == refused
        ledger.append(record("a", "failed"))
        ledger.drop_failed(["a"])  # puts a new file in its place, which is locked as well
        assert _from_another_process(path) == refused
    assert _from_another_process(path) == "open"


def test_failed_questions_are_removed_on_request_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path, record("a"), record("b", "failed"), record("c", "unsolved"), record("d", "failed"))
    with Ledger(path) as ledger:
        assert ledger.drop_failed(["a", "c", "x"]) == 0
        assert ledger.drop_failed(["b"]) == 1
        assert ledger.drop_failed(["a", "b", "d"]) == 1
        assert [question["id"] for question in ledger.open_questions(ask("a", "b", "c", "d"))] == ["b", "d"]
        ledger.append(record("b"))
    assert ids(path) == ["a", "c", "b"]
    assert [file.name for file in tmp_path.iterdir()] == ["trees.jsonl"]


def test_a_link_to_a_ledger_stays_one_and_its_mode_stays_what_it_is(tmp_path: Path) -> None:
    path, link = tmp_path / "trees.jsonl", tmp_path / "link.jsonl"
    write(path, record("a"), record("b", "failed"))
    path.chmod(0o600)
    link.symlink_to(path)
    with Ledger(link) as ledger:
        ledger.drop_failed(["b"])
    assert link.is_symlink()
    assert (ids(path), stat.S_IMODE(path.stat().st_mode)) == (["a"], 0o600)


def test_other_settings_are_refused_and_told_apart_by_name(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path, record("a"))
    other = {"policy": "scripted", "context": {"max_steps": 8, "decision": "policy"}}
    with Ledger(path) as ledger:
        ledger.check_settings(SETTINGS)
        with pytest.raises(OperatorError, match=r"other settings \(context.max_steps: 6 then, 8 now\)"):
            ledger.check_settings(other)
    assert settings_hash(SETTINGS) == settings_hash(dict(reversed(list(SETTINGS.items()))))
    assert settings_hash(SETTINGS) != settings_hash(other)


def test_another_question_under_a_known_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path, record("a"))
    with Ledger(path) as ledger, pytest.raises(OperatorError, match="another question with the id 'a'"):
        ledger.open_questions([Question(id="a", question="Who else?", answers=["yes"])])


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path, record("a"))
    newer = json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}
    path.write_text(f"{json.dumps(newer)}\n")
    for use in (lambda: Ledger(path), lambda: list(read_ledger(path))):
        with pytest.raises(OperatorError, match=f"schema version {SCHEMA_VERSION + 1}, this release writes and reads"):
            use()
    assert json.loads(path.read_text()) == newer


@pytest.mark.parametrize("end", ["\n", "", "\nand more"])
@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", "7", '{"id": "q", "question": "?"}', "\x89PNG"])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(line: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text(line + end)
    for use in (lambda: Ledger(path), lambda: list(read_ledger(path))):
        with pytest.raises(OperatorError, match=r"line 1: no line of a ledger; name another file\."):
            use()
    assert path.read_text() == line + end


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_is_no_ledger(device: str) -> None:
    with pytest.raises(OperatorError, match="is no regular file"):
        Ledger(device)


def test_a_ledger_to_which_nothing_was_added_is_not_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    write(path)
    assert not path.exists()
    path.touch()
    write(path)
    assert path.exists()


def test_a_line_without_what_it_should_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    path.write_text(f'{{"schema_version": {SCHEMA_VERSION}}}\n')
    with pytest.raises(OperatorError, match=r"line 1: a line without answers, .*; remove it\."):
        list(read_ledger(path))


def test_a_missing_ledger_a_folder_and_one_that_cannot_be_written_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"is not there; make one with: deeprag explore --ledger"):
        list(read_ledger(tmp_path / "none.jsonl"))
    with pytest.raises(OperatorError, match=r"cannot be read: Is a directory\."):
        list(read_ledger(tmp_path))
    with pytest.raises(OperatorError, match=r"cannot be written: Is a directory\."):
        Ledger(tmp_path)


_FULL = """
import resource, sys
from deeprag_graph.errors import OperatorError
from deeprag_graph.ledger import Ledger
from tests.test_ledger import record
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
with Ledger(sys.argv[1]) as ledger:
    for n in range(100):
        try:
            ledger.append(record(f"q{n}"))
        except OperatorError as error:
            print(n, error)
            break
"""


def test_a_full_disk_leaves_whole_lines_and_the_run_goes_on_once_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "trees.jsonl"
    command = [sys.executable, "-c", _FULL, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout
    kept = int(told.split()[0])
    assert 0 < kept < 100
    assert f"cannot be written (File too large); mend that and run the same command again: the {kept} questions" in told
    assert ids(path) == [f"q{n}" for n in range(kept)]
    assert path.read_bytes().endswith(b"\n")
    write(path, record("more"))
    assert ids(path)[-1] == "more"


def test_closing_a_ledger_brings_it_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trees.jsonl"
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    write(path, record("a"), record("b"))
    assert synced == [path.stat().st_size]


def test_a_disk_that_fails_late_is_a_sentence_too_and_hides_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OperatorError, match=r"cannot be written \(No space left on device\)"):
        write(tmp_path / "trees.jsonl", record("a"))
    with pytest.raises(KeyError), Ledger(tmp_path / "other.jsonl") as ledger:
        ledger.append(record("a"))
        raise KeyError
