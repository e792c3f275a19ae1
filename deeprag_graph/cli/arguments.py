"""Kinds of arguments that several commands take."""

import argparse
import math


def positive(text: str) -> int:
    """Return the whole number from 1 on that `text` is."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return the seconds, none or more, that `text` is."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"seconds, a number from 0 on, not {text!r}")
    return value
