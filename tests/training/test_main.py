"""`python -m training curate`: the file, the report and the exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.worlds import Fact, World, paper_world
from deeprag_graph.ledger import Record
from tests.training.records import EASY, GOOD, record_of, searched, step, walked, write_ledger
from training import curate as module
from training.__main__ import main


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    records = [searched(World(f"w{n}", (EASY, EASY)), "all") for n in range(3)]
    return write_ledger(tmp_path / "a.ledger", [*records, searched(World("no", (Fact(False, False),)))])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that is the operator's mistake, and return its sentence."""
    assert main(["curate", *map(str, arguments)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("python -m training: ")
    return said[-1]


def test_the_file_has_a_line_a_trajectory_and_people_are_told_what_was_dropped(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folder" / "stage1.jsonl"
    assert main(["curate", str(ledger), "--out", str(out)]) == 0
    assert [row["id"] for row in rows(out)] == ["w0", "w1", "w2"]
    assert {row["ledger"] for row in rows(out)} == {"a.ledger"}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split()[0] for line in shown.err.splitlines()] == ["4", "1", "3", "0.00", "3"]
    assert "dropped: no right path was found" in shown.err
    assert list(out.parent.iterdir()) == [out]


def test_the_report_as_json_adds_up(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", str(ledger), str(ledger), "--out", str(tmp_path / "o"), "--keep", "most", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["read"] == 8 == report["kept"] + sum(report["dropped"].values())
    assert (report["keep"], report["with_choice"], report["retrievals"]) == ("most", 3, 6)
    assert (report["dropped"]["unsolved"], report["dropped"]["duplicate_question"]) == (2, 3)


@pytest.mark.parametrize("keep", ["least", "most", "random"])
def test_the_same_input_gives_the_same_bytes(ledger: Path, tmp_path: Path, keep: str) -> None:
    for name in ("one", "two"):
        assert main(["curate", str(ledger), "--out", str(tmp_path / name), "--keep", keep, "--seed", "3"]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_limit_and_no_gold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [searched(World(f"w{n}", (EASY,))) for n in range(4)]
    records[0]["gold_passages"] = records[2]["gold_passages"] = True
    ledger, out = write_ledger(tmp_path / "a.ledger", records), tmp_path / "out"
    assert main(["curate", str(ledger), "--out", str(out), "--limit", "3"]) == 0
    assert [row["gold_passages"] for row in rows(out)] == [True, False, True]
    assert "2  searched with the gold passages" in capsys.readouterr().err
    assert main(["curate", str(ledger), "--out", str(out), "--no-gold"]) == 0
    assert [row["id"] for row in rows(out)] == ["w1", "w3"]


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (record_of(outcome="unsolved", best=-1, cost=None), "There is no solved question in "),
        (record_of(walked(step("Which lake?", "1. Lorem Lake"))), "None of the 1 solved questions in "),
        (None, "There is no solved question in "),
    ],
)
def test_nothing_to_keep_is_reported_and_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record: Record | None, sentence: str
) -> None:
    ledger, out = write_ledger(tmp_path / "a.ledger", [record] if record else []), tmp_path / "out"
    out.write_text("as before")
    assert main(["curate", str(ledger), "--out", str(out), "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["read"] == (record is not None)
    assert f"{sentence}{ledger}" in shown.err.splitlines()[-1]
    assert out.read_text() == "as before"
    assert sorted(tmp_path.iterdir()) == [ledger, out]


def test_mistakes_are_one_sentence_each_and_write_nothing(
    ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other, blocked = tmp_path / "out", tmp_path / "other", tmp_path / "file"
    other.write_text('{"schema_version": 99}\n')
    blocked.write_text("")
    assert "is not there" in refused(capsys, tmp_path / "none", "--out", out)
    assert "schema version 99" in refused(capsys, ledger, other, "--out", out)
    assert "cannot be read" in refused(capsys, tmp_path, "--out", out)
    assert "is a ledger" in refused(capsys, ledger, "--out", ledger)
    assert "is no file" in refused(capsys, ledger, "--out", tmp_path)
    assert "cannot be written" in refused(capsys, ledger, "--out", blocked / "out")
    assert sorted(tmp_path.iterdir()) == sorted([ledger, other, blocked])
    ledger.write_text(ledger.read_text() + "{}\n")
    assert "line 5: no line of a ledger" in refused(capsys, ledger, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments", [[], ["a"], ["a", "--out", "b", "--keep", "best"], ["a", "--out", "b", "--limit", "0"]]
)
def test_a_wrong_flag_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["curate", *arguments])
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_what_breaks_off_half_way_leaves_no_file(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_new", stop)
    assert main(["curate", str(ledger), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "python -m training: stopped\n"
    assert list(tmp_path.iterdir()) == [ledger]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_ledger_that_comes_through_a_pipe_is_read_whole(ledger: Path, tmp_path: Path) -> None:
    command = f"cat {ledger} | {sys.executable} -m training curate /dev/stdin --out {tmp_path / 'out'}"
    subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert [row["id"] for row in rows(tmp_path / "out")] == ["w0", "w1", "w2"]


def test_help_teaches_when_there_is_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["curate", "--help"])
    assert end.value.code == 0
    assert "--calibrate all" in capsys.readouterr().out


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ("torch", "datasets", "openai", "pyarrow", "transformers")
    code = f"import training.__main__, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def without_numbers(n: int) -> Record:
    """Return the line of a search by a policy without probabilities, with a retriever without scores."""
    wide = step(f"Which lake is number {n}?", passages=["lake " * 799 + "x"] * 2)
    record = record_of(walked(wide, question=f"Which is number {n}?"), id=f"f{n}")
    for node in record["nodes"]:
        node["p_retrieve"], node["scores"] = None, [None] * len(node["scores"])
    return record


def test_the_file_is_a_dataset_also_where_its_first_ten_megabytes_have_no_probabilities(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    first = write_ledger(tmp_path / "a.ledger", map(without_numbers, range(1_500)))
    second = write_ledger(tmp_path / "b.ledger", [*map(searched, paper_world(60)), record_of(GOOD, id="last")])
    out = tmp_path / "out.jsonl"
    assert main(["curate", str(first), str(second), "--out", str(out)]) == 0
    assert out.stat().st_size > 11_000_000
    found = datasets.load_dataset("json", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == len(rows(out))
    assert (found[0], found[len(found) - 1]) == (rows(out)[0], rows(out)[-1])
