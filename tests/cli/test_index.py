"""`deeprag index`: what is built, what is skipped and named, and what a person reads when it cannot be."""

import gzip
import json
from pathlib import Path

import pytest

from deeprag_graph.cli import main
from deeprag_graph.retrieval import BM25Index

TSV = "id\ttext\ttitle\n1\tThe Lanna flows through Ostervik.\tLanna\n2\tOstervik has mills.\tOstervik\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    file = tmp_path / "passages.tsv"
    file.write_text(TSV)
    return file


def test_an_index_is_built_and_searched(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(corpus), "--out", str(tmp_path / "index")]) == 0
    shown = capsys.readouterr()
    assert "2 passages" in shown.out
    assert "Indexing" in shown.err
    assert BM25Index.open(tmp_path / "index").search("Which river flows through Ostervik?", 1)[0].id == "1"


def test_gzip_and_jsonl_are_read_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(TSV.encode()))
    (tmp_path / "b.jsonl").write_text('{"id": "3", "title": "Seld", "text": "The Seld is a river."}\n')
    files = [str(tmp_path / "a.tsv.gz"), str(tmp_path / "b.jsonl")]
    assert main(["index", *files, "--out", str(tmp_path / "index"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passages"] == 3


def test_malformed_lines_are_skipped_counted_and_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with corpus.open("a") as file:
        file.write("only one column\n")
    assert main(["index", str(corpus), "--out", str(tmp_path / "index"), "--json"]) == 0
    shown = capsys.readouterr()
    assert f"{corpus}, line 4: not 3 columns" in shown.err
    assert json.loads(shown.out)["lines"] == [{"file": str(corpus), "line": 4, "reason": "not 3 columns"}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "is not there"), (b"", "is empty"), (b"id\ttext\ttitle\n", "no passages"), (b"name,text\n1,x\n", "id")],
)
def test_a_file_without_passages_is_one_sentence_and_nothing_is_written(
    content: bytes | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "passages.tsv"
    if content is not None:
        file.write_bytes(content)
    assert main(["index", str(file), "--out", str(tmp_path / "index")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("deeprag: ")
    assert sentence in message.lower()
    assert [entry.name for entry in tmp_path.iterdir()] == ([file.name] if content is not None else [])


def test_passages_are_added_to_an_index(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more, out = tmp_path / "more.tsv", str(tmp_path / "index")
    more.write_text("id\ttext\ttitle\n2\tagain\t\n3\tThe Seld is a river.\tSeld\n")
    assert main(["index", str(more), "--out", out, "--append"]) == 2
    assert "There is no index at" in capsys.readouterr().err
    assert main(["index", str(corpus), "--out", out]) == 0
    assert main(["index", str(more), "--out", out, "--append"]) == 0
    assert "3 passages in" in (shown := capsys.readouterr()).out
    assert "(1 of them new), 1 lines skipped" in shown.out
    assert "id seen before" in shown.err
