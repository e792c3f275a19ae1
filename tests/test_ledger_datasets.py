"""`datasets.load_dataset("json", ...)` reads ledgers, which it takes the types of from the first 10 MB of a file."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.worlds import Fact, World
from deeprag_graph.ledger import Record, ledger_features, read_ledger
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


@pytest.mark.parametrize("features", [None, ledger_features()], ids=["guessed", "given"])
def test_with_its_features_a_large_ledger_loads_whatever_its_first_lines_lack(tmp_path: Path, features: Any) -> None:
    path = large_ledger(tmp_path / "a.ledger")
    assert path.stat().st_size > LARGE
    if features is None:
        with pytest.raises(datasets.exceptions.DatasetGenerationError):
            load(path)
        return
    found = load(path, features=features)
    assert [found[n]["cost"] for n in (0, len(found) - 2, len(found) - 1)] == [None, 1, 1]
    assert found[len(found) - 1]["nodes"][0]["p_retrieve"] == 0.25


def test_with_their_features_ledgers_of_other_settings_load_together(tmp_path: Path) -> None:
    other = cast(Record, {**record_of(GOOD, id="other"), "settings": {"of": "another release"}})
    paths = [write_ledger(tmp_path / "a", [UNSOLVED]), write_ledger(tmp_path / "b", [other])]
    files = {"data_files": [str(path) for path in paths], "split": "train", "cache_dir": str(tmp_path / "cache")}
    found = datasets.load_dataset("json", **files, features=ledger_features())
    assert [row["cost"] for row in found] == [None, other["cost"]]
