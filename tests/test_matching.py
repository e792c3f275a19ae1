"""Matching answers: HotpotQA's normalisation, exact match over aliases, and F1 over words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.matching import F1_THRESHOLD, MatchMode, exact_match, f1, matches, normalise

MODES: tuple[MatchMode, ...] = ("exact", "substring", "f1")
ANSWERS = st.lists(
    st.sampled_from(["the", "A", "red", "Red,", "boat", "boats", "yes", "No.", "1,850"]), max_size=5
).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("The  Red\tBoat.", "red boat"),
        ("an apple a day", "apple day"),
        ("Theatre and Anna", "theatre and anna"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("1,850", "1850"),
        ("well-known", "wellknown"),
        ("A.", ""),
        ("Ærø – isle", "ærø – isle"),  # other punctuation than ASCII's stays, as in HotpotQA's evaluation
    ],
)
def test_normalising_drops_case_articles_punctuation_and_extra_white_space(answer: str, form: str) -> None:
    assert normalise(answer) == form


@given(st.text())
def test_a_normal_form_has_single_blanks_and_no_ascii_capitals_or_full_stops(answer: str) -> None:
    form = normalise(answer)
    assert form == " ".join(form.split())
    assert not set(form) & set("ABCXYZ.,!")


def test_any_alias_matches_and_a_part_of_one_does_not() -> None:
    assert exact_match("the red boat", ["Blue Boat", "Red boat!"])
    assert not exact_match("red", ["Blue Boat", "Red boat!"])
    assert not exact_match("red boat", [])


@pytest.mark.parametrize(
    "prediction",
    [
        "",
        " \n",
    ],
)
def test_an_empty_prediction_never_matches(prediction: str) -> None:
    assert not exact_match(prediction, ["", " ", "the"])


def test_an_answer_of_articles_or_punctuation_alone_matches_itself_only() -> None:
    assert exact_match(" the the", ["The The"])
    assert exact_match("!!!", ["!!!"])
    assert not exact_match("The", ["A", "!!!"])


@pytest.mark.parametrize(
    ("prediction", "answers", "score"),
    [
        ("red boat", ["the red boat"], 1.0),
        ("red boat", ["red"], 2 / 3),  # precision 1/2, recall 1
        ("red red boat", ["red red house"], 2 / 3),  # a word counts as often as both have it
        ("red red", ["red"], 2 / 3),
        ("boat", ["house"], 0.0),
        ("boat", ["house", "boat house"], 2 / 3),  # the best alias
        ("", [""], 0.0),
        ("boat", [], 0.0),
    ],
)
def test_f1_over_words_by_hand(prediction: str, answers: list[str], score: float) -> None:
    assert f1(prediction, answers) == pytest.approx(score)


@pytest.mark.parametrize("closed", ["yes", "No.", "noanswer"])
def test_yes_no_and_noanswer_score_only_with_themselves(closed: str) -> None:
    assert f1(closed, [f"{closed} indeed"]) == 0
    assert f1(f"{closed} indeed", [closed]) == 0
    assert f1(closed, [closed.upper()]) == 1
    assert f1(f"{closed} indeed", [f"{closed} maybe"]) == 0.5  # two longer answers are as any other


@given(ANSWERS, ANSWERS)
def test_f1_is_symmetric_and_between_0_and_1(one: str, other: str) -> None:
    assert 0 <= f1(one, [other]) <= 1
    assert f1(one, [other]) == f1(other, [one])


@given(ANSWERS.filter(normalise), st.lists(ANSWERS))
def test_f1_is_1_exactly_where_the_same_words_match(answer: str, aliases: list[str]) -> None:
    assert exact_match(answer, [*aliases, answer])
    assert f1(answer, [*aliases, answer]) == 1
    if exact_match(answer, aliases):
        assert f1(answer, aliases) == 1


# --- what counts as right ---


@pytest.mark.parametrize(
    ("prediction", "modes"),
    [
        ("The Red Boat.", {"exact", "substring", "f1"}),
        ("blue house", {"exact", "substring", "f1"}),  # an alias
        ("a small red boat", {"substring", "f1"}),  # F1 0.8
        ("it is a very small red boat", {"substring"}),
        ("boat, red", {"f1"}),  # words in another order
        ("red", set()),  # a part of an answer is none
        ("bored boat", set()),  # nor is a part of a word
        ("red boats", set()),
        ("", set()),
    ],
)
def test_each_matching_takes_what_it_says(prediction: str, modes: set[str]) -> None:
    assert {mode for mode in MODES if matches(prediction, ["red boat", "the blue house"], mode)} == modes


def test_matching_is_exact_unless_told_otherwise() -> None:
    assert matches("red boat", ["Red boat"])
    assert not matches("small red boat", ["red boat"])


@pytest.mark.parametrize(("threshold", "right"), [(0.5, True), (2 / 3, True), (0.67, False), (1.0, False)])
def test_the_f1_threshold_is_the_least_that_is_right(threshold: float, right: bool) -> None:
    assert matches("red", ["red boat"], "f1", threshold) == right  # precision 1, recall 1/2


def test_yes_and_no_match_themselves_alone_by_f1_and_any_sentence_with_the_word_by_substring() -> None:
    assert not matches("yes indeed", ["yes"], "f1", 0.1)
    assert matches("Yes, indeed", ["yes"], "substring")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prediction", ["", " ", "\n\t"])
def test_an_empty_prediction_is_never_right(mode: MatchMode, prediction: str) -> None:
    assert not matches(prediction, ["", " ", "the", "red"], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("answers", [[""], [" "], ["the"], ["..."], []])
def test_an_answer_with_nothing_left_of_it_is_not_in_every_prediction(mode: MatchMode, answers: list[str]) -> None:
    assert not matches("red boat", answers, mode)


@given(ANSWERS, st.lists(ANSWERS), st.sampled_from(MODES))
def test_whatever_is_exactly_right_is_right_and_an_alias_more_takes_nothing_away(
    prediction: str, answers: list[str], mode: MatchMode
) -> None:
    if exact_match(prediction, answers):
        assert matches(prediction, answers, mode)
    if matches(prediction, answers, mode):
        assert matches(prediction, [*answers, "another"], mode)


@given(ANSWERS, ANSWERS, ANSWERS.filter(normalise))
def test_an_answer_is_found_wherever_it_stands_in_a_prediction(before: str, after: str, answer: str) -> None:
    assert matches(f"{before} {answer} {after}", [answer], "substring")


@given(ANSWERS, st.lists(ANSWERS), st.floats(0.01, 1))
def test_matching_by_f1_is_f1_at_the_threshold(prediction: str, answers: list[str], threshold: float) -> None:
    expected = f1(prediction, answers) >= threshold or exact_match(prediction, answers)
    assert matches(prediction, answers, "f1", threshold) == expected
    assert matches(prediction, answers, "f1") == matches(prediction, answers, "f1", F1_THRESHOLD)
