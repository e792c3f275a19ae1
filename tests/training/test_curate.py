"""Curation: which paths of ledgers are kept, which are dropped and why."""

import random
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.worlds import Fact, World, paper_world
from deeprag_graph.explore.tree import trajectory
from deeprag_graph.ledger import Record
from deeprag_graph.transcript import Trajectory, one_line, parse, render
from tests.strategies import bare, complete
from tests.training.records import EASY, GOOD, record_of, searched, step, tree_of, walked
from training.curate import REASONS, TEXT_CHARS, Keep, Reason, Report, Row, choose, curate

KEEPS: tuple[Keep, ...] = ("least", "most", "random")


def curated(records: Iterable[Record], keep: Keep = "least", **options: Any) -> tuple[list[Row], Report]:
    report = Report(keep=keep)
    return list(curate((("a.ledger", record) for record in records), report, **options)), report


def dropped(records: Iterable[Record], **options: Any) -> dict[str, int]:
    report = curated(records, **options)[1]
    assert report.read == report.kept + sum(report.dropped.values())
    return {reason: count for reason, count in report.dropped.items() if count}


# --- what a row is ---


def test_a_row_has_the_trajectory_and_says_where_it_is_from() -> None:
    record = record_of(GOOD, id="h1", dataset="lakes")
    (row,), report = curated([record])
    assert row["trajectory"] == {**GOOD, "steps": [*_without_numbers(GOOD)]}
    row_without = {key: value for key, value in row.items() if key != "trajectory"}
    assert row_without == {
        "id": "h1",
        "dataset": "lakes",
        "question": "Which lake is it?",
        "answers": ["Lorem Lake"],
        "cost": 1,
        "retrievals": 1,
        "steps": 2,
        "stop_reason": "concluded",
        "gold_passages": False,
        "right_paths": 1,
        "keep": "least",
        "ledger": "a.ledger",
        "settings_hash": record["settings_hash"],
    }
    assert (report.read, report.kept, report.retrievals, report.steps) == (1, 1, 1, 2)


def _without_numbers(walk: Trajectory) -> Iterable[Any]:
    for done in walk["steps"]:
        found = [{**p, "id": "p0", "score": None} for p in done["passages"] or []]
        yield {**done, "p_retrieve": None, "passages": found}


def test_the_question_of_the_trajectory_is_one_line_as_in_a_prompt() -> None:
    question = "Which\nlake  <|im_end|> is it?"
    (row,), _ = curated([record_of(walked(step("Which?"), question=question))])
    assert row["question"] == question
    assert row["trajectory"]["question"] == one_line(question)


@given(st.lists(complete, max_size=4), st.sampled_from(KEEPS))
def test_every_kept_trajectory_reads_back_and_the_counts_add_up(walks: list[Trajectory], keep: Keep) -> None:
    rows, report = curated([record_of(walk, id=f"q{n}") for n, walk in enumerate(walks)], keep)
    assert report.read == len(walks) == report.kept + sum(report.dropped.values())
    assert report.kept == len(rows)
    by_id = {f"q{n}": walk for n, walk in enumerate(walks)}
    for row in rows:
        walk = row["trajectory"]
        assert parse(render(walk), walk["question"]) == {**walk, "steps": bare(walk["steps"])}
        original = by_id[row["id"]]
        assert (bare(walk["steps"]), walk["final"]) == (bare(original["steps"]), original["final"])


@given(st.integers(0, 10_000), st.sampled_from(["none", "path", "all"]), st.sampled_from(KEEPS))
def test_searches_in_worlds_give_their_right_paths(seed: int, calibrate: Any, keep: Keep) -> None:
    records = [searched(world, calibrate) for world in paper_world(3, seed)]
    rows, report = curated(records, keep)
    assert report.dropped["unsolved"] == sum(record["outcome"] == "unsolved" for record in records)
    assert report.kept == len(rows) == 3 - report.dropped["unsolved"]
    for row in rows:
        assert row["trajectory"]["final"]["short"] in row["answers"]  # type: ignore[index]
        decisions = [s["decision"] for s in row["trajectory"]["steps"]]
        assert decisions.count("retrieve") == row["retrievals"] >= row["cost"]
        assert keep != "least" or row["retrievals"] == row["cost"]


# --- which path ---


def test_of_several_right_paths_the_least_the_dearest_or_a_drawn_one_is_kept() -> None:
    record = searched(World("w", (EASY, EASY)), "all")
    kept = {keep: curated([record], keep)[0][0] for keep in KEEPS}
    assert (kept["least"]["retrievals"], kept["most"]["retrievals"]) == (0, 2)
    assert {row["right_paths"] for row in kept.values()} == {4}
    assert {row["cost"] for row in kept.values()} == {0}
    drawn = {curated([record], "random", seed=seed)[0][0]["retrievals"] for seed in range(40)}
    assert drawn == {0, 1, 2}


def test_questions_with_a_choice_are_counted() -> None:
    records = [searched(World("one", (EASY,))), searched(World("many", (EASY,)), "all")]
    assert [curated(records, keep)[1].with_choice for keep in KEEPS] == [1, 1, 1]


@given(st.integers(0, 99), st.permutations(range(6)))
def test_a_draw_depends_on_seed_and_id_alone(seed: int, order: list[int]) -> None:
    records = [searched(World(f"w{n}", (EASY, EASY)), "all") for n in range(6)]
    drawn = {record["id"]: choose(record, "random", seed)["id"] for record in records}
    rows, _ = curated([records[n] for n in order], "random", seed=seed)
    assert [row["id"] for row in rows] == [f"w{n}" for n in order]
    for row in rows:
        chosen = records[int(row["id"][1:])]
        assert bare(row["trajectory"]["steps"]) == bare(trajectory(chosen, drawn[row["id"]])["steps"])


# --- what is dropped ---


@pytest.mark.parametrize(
    ("reason", "record"),
    [
        ("unsolved", record_of(outcome="unsolved", best=-1, cost=None)),
        ("failed", record_of(outcome="failed")),
        ("made_to_conclude", record_of() | tree_of(GOOD, stop_reason="max_steps")),
        ("made_to_conclude", record_of() | tree_of(GOOD, stop_reason="repeated_subquery")),
        ("corrected", record_of() | tree_of(GOOD, corrections=["step 2: nothing usable was written"])),
        ("empty_answer", record_of(walked(step("Which lake?", "")))),
        ("malformed", record_of(walked(step("Which lake?"), short=""))),
        ("malformed", record_of(walked(step("Which lake?\nFollow up: Which other?")))),
        ("malformed", record_of(walked(step("Which lake?", "It is.\nSo the final answer is: x")))),
        ("enumerated", record_of(walked(step("Which lake?", "1. Lorem Lake is the largest.")))),
        ("enumerated", record_of(walked(step("Which lake?", "2) Lorem Lake")))),
        ("enumerated", record_of(walked(step("Which lake?", "(3) Lorem Lake")))),
        ("enumerated", record_of(walked(step("Which lakes?", "They are:\n- Lorem Lake\n- Ipsum Lake")))),
        ("enumerated", record_of(walked(step("Which lakes?", "These:\n10. Lorem Lake\n11. Ipsum Lake")))),
        ("too_long", record_of(walked(step("Which lake?", "x" * (TEXT_CHARS + 1))))),
        ("too_long", record_of(walked(step("x" * (TEXT_CHARS + 1))))),
        ("too_long", record_of(walked(step("Which lake?"), short="x" * (TEXT_CHARS + 1)))),
        ("no_passage", record_of(walked(step("Which lake?", passages=[])))),
    ],
)
def test_what_is_not_to_be_imitated_is_dropped(reason: Reason, record: Record) -> None:
    assert dropped([record]) == {reason: 1}


@pytest.mark.parametrize(
    "answer",
    [
        "1.5 million people.",
        "1912",
        "It has two arms.\nThe longer one is Ipsum.",
        "4. Division",
        "Lorem Lake:\n- the largest",
        "x" * TEXT_CHARS,
    ],
)
def test_answers_that_only_look_like_lists_are_kept(answer: str) -> None:
    assert dropped([record_of(walked(step("Which lake?", answer)))]) == {}


def test_every_correction_on_the_path_counts_and_none_beside_it() -> None:
    record = searched(World("w", (EASY, EASY)), "all")
    beside = next(n for n in record["nodes"] if n["action"] == "retrieve")
    beside["corrections"] = ["step 1: nothing usable was written"]
    assert dropped([record]) == {}
    record["nodes"][0]["corrections"] = ["step 1: nothing usable was written"]
    assert dropped([record]) == {"corrected": 1}


def test_what_was_searched_with_gold_passages_is_marked_and_can_be_dropped() -> None:
    records = [record_of(gold_passages=True)]
    (row,), report = curated(records)
    assert (row["gold_passages"], report.with_gold) == (True, 1)
    assert dropped(records, gold=False) == {"gold_passages": 1}


def test_the_path_is_chosen_before_it_is_looked_at() -> None:
    record = searched(World("w", (EASY,)), "all")
    record["nodes"][record["best"]]["stop_reason"] = "max_steps"
    assert dropped([record]) == {"made_to_conclude": 1}
    assert dropped([record], keep="most") == {}


# --- what is there already ---


def test_a_question_is_kept_once_the_first_time_it_is_any_good() -> None:
    asked = [f"{text}" for text in ("Which lake is it?", "which  LAKE is it", "Which lake is it ?")]
    records = [record_of(walked(step(f"No {n}?"), question=q), id=f"q{n}") for n, q in enumerate(asked)]
    records[0]["outcome"] = "unsolved"
    rows, report = curated(records)
    assert [row["id"] for row in rows] == ["q1"]
    assert (report.dropped["unsolved"], report.dropped["duplicate_question"]) == (1, 1)


def test_questions_that_differ_in_a_sign_are_two() -> None:
    records = [record_of(walked(step(f"{q}: who?"), question=q), id=q) for q in ("Who made C?", "Who made C++?")]
    assert dropped(records) == {}


def test_the_same_path_to_another_question_is_dropped_but_not_a_bare_answer() -> None:
    for steps, expected in (([step("Which?")], {"duplicate_path": 1}), ([], {})):
        records = [record_of(walked(*steps, question=f"Question {n}?"), id=f"q{n}") for n in range(2)]
        assert dropped(records) == expected


@given(st.lists(st.integers(0, 3), max_size=8))
def test_no_question_is_kept_twice(numbers: list[int]) -> None:
    records = [searched(World(f"w{n}", (EASY,))) for n in numbers]
    rows, report = curated(records)
    assert [row["id"] for row in rows] == list(dict.fromkeys(f"w{n}" for n in numbers))
    assert report.dropped["duplicate_question"] == len(numbers) - len(rows)


# --- how much is read ---


def test_the_limit_counts_what_is_kept_and_nothing_more_is_read() -> None:
    worlds = [World("a", (EASY,)), World("b", (Fact(False, False),)), World("c", (EASY,)), World("d", (EASY,))]
    records = iter([searched(world) for world in worlds])
    rows, report = curated(records, limit=2)
    assert [row["id"] for row in rows] == ["a", "c"]
    assert (report.read, report.kept, report.dropped["unsolved"]) == (3, 2, 1)
    assert next(records)["id"] == "d"


def test_rows_come_one_at_a_time() -> None:
    def records() -> Iterable[Record]:
        yield searched(World("a", (EASY,)))
        raise AssertionError("read ahead")

    rows = curate((("a.ledger", record) for record in records()), Report(keep="least"))
    assert next(rows)["id"] == "a"


def test_a_report_names_every_reason() -> None:
    assert list(asdict(Report(keep="least"))["dropped"]) == list(REASONS)


def test_a_mix_of_everything_adds_up() -> None:
    draw = random.Random(7)
    good = [record_of(walked(step(f"Which of {n}?"), question=f"Q {n}?"), id=f"q{n}") for n in range(30)]
    outcomes = [draw.choice(["solved", "unsolved", "failed"]) for _ in good]
    records = [cast(Record, {**record, "outcome": o}) for record, o in zip(good, outcomes, strict=True)]
    counted = {reason: outcomes.count(reason) for reason in ("failed", "unsolved")}
    assert dropped([*records, *records]) == {
        **{reason: 2 * count for reason, count in counted.items()},
        "duplicate_question": outcomes.count("solved"),
    }
