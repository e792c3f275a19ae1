"""Passages of our own: invented islands, ships and trades, as many as a test wants, with some that score alike."""

import json
import random
from collections.abc import Iterable
from pathlib import Path

_ISLANDS = ["Orra", "Tolle", "Vask", "Hemmen", "Sildra", "Quorn", "Ambel", "Nerevy", "Ossgard", "Pellan"]
_TRADES = ["rope", "salt", "lantern", "ferry", "timber", "wool", "herring", "glass", "copper", "clock"]
_VERBS = ["carried", "traded", "repaired", "counted", "painted", "guarded", "measured", "bought", "weighed", "buried"]
_THINGS = [
    "barrels",
    "charts",
    "anchors",
    "bells",
    "maps",
    "engines",
    "technologies",
    "assemblies",
    "towers",
    "the",
    "ledgers",
    "of",
    "the",
    "harbour",
]

Row = tuple[str, str, str]


def rows(count: int, seed: int = 1) -> list[Row]:
    """Return so many passages: id, title, text; every tenth is word for word like the one before it."""
    chance = random.Random(seed)
    found: list[Row] = []
    for number in range(count):
        if number % 10 == 9:
            found.append((f"p{number}", *found[-1][1:]))
            continue
        island, trade = chance.choice(_ISLANDS), chance.choice(_TRADES)
        words = [chance.choice((*_VERBS, *_THINGS, *_ISLANDS, *_TRADES)) for _ in range(chance.randint(4, 40))]
        found.append((f"p{number}", f"{island} {trade}", f"{island}'s {trade} was {' '.join(words)}."))
    return found


def queries(count: int, seed: int = 2) -> list[str]:
    """Return so many questions about them."""
    chance = random.Random(seed)
    words = (*_VERBS, *_THINGS, *_ISLANDS, *_TRADES)
    return [f"Who {chance.choice(_VERBS)} {' '.join(chance.choices(words, k=4))}?" for _ in range(count)]


def write(file: Path, passages: Iterable[Row]) -> None:
    """Write passages as JSON lines."""
    lines = (json.dumps({"id": id, "title": title, "text": text}) for id, title, text in passages)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
