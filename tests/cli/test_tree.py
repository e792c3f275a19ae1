"""`deeprag tree`: a page of a question or of the ledger, the same in the terminal, and a sentence for each mistake."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from deeprag_graph.cli import main
from deeprag_graph.ledger import Record
from tests.pages.reader import Reader
from tests.pages.records import SETTINGS, bridge, chain, hostile, record


def write(path: Path, records: Iterable[Record]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "trees.jsonl", [bridge(), chain(3)])


def test_a_question_has_a_page_named_for_it(ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", ledger, "--question", "bridge"]) == 0
    assert capsys.readouterr().out == "The page is in tree-bridge.html; open it in a browser.\n"
    page = (tmp_path / "tree-bridge.html").read_text(encoding="utf-8")
    assert "retrieve the Ems optimal path" in Reader(page).text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tree-bridge.html", "trees.jsonl"]


def test_without_a_question_the_page_sums_up_the_ledger(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tree", ledger]) == 0
    assert "trees.html" in capsys.readouterr().out
    assert "Solved2 (100 %)" in Reader((tmp_path / "trees.html").read_text(encoding="utf-8")).text


def test_the_page_goes_where_it_is_told_and_replaces_what_was_there(ledger: str, tmp_path: Path) -> None:
    out = tmp_path / "pages" / "a.html"
    for question in ("bridge", "chain"):
        assert main(["tree", ledger, "--question", question, "--out", str(out)]) == 0
    assert "What comes after 0?" in out.read_text(encoding="utf-8")
    assert [file.name for file in out.parent.iterdir()] == ["a.html"]


@pytest.mark.parametrize("more", [[], ["--question", "bridge"]])
def test_standard_output_takes_the_page_alone(ledger: str, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", ledger, *more, "--out", "-"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!DOCTYPE html>\n")
    assert out.endswith("</html>\n")


def test_an_id_that_is_no_file_name_still_names_a_page_in_this_folder(tmp_path: Path, ledger: str) -> None:
    write(tmp_path / "odd.jsonl", [record([], id="../../a b"), record([], id="…"), hostile()])
    for id in ("../../a b", "…", hostile()["id"]):
        assert main(["tree", "odd.jsonl", "--question", id]) == 0
    names = {file.name for file in tmp_path.glob("*.html")}
    assert len(names) == 3
    assert {"tree-a-b.html", "tree-question.html"} < names


def test_a_question_is_drawn_in_the_terminal(
    ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in (50, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["tree", ledger, "--question", "bridge", "--text"]) == 0
        shown = capsys.readouterr().out
        assert "└─ * retrieve → the Ems" in shown
        assert max(map(len, shown.splitlines())) <= columns


def test_the_ledger_is_listed_in_the_terminal_with_its_figures(
    ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["tree", ledger, "--text"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "bridge  solved, cost 1  Into which sea does the river under"
    assert shown[1].startswith("chain  solved, cost 3  Into")
    assert shown[2] == "2 solved (100 %), 0 unsolved (0 %), 0 failed (0 %) of 2 questions"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trees.jsonl", "--text", "--out", "a.html"], "--text prints in the terminal: leave out --out."),
        (["nowhere.jsonl"], "nowhere.jsonl is not there; make one with: deeprag explore --ledger nowhere.jsonl"),
        (["notes.txt"], "notes.txt, line 1: no line of a ledger"),
        (["empty.jsonl"], "empty.jsonl has no finished question yet; add some with: deeprag explore"),
        (["trees.jsonl", "--out", "trees.jsonl"], "trees.jsonl is the ledger itself"),
        (["trees.jsonl", "--out", "."], ". is a folder; name a file in it with --out."),
        (["trees.jsonl", "--out", "notes.txt/a.html"], "notes.txt/a.html cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    arguments: list[str], sentence: str, ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no ledger\n")
    (tmp_path / "empty.jsonl").touch()
    assert main(["tree", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["empty.jsonl", "notes.txt", "trees.jsonl"]


@pytest.mark.parametrize("more", [[], ["--text"]])
def test_an_unknown_question_names_a_close_one_and_how_to_list_them(
    more: list[str], ledger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tree", ledger, "--question", "brigde", *more]) == 2
    sentence = f"has no question 'brigde'; did you mean 'bridge'? List them with: deeprag tree {ledger} --text\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert main(["tree", ledger, "--question", "42", *more]) == 2
    assert "has no question '42'. List them with" in capsys.readouterr().err


def test_a_ledger_that_is_being_written_is_drawn_without_its_torn_line(
    ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "trees.jsonl").open("a") as file:
        file.write('{"schema_version": 1, "id": "to')
    assert main(["tree", ledger, "--text"]) == 0
    assert "of 2 questions" in capsys.readouterr().out


def test_settings_are_shown_on_both_pages(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--question", "chain"]):
        assert main(["tree", ledger, *more, "--out", "-"]) == 0
        assert f"policy{SETTINGS['policy']}" in Reader(capsys.readouterr().out).text
