"""`deeprag data`: what it prints where, and what it asks for."""

import argparse
import gzip
import hashlib
import json
from pathlib import Path

import pytest

from deeprag_graph.cli import data
from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import BM25Index


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "qa"
    (root / "corpora").mkdir(parents=True)
    (root / "questions").mkdir()
    (root / "corpora" / "popqa.tsv.gz").write_bytes(gzip.compress(b"id\ttext\ttitle\n1\tThe lamp is lit.\tLamp\n"))
    (root / "corpora" / "wikipedia.tsv.gz").write_bytes((root / "corpora" / "popqa.tsv.gz").read_bytes())
    for name in ("popqa", "bamboogle"):
        lines = [json.dumps({"id": n, "question": "Is it lit?", "answers": ["yes"]}) + "\n" for n in range(1200)]
        (root / "questions" / f"{name}-dev.jsonl").write_text("".join(lines))
    monkeypatch.setenv("DEEPRAG_DATA", str(root))


def deeprag(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="deeprag")
    data.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *arguments])
    return int(args.run(args))


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_it_prints_files_and_counts_and_the_next_command_and_keeps_the_bars_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert deeprag("popqa", "--out", str(out)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"popqa from {tmp_path / 'qa'}",
        f"  {out / 'passages.tsv.gz'}: 1 passages, SHA-256 {digest(out / 'passages.tsv.gz')}",
        f"  {out / 'dev.jsonl'}: 1,200 questions, SHA-256 {digest(out / 'dev.jsonl')}",
        f"Index the passages with: deeprag index {out / 'passages.tsv.gz'} --out INDEX",
    ]
    assert "dev.jsonl" in printed.err


def test_run_again_it_says_that_the_set_is_there_and_with_force_it_fetches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("popqa", "--out", str(tmp_path / "out"))
    deeprag(*arguments)
    capsys.readouterr()
    deeprag(*arguments)
    printed = capsys.readouterr()
    assert "is there already (--force: fetch again)" in printed.out
    assert printed.err == ""
    deeprag(*arguments, "--force")
    assert "already" not in capsys.readouterr().out


def test_a_limit_takes_the_first_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deeprag("popqa", "--out", str(tmp_path / "out"), "--limit", "7") == 0
    assert f"{tmp_path / 'out' / 'dev.jsonl'}: 7 questions" in capsys.readouterr().out
    for wrong in ("0", "-1", "some"):
        with pytest.raises(SystemExit):
            deeprag("popqa", "--out", str(tmp_path / "out"), "--limit", wrong)


@pytest.mark.parametrize("name", ["popqa", "wikipedia"])
def test_the_passages_are_indexed_if_asked_for_even_where_they_are_there_already(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ("one", "other"):
        place = tmp_path / "out" / target
        assert deeprag(name, "--out", str(tmp_path / "out"), "--index", str(place)) == 0
        printed = capsys.readouterr()
        assert ("is there already" in printed.out) == (target == "other")
        assert f"1 passages in {place}" in printed.out
        assert f"--index {place}" in printed.out
        assert "Index the passages" not in printed.out
        assert "Indexing" in printed.err
        assert BM25Index.open(place).search("Is the lamp lit?", 1)[0].title == "Lamp"


def test_what_has_no_passages_is_not_indexed(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="bamboogle has no passages to index"):
        deeprag("bamboogle", "--out", str(tmp_path / "out"), "--index", str(tmp_path / "index"))
    assert not (tmp_path / "index").exists()


def test_wikipedia_has_passages_alone_and_no_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OperatorError, match="leave out --limit"):
        deeprag("wikipedia", "--out", str(tmp_path / "out"), "--limit", "7")
    deeprag("wikipedia", "--out", str(tmp_path / "out"))
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"  {tmp_path / 'out' / 'passages.tsv.gz'}: 1 passages, SHA-256 {digest(tmp_path / 'out' / 'passages.tsv.gz')}",
        f"Index the passages with: deeprag index {tmp_path / 'out' / 'passages.tsv.gz'} --out INDEX",
    ]


def test_a_set_without_passages_hints_at_asking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deeprag("bamboogle", "--out", str(tmp_path / "out"))
    assert f"deeprag ask --questions {tmp_path / 'out' / 'dev.jsonl'} --index INDEX" in capsys.readouterr().out


def test_a_mistake_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="choose one of hotpotqa"):
        deeprag("popqq", "--out", str(tmp_path / "out"))


def test_help_names_the_sets_the_folder_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        deeprag("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "hotpotqa, 2wikimultihopqa, musique" in shown
    assert "DEEPRAG_DATA" in shown
    assert "same command goes on from there" in " ".join(shown.split())
    assert "deeprag data wikipedia --out wikipedia --index wikipedia/index" in shown
    assert shown.count("deeprag data ") >= 3  # the usage and two examples


def test_a_place_that_no_index_can_take_is_found_out_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OperatorError, match="is there already and is not an index"):
        deeprag("wikipedia", "--out", str(tmp_path / "out"), "--index", str(tmp_path / "thesis.txt"))
    for place in ("out", "out/passages.tsv.gz"):
        with pytest.raises(OperatorError, match=r"--index must be a place of its own, for example .*out/index"):
            deeprag("wikipedia", "--out", str(tmp_path / "out"), "--index", str(tmp_path / place))
    assert not (tmp_path / "out").exists()
