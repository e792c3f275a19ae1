"""The real passages and questions that the retrieval benchmarks run over, and corpora of any size made from them.

The folder, `--data` or DEEPRAG_DATA, holds corpora/NAME.tsv.gz, passages in DPR's format, and questions/NAME-dev.jsonl.
"""

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from deeprag_graph.errors import OperatorError
from deeprag_graph.questions import Question, read_questions
from deeprag_graph.retrieval import Corpus, Passage

_EVERY = 5  # of a copy's words one in so many is another's


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--data`, which DEEPRAG_DATA may stand in for."""
    default = os.environ.get("DEEPRAG_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=default,
        required=not default,
        help="folder with corpora/ and questions/ (default: DEEPRAG_DATA)",
    )


def corpus_files(data: Path) -> list[Path]:
    """Return the files of passages, in the order of their names; `OperatorError` if there are none."""
    return _files(data / "corpora", "*.tsv.gz")


def dev_questions(data: Path) -> dict[str, list[Question]]:
    """Return the dev questions of each set by its name; `OperatorError` if there are none."""
    return {
        file.name.removesuffix("-dev.jsonl"): read_questions(file) for file in _files(data / "questions", "*-dev.jsonl")
    }


def write_passages(real: Sequence[Path], count: int, out: Path) -> None:
    """Write `count` passages to the TSV `out`: the real ones first, then copies of them in turns, each of its own kind.

    In a copy every fifth word of the text is another, drawn from all texts, so that words stay as frequent as they are;
    one word of the title is another, and half of the titles have one more. The numbers are the ids. The same passages
    come each time, and of two sizes the smaller is the beginning of the larger.
    """
    partial = out.with_name(f"{out.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(("id", "text", "title"))
        rows.writerows(
            (id, text, title) for id, (text, title) in zip(range(1, count + 1), _endless(real), strict=False)
        )
    partial.rename(out)


def _endless(real: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Give the text and the title of the real passages once, then those of their copies without end."""
    passages = list(Corpus(real))
    yield from ((passage.text, passage.title) for passage in passages)
    text_words = [word for passage in passages[::7] for word in passage.text.split()]
    title_words = [word for passage in passages for word in passage.title.split()]
    random = Random(0)
    while True:
        yield from (_copy(passage, text_words, title_words, random) for passage in passages)


def _copy(passage: Passage, text_words: list[str], title_words: list[str], random: Random) -> tuple[str, str]:
    text, title = passage.text.split(), passage.title.split() or [""]
    places = slice(random.randrange(_EVERY), None, _EVERY)
    text[places] = random.choices(text_words, k=len(text[places]))
    title[random.randrange(len(title))] = random.choice(title_words)
    if random.random() < 0.5:
        title.append(random.choice(title_words))
    return " ".join(text), " ".join(title)


def _files(folder: Path, pattern: str) -> list[Path]:
    if files := sorted(folder.glob(pattern)):
        return files
    raise OperatorError(f"There is no {pattern} in {folder}; name the folder of the data with --data or DEEPRAG_DATA.")
