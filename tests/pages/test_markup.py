"""HTML by `element`: whatever is not HTML already is text, in content and in attributes, and harms nothing."""

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.pages.markup import Html, element, escape, page, quoted
from tests.pages.reader import Reader
from tests.pages.records import HOSTILE
from tests.strategies import hostile


def test_strings_are_escaped_and_html_is_not() -> None:
    assert element("p", "a < b", element("b", "&"), class_="x") == '<p class="x">a &lt; b<b>&amp;</b></p>'


def test_strings_in_lists_and_generators_are_escaped_too() -> None:
    assert element("p", ["<", Html("<br>")], (text for text in ("'", '"'))) == "<p>&lt;<br>&#x27;&quot;</p>"


def test_attributes_are_named_as_in_html() -> None:
    made = element("button", aria_label='"x"', data_show="all", hidden=True, open=False, id=None, tabindex=-1)
    assert made == '<button aria-label="&quot;x&quot;" data-show="all" hidden tabindex="-1"></button>'


def test_an_element_without_content_has_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\r", "\x85", "\u202e", "\u2066", "\ud800", "\uffff"])
def test_characters_that_harm_a_page_are_replaced(character: str) -> None:
    assert escape(f"a{character}b") == "a\ufffdb"


def test_other_scripts_and_line_breaks_stay() -> None:
    text = "Straße, 東京\nעברית\u200f 👩\u200d🔬"
    assert escape(text) == text


def test_an_endless_text_is_cut_and_says_so() -> None:
    shown = escape("x" * 1_000_000)
    assert len(shown) < 21_000
    assert shown.endswith("… (1,000,000 characters)")


@given(hostile | st.just(HOSTILE))
def test_any_text_comes_back_as_text_from_content_and_attributes(text: str) -> None:
    read = Reader(element("p", quoted(text), title=text))
    assert [name for name, _ in read.elements] == ["p", "bdi"]
    assert read.text == read.all("p")[0]["title"]
    assert len(read.text) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", read.text)


@pytest.mark.parametrize("script", ["tree.js", "summary.js"])
def test_only_the_style_and_the_script_of_the_page_may_run(script: str) -> None:
    read = Reader(page("a", element("p", "b"), script=script, style=".c{top:0}\n"))
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for name, text in (("style-src", read.style), ("script-src", read.script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert read.style.endswith(".c{top:0}\n")


@pytest.mark.parametrize("script", ["tree.js", "summary.js"])
def test_a_page_names_nothing_outside_of_it(script: str) -> None:
    text = page("a", script=script)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"(?m)^ *//.*$", "", text))
