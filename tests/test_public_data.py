"""Fetching data from a folder, from the hub in its own shapes, from a server; what is refused; own invented data."""

import gzip
import hashlib
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset  # type: ignore[import-untyped]

from deeprag_graph import download, public_data
from deeprag_graph.errors import OperatorError
from deeprag_graph.public_data import fetch
from deeprag_graph.questions import read_questions
from deeprag_graph.retrieval.corpus import Corpus
from tests.file_server import FileServer

LAMP, KEEPER, QUAY = "The lamp of Ekholm is lit. Ole tends it.", 'Ole is "the keeper".', "A quay of stone."


def hotpot_row(id: str, titles: list[str], gold: list[str], **more: Any) -> dict[str, Any]:
    texts = {
        "Lamp": ["The lamp of Ekholm is lit.", " Ole tends it."],  # the blank as in HotpotQA: before the sentence
        "Rope &amp; Keeper": ['Ole is "the\tkeeper".'],
        "Quay": ["A quay of stone."],
        "Nothing": [" "],
    }
    return {
        "id": id,
        "question": f" Question {id}?\n",
        "answer": "Ole",
        "type": "bridge",
        "supporting_facts": {"title": gold, "sent_id": [0] * len(gold)},
        "context": {"title": titles, "sentences": [texts[title] for title in titles]},
        **more,
    }


def musique_row() -> dict[str, Any]:
    def paragraph(idx: int, title: str, text: str, gold: bool) -> dict[str, Any]:
        return {"idx": idx, "title": title, "paragraph_text": text, "is_supporting": gold}

    return {
        "id": "2hop__1_2",
        "question": "Who tends the lamp of the town with the quay?",
        "answer": "Ole",
        "answer_aliases": ["Ole the keeper", "Ole"],
        "answerable": True,
        "paragraphs": [
            paragraph(0, "Ole", "Ole tends the lamp.", True),
            paragraph(1, "Ole", "Ole is also a name.", False),
            paragraph(2, "Quay", "Ekholm has a quay.", True),
        ],
        "question_decomposition": [
            {"id": 1, "question": "Which town?", "answer": "Ekholm", "paragraph_support_idx": 2},
            {"id": 2, "question": "Who tends the lamp of #1?", "answer": "Ole", "paragraph_support_idx": 0},
        ],
    }


Hub = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub that holds the given splits, and notes what it was asked for."""

    def start(**splits: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def load(repo: str, config: str | None, *, split: str, revision: str) -> Dataset:
            asked.append((repo, config, split))
            assert len(revision) == 40
            return Dataset.from_list(splits[split])

        monkeypatch.delenv("DEEPRAG_DATA", raising=False)
        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
        monkeypatch.setattr("datasets.load_dataset", load)
        return asked

    return start


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data with popqa (passages and questions) and bamboogle (questions alone)."""
    root = tmp_path / "qa"
    (root / "corpora").mkdir(parents=True)
    (root / "questions").mkdir()
    passages = f"id\ttext\ttitle\n7\t{LAMP}\tLamp\n8\t{QUAY}\tQuay\n"
    (root / "corpora" / "popqa.tsv.gz").write_bytes(gzip.compress(passages.encode()))
    rows = [{"id": f"p{n}", "question": f"Question {n}?", "answers": ["Ole"], "supporting_ids": [7]} for n in range(3)]
    for file in ("popqa-train", "popqa-dev", "bamboogle-dev"):
        (root / "questions" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DEEPRAG_DATA", str(root))
    return root


def packed_passages(count: int) -> bytes:
    """Return passages that hardly pack, so that they take some time to come."""
    rng = random.Random(count)
    lines = [f"{n}\t{rng.randbytes(40).hex()}\tPage {n}\n" for n in range(1, count + 1)]
    return gzip.compress("".join(["id\ttext\ttitle\n", *lines]).encode(), mtime=0)


PAGES = 20_000
WIKIPEDIA = packed_passages(PAGES)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of invented passages in the place of Wikipedia's, after whose failures nobody waits."""
    monkeypatch.delenv("DEEPRAG_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    with FileServer(WIKIPEDIA) as server:
        monkeypatch.setattr(public_data, "WIKIPEDIA_URL", server.url)
        yield server


def refusal(name: str, out: Path, **options: Any) -> str:
    with pytest.raises(OperatorError) as caught:
        fetch(name, out, **options)
    return str(caught.value)


def passages(out: Path) -> list[tuple[str, str, str]]:
    return [(p.id, p.title, p.text) for p in Corpus([out / "passages.tsv.gz"])]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_hotpotqa_gives_each_passage_once_and_questions_that_point_at_them(tmp_path: Path, hub: Hub) -> None:
    asked = hub(
        train=[hotpot_row("a", ["Lamp", "Rope &amp; Keeper"], ["Rope &amp; Keeper", "Lamp", "Lamp"], level="hard")],
        validation=[hotpot_row("b", ["Quay", "Nothing", "Lamp"], ["Lamp"], level="easy")],
    )
    fetched = fetch("hotpotqa", tmp_path / "out")

    assert {split for _, _, split in asked} == {"train", "validation"}
    assert {(repo, config) for repo, config, _ in asked} == {("hotpotqa/hotpot_qa", "distractor")}
    assert passages(tmp_path / "out") == [("1", "Lamp", LAMP), ("2", "Rope & Keeper", KEEPER), ("3", "Quay", QUAY)]
    assert read_questions(tmp_path / "out" / "train.jsonl") == [
        {
            "id": "a",
            "question": "Question a?",
            "answers": ["Ole"],
            "supporting_titles": ["Rope & Keeper", "Lamp"],
            "supporting_ids": [2, 1],
            "context_ids": [1, 2],
            "type": "bridge",
            "level": "hard",
            "dataset": "hotpotqa",
        }
    ]
    assert read_questions(tmp_path / "out" / "dev.jsonl")[0].items() >= {"id": "b", "context_ids": [3, 1]}.items()
    assert {file.name: count for file, count in fetched.files.items()} == {
        "passages.tsv.gz": 3,
        "train.jsonl": 1,
        "dev.jsonl": 1,
    }
    assert "huggingface.co/datasets/hotpotqa/hotpot_qa" in fetched.source


def test_2wikimultihopqa_has_the_shape_of_hotpotqa_without_a_level(tmp_path: Path, hub: Hub) -> None:
    rows = [hotpot_row("a", ["Lamp", "Quay"], ["Quay"])]
    asked = hub(train=rows, validation=rows)
    fetch("2wikimultihopqa", tmp_path / "out")
    assert asked[0][0] == "framolfese/2WikiMultihopQA"
    question = read_questions(tmp_path / "out" / "dev.jsonl")[0]
    assert question.items() >= {"supporting_ids": [2], "type": "bridge", "dataset": "2wikimultihopqa"}.items()
    assert "level" not in question


def test_musique_gives_aliases_and_gold_passages_in_the_order_of_the_sub_questions(tmp_path: Path, hub: Hub) -> None:
    asked = hub(train=[musique_row()], validation=[musique_row()])
    fetch("musique", tmp_path / "out")
    assert asked[0][0] == "dgslibisey/MuSiQue"
    assert [title for _, title, _ in passages(tmp_path / "out")] == ["Ole", "Ole", "Quay"]  # one title, two texts
    question: Any = read_questions(tmp_path / "out" / "dev.jsonl")[0]
    assert question["answers"] == ["Ole", "Ole the keeper"]
    assert (question["supporting_titles"], question["supporting_ids"]) == (["Quay", "Ole"], [3, 1])
    assert (question["context_ids"], question["type"], question["hops"]) == ([1, 2, 3], "2hop", 2)
    assert question["decomposition"][1] == {
        "question": "Who tends the lamp of #1?",
        "answer": "Ole",
        "supporting_id": 1,
        "supporting_title": "Ole",
    }


def test_a_limit_takes_the_first_questions_and_their_passages(tmp_path: Path, hub: Hub) -> None:
    rows = [hotpot_row("a", ["Lamp"], ["Lamp"]), hotpot_row("b", ["Quay"], ["Quay"])]
    hub(train=rows, validation=rows)
    fetch("hotpotqa", tmp_path / "out", limit=1)
    assert [q["id"] for q in read_questions(tmp_path / "out" / "train.jsonl")] == ["a"]
    assert [title for _, title, _ in passages(tmp_path / "out")] == ["Lamp"]
    assert "the first 1 questions" in refusal("hotpotqa", tmp_path / "out")  # the whole set is another one


def test_the_same_rows_give_the_same_bytes(tmp_path: Path, hub: Hub) -> None:
    rows = [hotpot_row("a", ["Lamp", "Quay"], ["Lamp"])]
    hub(train=rows, validation=rows)
    fetch("hotpotqa", tmp_path / "one")
    fetch("hotpotqa", tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_folder_gives_its_passages_and_questions_as_they_are(tmp_path: Path, folder: Path) -> None:
    fetched = fetch("popqa", tmp_path / "new" / "out")
    assert {file.name: count for file, count in fetched.files.items()} == {
        "passages.tsv.gz": 2,
        "train.jsonl": 3,
        "dev.jsonl": 3,
    }
    assert fetched.fresh
    assert fetched.source == str(folder)
    assert fetched.sha256 == {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in fetched.files}
    held = contents(tmp_path / "new" / "out")
    assert held["passages.tsv.gz"] == (folder / "corpora" / "popqa.tsv.gz").read_bytes()
    assert held["dev.jsonl"] == (folder / "questions" / "popqa-dev.jsonl").read_bytes()


def test_a_set_without_passages_gives_its_questions(tmp_path: Path, folder: Path) -> None:
    assert [file.name for file in fetch("bamboogle", tmp_path / "out").files] == ["dev.jsonl"]


def test_a_set_that_is_there_is_left_alone_and_fetched_again_when_forced(tmp_path: Path, folder: Path) -> None:
    first = fetch("popqa", tmp_path / "out")
    (folder / "questions" / "popqa-dev.jsonl").write_text('{"id": "new", "question": "Another?"}\n')
    again = fetch("popqa", tmp_path / "out")
    assert (again.fresh, again.files) == (False, first.files)
    assert len(read_questions(tmp_path / "out" / "dev.jsonl")) == 3

    forced = fetch("popqa", tmp_path / "out", force=True)
    assert forced.fresh
    assert [q["id"] for q in read_questions(tmp_path / "out" / "dev.jsonl")] == ["new"]


def test_a_folder_of_an_earlier_release_that_has_no_digests_is_there_too(tmp_path: Path, folder: Path) -> None:
    first = fetch("popqa", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "data.json").read_text())
    del record["sha256"]
    (tmp_path / "out" / "data.json").write_text(json.dumps(record))
    again = fetch("popqa", tmp_path / "out")
    assert (again.fresh, again.files, again.sha256) == (False, first.files, {})


def test_another_set_in_the_folder_is_replaced_only_when_forced_and_other_files_stay(
    tmp_path: Path, folder: Path
) -> None:
    fetch("popqa", tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "holds popqa; choose another folder, or --force" in refusal("bamboogle", tmp_path / "out")
    fetch("bamboogle", tmp_path / "out", force=True)
    assert set(contents(tmp_path / "out")) == {"data.json", "dev.jsonl", "notes.txt"}


def test_files_of_unknown_origin_are_not_written_over(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dev.jsonl").write_text("mine")
    assert "holds dev.jsonl already" in refusal("popqa", tmp_path / "out")
    assert contents(tmp_path / "out") == {"dev.jsonl": b"mine"}


def test_a_set_with_a_file_gone_is_not_taken_for_complete(tmp_path: Path, folder: Path) -> None:
    fetch("popqa", tmp_path / "out")
    (tmp_path / "out" / "train.jsonl").unlink()
    assert "popqa but not all its files" in refusal("popqa", tmp_path / "out")


def test_a_fetch_that_is_stopped_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [hotpot_row(id, ["Lamp", "Quay"], ["Lamp"]) for id in "abc"]
    hub(train=rows, validation=rows)
    fetch("hotpotqa", tmp_path / "kept")
    before = contents(tmp_path / "kept")
    clean, seen = public_data._clean, 0

    def stopped(text: str) -> str:
        nonlocal seen
        seen += 1
        if seen > 20:
            raise KeyboardInterrupt
        return clean(text)

    monkeypatch.setattr(public_data, "_clean", stopped)
    for out, force in ((tmp_path / "kept", True), (tmp_path / "new", False)):
        with pytest.raises(KeyboardInterrupt):
            fetch("hotpotqa", out, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert contents(tmp_path / "kept") == before


def test_an_unknown_name_is_answered_with_the_names(tmp_path: Path) -> None:
    message = refusal("hotpot", tmp_path / "out")
    assert "hotpotqa, 2wikimultihopqa, musique" in message


def test_a_set_that_the_source_lacks_is_said_to_be_so(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no questions/nq-dev.jsonl or nq-train.jsonl; it has popqa, bamboogle." in refusal(
        "nq", tmp_path / "out"
    )
    monkeypatch.setenv("DEEPRAG_DATA", str(tmp_path / "nowhere"))
    assert "set DEEPRAG_DATA to a folder that has" in refusal("nq", tmp_path / "out")
    monkeypatch.delenv("DEEPRAG_DATA")
    assert "(hotpotqa, 2wikimultihopqa, musique are); set DEEPRAG_DATA" in refusal("nq", tmp_path / "out")


def test_a_hub_that_cannot_be_reached_is_one_sentence_with_what_to_do(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(train=[], validation=[])
    timeouts: list[float] = []

    def unreachable(*_: object, timeout: float, **__: object) -> None:
        timeouts.append(timeout)
        raise ConnectionError("Name or service not known\nmore about it")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
    assert refusal("musique", tmp_path / "out") == (
        "musique could not be had from the Hugging Face hub (Name or service not known); "
        "try again later, or set DEEPRAG_DATA to a folder that has it."
    )
    assert (asked, timeouts) == ([], [10.0])  # at once: `datasets` and its retries are not begun
    assert not (tmp_path / "out").exists()


def test_in_offline_mode_the_cache_of_the_hub_is_used(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    def offline(*_: object, **__: object) -> None:
        raise OfflineModeIsEnabled

    hub(train=[musique_row()], validation=[musique_row()])
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", offline)
    assert fetch("musique", tmp_path / "out").fresh


def test_without_the_extra_the_command_to_install_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPRAG_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert 'pip install "deeprag-graph[data]"' in refusal("hotpotqa", tmp_path / "out")


def test_a_file_in_place_of_the_folder_is_refused_before_anything_is_fetched(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert "is a file; name a folder" in refusal("popqa", tmp_path / "out", force=True)
    assert "cannot be written" in refusal("popqa", tmp_path / "out" / "below")


def test_wikipedia_comes_from_the_web_with_its_digest_in_the_record(
    tmp_path: Path, web: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = fetch("wikipedia", tmp_path / "new" / "out")
    file = tmp_path / "new" / "out" / "passages.tsv.gz"
    digest = hashlib.sha256(WIKIPEDIA).hexdigest()
    assert (fetched.source, fetched.files, fetched.sha256) == (web.url, {file: PAGES}, {file: digest})
    assert set(contents(tmp_path / "new" / "out")) == {"passages.tsv.gz", "data.json"}
    assert file.read_bytes() == WIKIPEDIA
    assert json.loads((tmp_path / "new" / "out" / "data.json").read_text()) == {
        "name": "wikipedia",
        "source": web.url,
        "limit": None,
        "files": {"passages.tsv.gz": PAGES},
        "sha256": {"passages.tsv.gz": digest},
    }
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.index("passages.tsv.gz: 100%") < shown.err.index("reading passages.tsv.gz: 100%")


def test_wikipedia_that_is_there_is_not_asked_for_again_unless_forced(tmp_path: Path, web: FileServer) -> None:
    first = fetch("wikipedia", tmp_path / "out")
    again = fetch("wikipedia", tmp_path / "out")
    assert (again.fresh, again.files, again.sha256) == (False, first.files, first.sha256)
    assert len(web.asked) == 1
    web.content, web.etag = packed_passages(3), '"two"'
    assert list(fetch("wikipedia", tmp_path / "out", force=True).files.values()) == [3]


def test_a_forced_fetch_that_fails_keeps_what_was_there(tmp_path: Path, web: FileServer) -> None:
    fetch("wikipedia", tmp_path / "out")
    before = contents(tmp_path / "out")
    web.faults = itertools.chain(["close 100000"], itertools.repeat("500"))
    refusal("wikipedia", tmp_path / "out", force=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*before, "unfinished"}
    assert (tmp_path / "out" / "passages.tsv.gz").read_bytes() == WIKIPEDIA
    web.faults = iter(())
    assert fetch("wikipedia", tmp_path / "out", force=True).fresh
    assert web.asked[-1].start == 100_000
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_killed_while_it_fetches_goes_on_with_the_rest(
    how: signal.Signals, tmp_path: Path, web: FileServer
) -> None:
    half = len(WIKIPEDIA) // 2
    web.faults = iter([f"stall {half}"])
    command = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "from deeprag_graph import public_data; public_data.WIKIPEDIA_URL = sys.argv[1]\n"
        "from deeprag_graph.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    arguments = [web.url, "data", "wikipedia", "--out", str(tmp_path / "out")]
    partial = tmp_path / "out" / "unfinished" / "passages.tsv.gz.partial"
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size > half - 10_000) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "Another process fetches to" in refusal("wikipedia", tmp_path / "out")
        process.send_signal(how)
        said = process.communicate(timeout=60)[1].splitlines()
    held = partial.stat().st_size
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or "are kept and the same command goes on from there." in said[-2]
    assert not (tmp_path / "out" / "passages.tsv.gz").exists()

    web.asked.clear()
    assert fetch("wikipedia", tmp_path / "out").fresh
    assert [(asked.start, asked.status, asked.sent) for asked in web.asked] == [(held, 206, len(WIKIPEDIA) - held)]
    assert contents(tmp_path / "out")["passages.tsv.gz"] == WIKIPEDIA


def test_a_download_that_came_but_was_not_read_to_its_end_is_not_fetched_again(
    tmp_path: Path, web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: Path) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(public_data, "_count", stopped)
        fetch("wikipedia", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"unfinished"}
    assert fetch("wikipedia", tmp_path / "out").fresh
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WIKIPEDIA[:-5], "is a damaged gzip file"),
        (WIKIPEDIA[:1000] + bytes(1000) + WIKIPEDIA[2000:], "is a damaged gzip file"),
        (b"<html>Please sign in to this network.</html>", "its first line is '<html>Please sign in"),
        (b"", "is empty"),
    ],
)
def test_what_is_not_a_whole_file_of_passages_is_deleted_and_said_to_be_so(
    content: bytes, reason: str, tmp_path: Path, web: FileServer
) -> None:
    web.content = content
    message = refusal("wikipedia", tmp_path / "out")
    assert message.startswith(f"What came from {web.url} is damaged and was deleted (")
    assert reason in message
    assert message.endswith("): run this again, or set DEEPRAG_DATA to a folder that has corpora/wikipedia.tsv.gz.")
    assert not (tmp_path / "out").exists()
    web.content = WIKIPEDIA
    assert fetch("wikipedia", tmp_path / "out").fresh


def test_a_length_that_says_too_little_gives_no_file(tmp_path: Path, web: FileServer) -> None:
    web.faults = iter(["short 1000"])
    assert "is damaged and was deleted" in refusal("wikipedia", tmp_path / "out")


def test_a_server_that_has_not_wikipedia_is_one_sentence_and_leaves_nothing(tmp_path: Path, web: FileServer) -> None:
    web.faults = itertools.repeat("404")
    assert refusal("wikipedia", tmp_path / "out") == (
        f"{web.url} could not be fetched (404 Not Found): "
        "set DEEPRAG_DATA to a folder that has corpora/wikipedia.tsv.gz."
    )
    assert not (tmp_path / "out").exists()


def test_wikipedia_comes_from_the_folder_if_there_is_one(tmp_path: Path, folder: Path, web: FileServer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPRAG_DATA", str(folder))
        assert refusal("wikipedia", tmp_path / "out") == (
            f"The folder {folder} (DEEPRAG_DATA) has no corpora/wikipedia.tsv.gz; "
            f"set DEEPRAG_DATA to a folder that has, or unset it to fetch {web.url}."
        )
        (folder / "corpora" / "wikipedia.tsv.gz").write_bytes(packed_passages(3))
        fetched = fetch("wikipedia", tmp_path / "out")
    assert (fetched.source, list(fetched.files.values())) == (str(folder), [3])
    assert contents(tmp_path / "out")["passages.tsv.gz"] == packed_passages(3)
    assert web.asked == []


def test_wikipedia_is_not_limited(tmp_path: Path, web: FileServer) -> None:
    assert "leave out --limit." in refusal("wikipedia", tmp_path / "out", limit=7)
    assert web.asked == []
