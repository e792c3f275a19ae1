"""All real passages and dev questions, in both engines by one command each: they rank alike."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deeprag_graph.questions import read_questions
from deeprag_graph.retrieval import Corpus, Hit, open_index

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> Path:
    if not (folder := os.environ.get("DEEPRAG_DATA")):
        reason = "DEEPRAG_DATA is not set: the folder with corpora/ and questions/"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(folder)


def index(files: list[Path], out: str) -> dict[str, Any]:
    """Build by the command, as a person would, and print how long it took."""
    command = [sys.executable, "-m", "deeprag_graph", "index", *map(str, files), "--out", out, "--json"]
    built: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"{out}: {built['passages']:,} passages, {built['passages'] / built['seconds']:,.0f} a second")
    return built


def test_both_engines_hold_all_passages_and_rank_the_dev_questions_alike(
    data: Path, address: str, tmp_path: Path
) -> None:
    files = sorted((data / "corpora").glob("*.tsv.gz"))
    expected = sum(1 for _ in Corpus(files))
    for place in (str(tmp_path / "index"), address):
        built = index(files, place)
        assert (built["passages"], built["skipped"]) == (expected, 0)
    paths = sorted((data / "questions").glob("*-dev.jsonl"))
    questions = [question["question"] for path in paths for question in read_questions(path)]
    found = []
    for place in (str(tmp_path / "index"), address):
        began = time.monotonic()
        found.append(open_index(place).search_many(questions, 3))
        print(f"{place}: {1000 * (time.monotonic() - began) / len(questions):.2f} ms a question")
    _compare(questions, *found)


def _compare(questions: list[str], ours: list[list[Hit]], theirs: list[list[Hit]]) -> None:
    tied = differ = 0
    furthest = 0.0
    for question, one, other in zip(questions, ours, theirs, strict=True):
        if [hit.id for hit in one] == [hit.id for hit in other]:
            furthest = max([furthest, *(abs(a.score / b.score - 1) for a, b in zip(one, other, strict=True))])
        elif {hit.score for hit in one} == {hit.score for hit in other}:
            tied += 1
        else:
            differ += 1
            print(question, [(hit.id, hit.score) for hit in one], [(hit.id, hit.score) for hit in other])
    same = len(questions) - tied - differ
    print(
        f"the same ordered top 3 for {same:,} of {len(questions):,} questions, {tied} tied, {differ} differ; "
        f"scores within {furthest:.1e}"
    )
    assert same >= 0.998 * (len(questions) - tied)
    assert furthest <= 1e-3
