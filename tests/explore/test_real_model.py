"""Exploration with a real model over a real index: questions end in trees, and right paths are what they claim."""

import json

import pytest

from deeprag_graph import starter_questions
from deeprag_graph.cli import main
from deeprag_graph.explore.calibration import pairs
from deeprag_graph.explore.tree import path, trajectory
from deeprag_graph.ledger import Record, read_ledger
from deeprag_graph.matching import exact_match
from deeprag_graph.transcript import parse, render

pytestmark = [pytest.mark.slow, pytest.mark.model]
QUESTIONS = 6  # two of each number of hops


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("explored")
    questions = starter_questions()
    chosen = questions[:: len(questions) // QUESTIONS][:QUESTIONS]
    file, ledger = folder / "questions.jsonl", folder / "trees.jsonl"
    file.write_text("".join(f"{json.dumps(question)}\n" for question in chosen))
    flags = ["--concurrency", "2", "--max-steps", "4", "--max-llm-calls", "16", "--calibrate", "path"]
    assert main(["explore", "--questions", str(file), "--ledger", str(ledger), *flags]) == 0
    return list(read_ledger(ledger))


def test_every_question_has_a_tree_and_some_are_solved(records: list[Record]) -> None:
    print("\n".join(f"{r['outcome']} at {r['cost']}, {r['usage']['llm_calls']} calls: {r['id']}" for r in records))
    assert len(records) == QUESTIONS
    assert {record["outcome"] for record in records} <= {"solved", "unsolved"}
    assert sum(record["outcome"] == "solved" for record in records) >= QUESTIONS // 3
    assert all(record["usage"]["llm_calls"] <= 16 for record in records)


def test_a_right_path_is_right_costs_what_it_says_and_reads_back(records: list[Record]) -> None:
    for record in records:
        if record["outcome"] != "solved":
            continue
        found = trajectory(record, record["best"])
        assert found["final"] is not None
        assert exact_match(found["final"]["short"], record["answers"])
        assert sum(step["decision"] == "retrieve" for step in found["steps"]) == record["cost"]
        text = render(found)
        assert render(parse(text, found["question"])) == text
        cheaper = [node for node in record["nodes"] if node["cost"] < (record["cost"] or 0)]
        assert not any(node["outcome"] == "right" for node in cheaper)


def test_each_subquery_of_a_right_path_gives_a_pair(records: list[Record]) -> None:
    for record in records:
        if record["outcome"] == "solved":
            assert len(pairs(record, "path")) == len(path(record, record["best"])) - 1


def test_probabilities_are_known_where_the_model_has_decided(records: list[Record]) -> None:
    asked = [node for record in records for node in record["nodes"] if node["written"]]
    assert asked
    assert all(0 <= (node["p_retrieve"] or 0) <= 1 for node in asked)
    assert sum(node["p_retrieve"] is not None for node in asked) > len(asked) / 2
