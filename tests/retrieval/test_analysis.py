"""The terms of the `english` analysis: the cases in which it differs from splitting at blanks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.retrieval import analysis
from deeprag_graph.retrieval.analysis import LONGEST_TERM, analyze, analyze_joined, stem


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The lighthouse keepers' lamps", ["lighthous", "keeper", "lamp"]),
        ("Anna's and Ben’s CAT'S", ["anna", "ben", "cat"]),
        ("to be or not to be", []),
        ("", []),
        (" \t\n…—!?", []),
    ],
)
def test_words_are_lowered_stemmed_and_freed_of_possessives_and_stop_words(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("U.S.A. o'clock don’t n:o", ["u.s.a", "o'clock", "don’t", "n:o"]),
        ("3.14 1,000,000 3:2 1;2", ["3.14", "1,000,000", "3", "2", "1;2"]),
        ("x.5 5.x b.c1.2", ["x", "5", "5", "x", "b.c1.2"]),
        ("well-known and/or C++", ["well", "known", "c"]),
        ("snake_case __x__ ___", ["snake_cas", "__x__"]),
        ("東京 ひら カタカナ ア・イ", ["東", "京", "ひ", "ら", "カタカナ", "ア", "イ"]),
        ("x² ⅓ ①", ["x"]),
        ("Acme® 🎉 ✓", ["acm", "®", "🎉"]),
        ("nai\u0308ve", ["nai\u0308v"]),
        ("one\u200btwo", ["on", "two"]),
        ("İzmir ΣΟΦΟΣ", ["izmir", "σοφοσ"]),
        ("""צה"ל "שלום" ר' א"1""", ['צה"ל', "שלום", "ר'", "א", "1"]),
    ],
)
def test_words_break_where_unicode_says(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("technology", "technolog"),
        ("technologies", "technolog"),
        ("trilogy", "trilogi"),
        ("biology", "biologi"),
        ("theology", "theologi"),
        ("assembly", "assembl"),
        ("assemblies", "assembl"),
        ("possibly", "possibl"),
        ("responsibly", "respons"),
        ("nobly", "nobli"),
        ("ghibli", "ghibli"),
        ("relational", "relat"),
        ("trekking", "trek"),
        ("revved", "rev"),
        ("hopping", "hop"),
        ("falling", "fall"),
        ("as", "as"),
        ("us", "us"),
        ("skies", "ski"),
    ],
)
def test_stems_are_porters_with_his_later_corrections(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


def test_an_overlong_word_is_cut_into_pieces() -> None:
    assert list(map(len, analyze("x" * 600))) == [255, 255, 90]


@given(st.text())
def test_terms_are_never_empty_never_hold_white_space_and_are_lower_case(text: str) -> None:
    terms = analyze(text)
    assert terms == [term for term in analyze_joined(text).split(" ") if term]
    assert all(0 < len(term) <= LONGEST_TERM and not term.isspace() and len(term.split()) == 1 for term in terms)


@given(st.text(), st.text())
def test_texts_with_a_blank_between_them_are_analysed_each_for_itself(one: str, other: str) -> None:
    assert analyze(f"{one} {other}") == analyze(one) + analyze(other)


@pytest.mark.parametrize(
    "text", ["_" * 300_000, "a." * 300_000, "_\u0308" * 300_000, "\u0308" * 300_000, "a" * 600_000]
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    analyze(text)


@given(st.text() | st.text(alphabet="a.'’:,;_ \u0308\u200d\u00a0\u2028\x1c1b°ƒİΣ中かカ🇳🇱🏽", max_size=40))
def test_words_found_between_white_space_are_those_found_in_the_whole_text(text: str) -> None:
    whole = [term for word in analysis._WORD.findall(text) for term in analysis._word_terms(word).split()]
    assert analyze(text) == whole


def test_a_full_dictionary_is_begun_anew_and_keeps_what_was_used_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_KEPT", 3)
    asked: list[str] = []

    def find(text: str) -> str:
        asked.append(text)
        return text.upper()

    terms = analysis._Terms(find)
    for text in "abcabdabea":
        assert terms[text] == text.upper()
    assert asked == ["a", "b", "c", "d", "e"]
