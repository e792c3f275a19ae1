"""Turn text into the terms of the `english` analysis: word breaks, possessives, lower case, stop words, Porter stems.

The index and the query go through the same `analyze`, and Elasticsearch's `english` analyzer gives the same terms, so
the two engines rank alike.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import groupby

import Stemmer  # type: ignore[import-not-found]  # PyStemmer comes without types

LONGEST_TERM = 255  # characters; a longer word is cut into pieces of this length, as Lucene does
SETTINGS = {
    "name": "english",
    "steps": ["unicode words", "possessive", "lower case", "33 stop words", "porter"],
    "longest_term": LONGEST_TERM,
}
_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Strings of which the terms are kept: in two lots, those of late and those before, for words and for what stands
# between white space. 300 MB when all four are full.
_KEPT = 500_000
_LONGEST_KEPT = 40  # characters


def analyze(text: str) -> list[str]:
    """Return the terms of `text` in their order, repeated as often as they occur; [] if it holds no word.

    A term never holds white space, is never empty and has at most 255 characters.
    """
    return analyze_joined(text).split()


def analyze_joined(text: str) -> str:
    """Return the terms of `text` with one or more blanks between them: the form in which the index takes them."""
    # No word goes across white space, and to look up what stands between is three times as fast as to find the words.
    return " ".join(map(_terms_of_chunk.__getitem__, text.split()))


class _Terms(dict[str, str]):
    """From a string to its terms joined by blanks, "" for none, as `find` finds them; keeps what was used of late."""

    def __init__(self, find: Callable[[str], str]) -> None:
        self._find = find
        self._older: dict[str, str] = {}

    def __missing__(self, text: str) -> str:
        if (terms := self._older.get(text)) is None:
            terms = self._find(text)
        if len(text) <= _LONGEST_KEPT:
            if len(self) >= _KEPT:
                self._older = dict(self)
                self.clear()
            self[text] = terms
        return terms


def _chunk_terms(chunk: str) -> str:
    """Return the terms of what stands between white space, such as "(sailing-boats)."."""
    word = chunk.strip("()[].,;:!?\"'")
    if word.isascii() and word.isalnum():  # most are: the pattern below finds the same word, five times as slowly
        return _terms_of_word[word]
    return " ".join(filter(None, map(_terms_of_word.__getitem__, _WORD.findall(chunk))))


def _word_terms(word: str) -> str:
    """Return the term of a word; several joined by blanks for an overlong one."""
    pieces = [word[start : start + LONGEST_TERM] for start in range(0, len(word), LONGEST_TERM)]
    return " ".join(filter(None, map(_term, pieces)))


def _term(word: str) -> str:
    """Return the term of one word, or "" if it has none (a stop word, underscores alone)."""
    if word[-2:] in ("'s", "'S", "’s", "’S", "＇s", "＇S"):
        word = word[:-2]
    if not word.strip("_"):
        return ""
    # Character by character, as Java does it: İ becomes i alone, and a Σ at the end of a word stays σ.
    word = word.lower() if word.isascii() else "".join(character.lower()[0] for character in word)
    return "" if word in STOP_WORDS else stem(word)


def stem(word: str) -> str:
    """Return the Porter stem of a lower-case word, with Porter's own later corrections, which Snowball's lacks.

    These are: words of one or two letters stay as they are, and two more rules in step 2, -logi → -log and -bli → -ble
    (where Porter's measure of what stands before is not 0). And step 1b undoubles any consonant but l, s and z, where
    Snowball's has a list: trekking → trek.
    """
    if len(word) <= 2:
        return word
    if (
        ("bl" in word or "log" in word)
        and (match := _LATER_RULES.fullmatch(word))
        and _MEASURE_ABOVE_0.search(match["before"])
    ):
        word = match["before"] + ("log" if match["suffix"] == "log" else "ble")
    elif (
        ("ed" in word or "ing" in word)
        and (match := _DOUBLE_CONSONANT.fullmatch(word))
        and _VOWEL.search(match["before"])
    ):
        word = match["before"]
    stemmed: str = _porter.stemWord(word)
    return stemmed


# Every form that steps 1a to 1c bring to -logi or -bli: -y, -ys, -i, -is, -ies, -yed, -ied, -ying …
_LATER_RULES = re.compile(r"(?P<before>.+)(?P<suffix>log|bl)(?:ys?|i(?:s|es)?|[iy](?:ed|ing)s?)", re.DOTALL)
_DOUBLE_CONSONANT = re.compile(r"(?P<before>.+([^aeiouylszbdfgmnprt]))\2(?:ed|ing)s?", re.DOTALL)
_VOWEL = re.compile("[aeiou]|[^aeiou]y")
# A vowel and a consonant after it; y is a vowel after a consonant.
_MEASURE_ABOVE_0 = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiou]")


def _characters(*categories: str) -> str:
    """Return the characters of these Unicode categories as ranges for a regular expression's [ ]."""
    codes = (code for code in range(0x20000) if unicodedata.category(chr(code)) in categories)
    ranges = ([code for _, code in run] for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0]))
    return "".join(f"{re.escape(chr(run[0]))}-{re.escape(chr(run[-1]))}" for run in ranges)


def _word_pattern() -> re.Pattern[str]:
    """Return the pattern of a word (Unicode's default word breaks, UAX #29).

    Each repetition is atomic, so the time is linear in the text, whatever it holds.
    """
    joined = _characters("Mn", "Mc", "Me", "Cf").replace("\u200b-\u200f", "\u200c-\u200f") + "\U0001f3fb-\U0001f3ff"
    marks = f"[{joined}]*+"
    hiragana = "\u3041-\u3096\u309d-\u309f"
    katakana = (
        "\u3031-\u3035\u309b-\u309c\u30a0-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357\uff66-\uff9f"
    )
    ideographs = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    ideographs += "\U00020000-\U0003ffff"
    pictures = (
        "©®‼⁉™ℹ↔-↙↩↪⌚⌛⌨⎈⏏⏩-⏳⏸-⏺▪▫▶◀◻-◾☀-★☇-☒☔-⚅⚐-✅✈-✒✔✖✝✡✨✳✴❄❇❌❎❓-❕❗❣-❧➕-➗➡➰➿⤴⤵⬅-⬇⬛⬜⭐⭕〰〽㊗㊙"
    )
    pictures += (
        "\U0001f000-\U0001f0ff\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f680-\U0001f6ff\U0001f90c-\U0001faff"
    )
    letter = rf"[^\W\d_{_characters('No')}{hiragana}{katakana}{ideographs}]{marks}"
    digit = rf"\d{marks}"
    in_both = ".'’‘․\ufe52\uff07\uff0e"
    in_letters = f"[{in_both}:·\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a]"
    in_digits = f"[{in_both},;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b]"
    hebrew = "[\u05d0-\u05ea\u05ef-\u05f2\ufb1d\ufb1f-\ufb28\ufb2a-\ufb4f]"
    in_hebrew = f'(?<={hebrew})"(?={hebrew})'
    letters = f"(?>(?:{letter})++(?:(?:{in_letters}{marks}|{in_hebrew})(?:{letter})++)*+(?:(?<={hebrew})')?+)"
    digits = f"(?>(?:{digit})++(?:{in_digits}{marks}(?:{digit})++)*+)"
    word = f"(?:{letters}|{digits}|_{marks})++"
    picture = f"[{pictures}]{marks}(?:(?<=\u200d)[{pictures}]{marks})*+"
    flag = "[\U0001f1e6-\U0001f1ff]{2}"
    return re.compile(f"{word}|(?:[{katakana}]{marks})++|[{hiragana}{ideographs}]{marks}|{picture}|{flag}")


_WORD = _word_pattern()
_porter = Stemmer.Stemmer("porter", 0)  # no cache of its own: _Terms is one
_terms_of_word = _Terms(_word_terms)
_terms_of_chunk = _Terms(_chunk_terms)
