"""Real questions over real passages with the real local model: the command line, as a person runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deeprag_graph import Context, starter_questions
from deeprag_graph.ledger import read_ledger
from deeprag_graph.matching import exact_match, f1
from deeprag_graph.questions import read_questions

pytestmark = [pytest.mark.slow, pytest.mark.model]

QUESTIONS = 20


def deeprag(*arguments: str) -> str:
    """Run the command and return its standard output; its progress goes where this test's goes."""
    command = [sys.executable, "-m", "deeprag_graph", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_the_starter_question_of_the_readme_is_answered_with_its_narrative() -> None:
    told = deeprag("ask", "In which village was the painter of The Goldfinch born?")
    print(told)
    assert "Answer: Middenbeemster" in told
    assert "searches" in told
    assert "Carel Fabritius" in told


def test_starter_questions_of_one_two_and_three_hops_are_answered(tmp_path: Path) -> None:
    chosen = starter_questions()[::6]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in chosen))
    records = _ask(tmp_path / "questions.jsonl")
    _report("starter", records, {q["id"]: q["answers"] for q in chosen})
    assert len(records) == len(chosen)


def test_hotpotqa_dev_questions_are_answered_over_its_own_passages(tmp_path: Path) -> None:
    index = _hotpotqa(tmp_path)
    file = tmp_path / "hotpotqa" / "dev.jsonl"
    records = _ask(file, "--limit", str(QUESTIONS), "--index", str(index))
    _report("HotpotQA dev", records, {q["id"]: q["answers"] for q in read_questions(file)})
    assert len(records) == QUESTIONS


def test_hotpotqa_train_questions_are_explored_and_none_fails(tmp_path: Path) -> None:
    index, ledger = _hotpotqa(tmp_path), tmp_path / "trees.jsonl"
    file = tmp_path / "hotpotqa" / "train.jsonl"
    bounds = ["--max-steps", "4", "--max-llm-calls", "24", "--limit", "6", "--concurrency", "2"]
    told = deeprag("explore", "--questions", str(file), "--index", str(index), "--ledger", str(ledger), *bounds)
    print(told)
    assert {record["outcome"] for record in read_ledger(ledger)} <= {"solved", "unsolved"}
    assert "of 6 questions" in told


def _hotpotqa(folder: Path) -> Path:
    """Return the index of HotpotQA's passages, or skip."""
    if not os.environ.get("DEEPRAG_DATA"):
        reason = "DEEPRAG_DATA is not set: the folder that holds HotpotQA"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    deeprag("data", "hotpotqa", "--out", str(folder / "hotpotqa"))
    deeprag("index", str(folder / "hotpotqa" / "passages.tsv.gz"), "--out", str(folder / "index"))
    return folder / "index"


def _ask(file: Path, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in deeprag("ask", "--questions", str(file), "--json", *arguments).splitlines()]


def _report(name: str, records: list[dict[str, Any]], gold: dict[str, list[str]]) -> None:
    """Print score and calls; whatever a small model answers, every question ends within its budgets."""
    right = sum(exact_match(r["answer"], gold[r["id"]]) for r in records)
    words = sum(f1(r["answer"], gold[r["id"]]) for r in records) / len(records)
    calls, retrievals = (sum(r["usage"][key] for r in records) for key in ("llm_calls", "retrievals"))
    seconds = sum(r["usage"]["seconds"] for r in records)
    least = sum(r["usage"]["llm_calls"] == r["usage"]["retrievals"] + 1 for r in records)
    for r in records:
        mark = "right" if exact_match(r["answer"], gold[r["id"]]) else "wrong"
        print(f"{mark}: {r['question']} | gold: {gold[r['id']][0]} | answer: {r['answer']} | {r['stop_reason']}")
    print(
        f"{name}: {len(records)} questions, exact match {right / len(records):.0%}, F1 {words:.2f}, "
        f"{calls} model calls, {retrievals} retrievals, {seconds:.0f} s; "
        f"{least} answers cost exactly retrievals + 1 calls"
    )
    for record in records:
        assert record["stop_reason"] not in ("policy_failed", "invalid_question"), record["error"]
        assert record["answer"], record["question"]
        assert record["usage"]["llm_calls"] <= Context().max_llm_calls
    assert least > len(records) / 2, "the model follows the format: most answers cost the least number of calls"
    assert right > 0, "not one answer in all is right"
