"""Does an answer match the gold ones? Exact match and F1 over words, counted as HotpotQA's evaluation does."""

import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

MatchMode = Literal["exact", "substring", "f1"]
F1_THRESHOLD: Final = 0.8

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CLOSED = frozenset({"yes", "no", "noanswer"})  # answers that are right or wrong, never partly right


def normalise(answer: str) -> str:
    """Return `answer` in lower case, without ASCII punctuation, the articles a, an and the, and extra white space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Whether `prediction`, normalised, is one of `answers` (the gold answer and its aliases).

    An empty prediction never matches. Where nothing is left of one (vitamin "A", the band "The The"), it has to be the
    answer as it stands but for case.
    """
    form = normalise(prediction)
    if not form:
        plain = prediction.strip().lower()
        return bool(plain) and any(plain == answer.strip().lower() for answer in answers)
    return any(form == normalise(answer) for answer in answers)


def matches(
    prediction: str, answers: Iterable[str], mode: MatchMode = "exact", f1_threshold: float = F1_THRESHOLD
) -> bool:
    """Whether `prediction` counts as one of `answers`; an empty one never does.

    `exact` is `exact_match`. `substring` also takes a prediction that holds all words of an answer in a row (not the
    other way round, which an answer of one letter would pass). `f1` takes an F1 of at least `f1_threshold`.
    """
    answers = list(answers)
    if exact_match(prediction, answers):
        return True
    if mode == "substring":
        return any(form and f" {form} " in f" {normalise(prediction)} " for form in map(normalise, answers))
    return mode == "f1" and f1(prediction, answers) >= f1_threshold


def f1(prediction: str, answers: Iterable[str]) -> float:
    """Return the best F1 over words, 0 to 1, of `prediction` with one of `answers`; 0 without answers.

    Yes, no and noanswer score only with themselves.
    """
    return max((_f1(normalise(prediction), normalise(answer)) for answer in answers), default=0.0)


def _f1(prediction: str, answer: str) -> float:
    if prediction != answer and not _CLOSED.isdisjoint((prediction, answer)):
        return 0.0
    words, gold = prediction.split(), answer.split()
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold)) if common else 0.0
