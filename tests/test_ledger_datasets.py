"""`datasets.load_dataset("json", ...)` reads ledgers, which it takes the types of from the first 10 MB of a file."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.worlds import Fact, World
from deeprag_graph.ledger import Record, read_ledger
from tests.training.records import EASY, GOOD, record_of, searched, write_ledger

datasets = pytest.importorskip("datasets")
UNSOLVED = searched(World("no", (Fact(False, False),) * 4))
SOLVED = searched(World("yes", (EASY, Fact(False, True))))
LARGE = 11_000_000


def load(path: Path, **options: Any) -> Any:
    cache = str(path.parent / "cache")
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache, **options)


def unsolved() -> Iterator[Record]:
    """Yield lines without cost and without any probability of retrieving, each a question of its own."""
    for n in itertools.count():
        yield cast(Record, {**UNSOLVED, "id": f"u{n}"})


def large_ledger(path: Path) -> Path:
    """Write a ledger whose first solved question comes after the first 10 MB."""
    line = json.dumps(UNSOLVED, ensure_ascii=False, separators=(",", ":"))
    lines = LARGE // len(line.encode()) + 1
    return write_ledger(path, [*itertools.islice(unsolved(), lines), SOLVED, record_of(GOOD, id="last")])


def test_a_ledger_is_a_dataset_and_nothing_is_lost(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "a.ledger", [SOLVED, UNSOLVED, record_of(GOOD, id="last")])
    assert list(load(ledger)) == list(read_ledger(ledger))


def test_also_where_the_first_lines_have_neither_cost_nor_probability(tmp_path: Path) -> None:
    lines = [*itertools.islice(unsolved(), 100), SOLVED, record_of(GOOD, id="last")]
    ledger = write_ledger(tmp_path / "a.ledger", lines)
    found = load(ledger)
    assert [found[n]["cost"] for n in (0, 99, 100, 101)] == [None, None, 1, 1]
    assert [found[n]["nodes"][0]["p_retrieve"] for n in (0, 100, 101)] == [None, None, 0.25]


def test_more_than_ten_megabytes_of_these_load_with_a_chunk_that_holds_the_file(tmp_path: Path) -> None:
    ledger = large_ledger(tmp_path / "a.ledger")
    assert ledger.stat().st_size > LARGE
    found = load(ledger, chunksize=ledger.stat().st_size)
    assert [found[n]["cost"] for n in (0, len(found) - 2, len(found) - 1)] == [None, 1, 1]
    assert found[len(found) - 1]["nodes"][0]["p_retrieve"] == 0.25


@pytest.mark.xfail(
    raises=datasets.exceptions.DatasetGenerationError,
    strict=True,
    reason="datasets 5.2: a column that is null in the first 10 MB is null for good",
)
def test_more_than_ten_megabytes_of_these_load_as_they_are(tmp_path: Path) -> None:
    assert load(large_ledger(tmp_path / "a.ledger"))[-1]["cost"] == 1
