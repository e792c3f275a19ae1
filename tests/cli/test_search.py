"""`deeprag search`: what is found is shown, explained, counted against the gold passages, or printed as JSON."""

import json
from pathlib import Path

import pytest

from deeprag_graph.cli import main
from deeprag_graph.retrieval import build_index

TSV = """id\ttext\ttitle
1\tThe Lanna flows through Ostervik.\tLanna
2\tOstervik has mills.\tOstervik
3\tThe Seld is a river.\t
"""


@pytest.fixture
def index(tmp_path: Path) -> str:
    (tmp_path / "passages.tsv").write_text(TSV)
    build_index([tmp_path / "passages.tsv"], tmp_path / "index")
    return str(tmp_path / "index")


def test_passages_come_with_rank_score_title_id_and_text(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "mills", "of", "Ostervik", "--index", index]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "1"
    assert lines[0].endswith("Ostervik  (id 2)")
    assert lines[1].strip() == "Ostervik has mills."
    assert len(lines) == 4


def test_without_an_index_the_starter_corpus_is_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "painter of The Goldfinch", "--k", "1"]) == 0
    assert "The Goldfinch (painting)" in capsys.readouterr().out


def test_an_explanation_shows_both_fields_and_each_term(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "mills of Ostervik", "--index", index, "--k", "1", "--explain"]) == 0
    shown = capsys.readouterr().out
    assert "= text " in shown
    assert "+ ½ × title " in shown
    assert "mill " in shown
    assert "2 passages have it" in shown


def test_json_is_one_object_with_the_passages(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "Lanna", "--index", index, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == "Lanna"
    assert [passage.keys() for passage in found["passages"]] == [{"id", "title", "text", "score"}]
    assert main(["search", "Lanna", "--index", index, "--json", "--explain"]) == 0
    terms = json.loads(capsys.readouterr().out)["passages"][0]["terms"]
    assert {term["field"] for term in terms} == {"title", "text"}


def test_questions_are_searched_in_their_order_and_gold_passages_counted(
    index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = [
        {"id": "a", "question": "Which river flows through Ostervik?", "supporting_ids": [1, 3]},
        {"id": "b", "question": "Who is Zyzzyva?", "supporting_ids": [2]},
    ]
    file = tmp_path / "dev.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in questions))
    assert main(["search", "--questions", str(file), "--index", index, "--k", "1", "--json"]) == 0
    shown = capsys.readouterr()
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert [(line["id"], [passage["id"] for passage in line["passages"]]) for line in found] == [
        ("a", ["1"]),
        ("b", []),
    ]
    assert "gold passages in the first 1: 1 of 3" in shown.err
    assert main(["search", "--questions", str(file), "--index", index]) == 0
    assert "No passage holds a word of 'Who is Zyzzyva?'." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a query, or a file with --questions"),
        (["a", "--questions", "dev.jsonl"], "Give a query, or a file with --questions"),
        (["a", "--index", "nowhere"], "There is no index at"),
        (["--questions", "nowhere.jsonl"], "nowhere.jsonl is not there"),
        (["--questions", "dev.jsonl", "--explain"], "--explain goes with one query"),
        (["a", "--limit", "3"], "--limit goes with --questions"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_markers_and_line_breaks_in_a_passage_stay_on_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passage = {"id": "x", "title": "a\nb", "text": "lamp\x1b[31m\n  9  99.000  fake\r" + "y" * 500}
    (tmp_path / "p.jsonl").write_text(json.dumps(passage))
    build_index([tmp_path / "p.jsonl"], tmp_path / "index")
    assert main(["search", "lamp", "--index", str(tmp_path / "index")]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert shown.endswith(" …\n")
