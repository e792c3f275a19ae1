"""Building an index: what is counted, what is refused, and that nothing half-made is ever left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval import BM25Index, Skipped, build_index

ENDLESS_BUILD = """
import sys, time
from deeprag_graph.retrieval import build_index
def wait(*_):
    print("building", flush=True)
    time.sleep(60)
build_index([sys.argv[1]], sys.argv[2], progress=wait)
"""

BUILD_WITHOUT_FCNTL = """
import sys
sys.modules["fcntl"] = None
import deeprag_graph
from deeprag_graph.retrieval import build_index
build_index([sys.argv[1]], sys.argv[2])
build_index([sys.argv[1]], sys.argv[2])
"""


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_manifest_says_what_is_in_the_index_and_where_from(corpus: Path, tmp_path: Path) -> None:
    manifest = build_index([corpus], tmp_path / "index")
    on_disk = json.loads((tmp_path / "index" / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest.passages, manifest.skipped) == (5, {})
    assert on_disk["sources"][0].keys() == {"file", "bytes", "sha256"}
    assert (on_disk["engine"], on_disk["schema_version"], on_disk["analysis"]["name"]) == ("tantivy", 2, "english")
    assert BM25Index.open(tmp_path / "index").manifest == manifest


def test_the_first_of_two_passages_with_one_id_stays_and_skipped_lines_are_counted(tmp_path: Path) -> None:
    one, other = tmp_path / "one.tsv", tmp_path / "other.tsv"
    one.write_text("id\ttext\ttitle\n1\tfirst lamp\t\nbroken\n")
    other.write_text("id\ttext\ttitle\n2\tsecond lamp\t\n1\tthird lamp\t\n")
    skipped: list[Skipped] = []
    manifest = build_index([one, other], tmp_path / "index", on_skip=skipped.append)
    assert (manifest.passages, manifest.skipped) == (2, {"not 3 columns": 1, "id seen before": 1})
    assert skipped == [Skipped(one, 3, "not 3 columns"), Skipped(other, 3, "id seen before")]
    found = BM25Index.open(tmp_path / "index").search("lamp", 5)
    assert [hit.text for hit in found] == ["first lamp", "second lamp"]


def test_progress_ends_with_all_bytes_and_all_passages(corpus: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    build_index([corpus], tmp_path / "index", progress=lambda *call: calls.append(call))
    assert calls[-1] == (corpus.stat().st_size, corpus.stat().st_size, 5)


def test_no_passages_is_the_operators_mistake_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.tsv").write_text("id\ttext\ttitle\nx\ny\n1\t \t\n")
    with pytest.raises(
        OperatorError, match=r"no passages in .*empty\.tsv \(lines skipped: not 3 columns: 2, empty text: 1"
    ):
        build_index([tmp_path / "empty.tsv"], tmp_path / "index")
    assert entries(tmp_path) == ["empty.tsv"]


def test_what_is_no_index_is_not_overwritten(corpus: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for out in (precious, precious / "thesis.txt"):
        with pytest.raises(OperatorError, match="is there already and is not an index"):
            build_index([corpus], out)
    assert entries(precious) == ["thesis.txt"]


def test_an_empty_folder_and_missing_parents_are_fine(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b" / "index"):
        build_index([corpus], out)
        assert len(BM25Index.open(out)) == 5


def test_a_place_that_cannot_be_written_is_the_operators_mistake(corpus: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written"):
        build_index([corpus], corpus / "below" / "a" / "file")


def test_rebuilding_replaces_the_index_and_open_ones_stay_usable(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([corpus], out)
    old = BM25Index.open(out)
    corpus.write_text("id\ttext\ttitle\n9\tonly lamps\tLamps\n")
    build_index([corpus], out)
    assert [hit.id for hit in BM25Index.open(out).search("lamps", 3)] == ["9"]
    assert [hit.id for hit in old.search("lighthouse", 3)] == ["1"]
    assert len(entries(out)) == 2
    assert entries(tmp_path) == ["corpus.tsv", "index"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OperatorError])
def test_a_build_that_is_stopped_leaves_the_old_index_and_nothing_else(
    corpus: Path, tmp_path: Path, stop: type[BaseException]
) -> None:
    build_index([corpus], tmp_path / "index")

    def interrupt(*_: int) -> None:
        raise stop

    with pytest.raises(stop):
        build_index([corpus], tmp_path / "index", progress=interrupt)
    assert entries(tmp_path) == ["corpus.tsv", "index"]
    assert len(BM25Index.open(tmp_path / "index")) == 5


def test_a_damaged_file_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "good.tsv").write_text("id\ttext\ttitle\n1\tlamp\t\n")
    (tmp_path / "bad.tsv").write_bytes(b"\x1f\x8b\x08 not really")
    with pytest.raises(OperatorError, match="damaged gzip file"):
        build_index([tmp_path / "good.tsv", tmp_path / "bad.tsv"], tmp_path / "index")
    assert entries(tmp_path) == ["bad.tsv", "good.tsv"]


def test_a_killed_build_leaves_the_old_index_usable_and_the_next_one_cleans_up(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([corpus], out)
    with subprocess.Popen([sys.executable, "-c", ENDLESS_BUILD, corpus, out], stdout=subprocess.PIPE) as build:
        assert build.stdout is not None
        build.stdout.readline()
        assert any(name.startswith(".index.build-") for name in entries(tmp_path))
        build_index([corpus], out)  # does not take the living build for a dead one
        assert any(name.startswith(".index.build-") for name in entries(tmp_path))
        os.kill(build.pid, signal.SIGKILL)
    assert BM25Index.open(out).search("lighthouse", 1)[0].id == "1"
    build_index([corpus], out)
    assert entries(tmp_path) == ["corpus.tsv", "index"]


def test_builds_and_opens_of_one_index_at_once_do_no_harm(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([corpus], out)
    done = threading.Event()

    def open_on_and_on() -> int:
        opened = 0
        while not done.is_set():
            opened += len(BM25Index.open(out).search("harbour", 3)) == 3
        return opened

    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(open_on_and_on)
        builders = [pool.submit(lambda: [build_index([corpus], out) for _ in range(5)]) for _ in range(3)]
        try:
            for builder in builders:
                builder.result()
        finally:
            done.set()
        assert reader.result() > 0
    assert len(entries(out)) == 2
    assert entries(tmp_path) == ["corpus.tsv", "index"]


def test_without_fcntl_as_on_windows_the_package_imports_and_builds_and_spares_what_may_be_a_living_build(
    corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / ".index.build-other"
    other.mkdir()
    subprocess.run([sys.executable, "-c", BUILD_WITHOUT_FCNTL, corpus, tmp_path / "index"], check=True)
    assert BM25Index.open(tmp_path / "index").search("lighthouse", 1)[0].id == "1"
    assert entries(tmp_path) == [".index.build-other", "corpus.tsv", "index"]


def rows(*numbers: int) -> str:
    return "id\ttext\ttitle\n" + "".join(f"{n}\tlamp number {n}\tLamp {n}\n" for n in numbers)


def test_appending_gives_the_index_that_building_at_once_gives(tmp_path: Path) -> None:
    one, other = tmp_path / "one.tsv", tmp_path / "other.tsv"
    one.write_text(rows(1, 2, 3) + "broken\n")
    other.write_text(rows(3, 4, 5))
    whole = build_index([one, other], tmp_path / "whole")
    build_index([one], tmp_path / "grown")
    grown = build_index([other], tmp_path / "grown", append=True)
    for name in ("passages", "offered", "skipped", "sources"):
        assert getattr(grown, name) == getattr(whole, name)
    for query in ("lamp", "number 3", "lamp number 5"):
        hits = [BM25Index.open(tmp_path / name).search(query, 5) for name in ("whole", "grown")]
        assert hits[0] == hits[1]
        assert hits[0]


def test_appending_what_is_there_changes_no_passage_and_open_indexes_stay_as_they_were(tmp_path: Path) -> None:
    file, out = tmp_path / "corpus.tsv", tmp_path / "index"
    file.write_text(rows(1, 2))
    build_index([file], out)
    before = BM25Index.open(out)
    manifest = build_index([file], out, append=True)
    assert (manifest.passages, manifest.skipped) == (2, {"id seen before": 2})
    assert manifest.build != before.manifest.build
    assert BM25Index.open(out).search("lamp", 5) == before.search("lamp", 5)
    assert len(entries(out)) == 2


def test_appending_needs_an_index_and_one_that_no_other_build_has_changed(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no index at"):
        build_index([corpus], tmp_path / "index", append=True)
    build_index([corpus], tmp_path / "index")
    more, other = tmp_path / "more.tsv", tmp_path / "other.tsv"
    more.write_text(rows(11, 13))
    other.write_text(rows(22, 24, 26))
    for append in (True, False):

        def meanwhile(*_: int, append: bool = append) -> None:
            build_index([other], tmp_path / "index", append=append)

        with pytest.raises(OperatorError, match=r"Another build has changed the index .* meanwhile; append again"):
            build_index([more], tmp_path / "index", append=True, progress=meanwhile)
        assert len(BM25Index.open(tmp_path / "index")) == (8 if append else 3)
        assert entries(tmp_path) == ["corpus.tsv", "index", "more.tsv", "other.tsv"]


APPEND_KILLED_AT_THE_END = """
import os, signal, sys
from deeprag_graph.retrieval import bm25_writer, build_index
bm25_writer._install = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
build_index([sys.argv[1]], sys.argv[2], append=True)
"""


def test_an_append_that_is_killed_before_its_last_step_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    file, more, out = tmp_path / "corpus.tsv", tmp_path / "more.tsv", tmp_path / "index"
    file.write_text(rows(1, 3, 5))
    more.write_text(rows(7, 9))
    build_index([file], out)
    before = {path: (path.stat().st_mode, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    run = subprocess.run(
        [sys.executable, "-c", f"import os; os.umask(0o077){APPEND_KILLED_AT_THE_END}", more, out], check=False
    )
    assert run.returncode == -signal.SIGKILL
    assert {path: (path.stat().st_mode, path.read_bytes()) for path in out.rglob("*") if path.is_file()} == before
    assert build_index([more], out, append=True).passages == 5
    assert entries(tmp_path) == ["corpus.tsv", "index", "more.tsv"]


@pytest.mark.parametrize("damage", ["remove", "cut"])
def test_a_damaged_index_is_not_appended_to(corpus: Path, tmp_path: Path, damage: str) -> None:
    build_index([corpus], tmp_path / "index")
    for file in (tmp_path / "index").glob("segments-*/ids"):
        file.unlink() if damage == "remove" else os.truncate(file, 0)
    with pytest.raises(OperatorError, match="is damaged; build it again"):
        build_index([corpus], tmp_path / "index", append=True)


def test_what_the_callers_own_progress_raises_is_not_called_a_failure_to_write(corpus: Path, tmp_path: Path) -> None:
    def broken(*_: int) -> None:
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match=r"^of the caller$"):
        build_index([corpus], tmp_path / "index", progress=broken)


@pytest.mark.parametrize("place", ["ftp://server/index", "s3://bucket/index"])
def test_an_address_of_something_else_is_no_folder(corpus: Path, place: str) -> None:
    with pytest.raises(OperatorError, match="is no place for an index: name a folder, or http://HOST:PORT/NAME"):
        build_index([corpus], place)


def test_only_elasticsearch_has_shards(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="Only Elasticsearch has shards"):
        build_index([corpus], tmp_path / "index", shards=2)


def test_odd_passages_are_indexed_or_skipped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    odd = {
        "greek": "Ο φάρος της Όρα",
        "japanese": "オラの灯台",
        "arabic": "منارة أورا",
        "emoji": "🏮 lantern 🇳🇱",
        "control": "bell \x07 null \x00 escape \x1b bell",
        "megabyte": "rope " * 200_000,
        "one word": "a" * 1_000_000,
        "empty": "",
        "blank": " \n",
    }
    lines = [json.dumps({"id": name, "title": "", "text": text}) for name, text in odd.items()]
    file.write_text("\n".join([*lines, lines[0], "x" * 1_000_000, ""]))
    manifest = build_index([file], tmp_path / "index")
    assert (manifest.passages, manifest.skipped) == (7, {"empty text": 2, "id seen before": 1, "not JSON": 1})
    index = BM25Index.open(tmp_path / "index")
    queries = {
        "φάρος": "greek",
        "灯台": "japanese",
        "أورا": "arabic",
        "lantern": "emoji",
        "bell": "control",
        "rope": "megabyte",
    }
    for query, name in queries.items():
        assert [(hit.id, hit.text) for hit in index.search(query, 1)] == [(name, odd[name])]


SMALL_DISK = """
import resource, sys
from deeprag_graph.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(["index", sys.argv[1], "--out", sys.argv[2]]))
"""


def test_a_disk_that_takes_no_more_is_one_sentence_and_the_old_index_stays(corpus: Path, tmp_path: Path) -> None:
    build_index([corpus], tmp_path / "index")
    large = tmp_path / "large.tsv"
    large.write_text("id\ttext\ttitle\n" + "".join(f"{n}\t{n:x} {n * n:x} lamps\t{n}\n" for n in range(50_000)))
    run = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, large, tmp_path / "index"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "The index cannot be written to" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert len(BM25Index.open(tmp_path / "index")) == 5
    assert entries(tmp_path) == ["corpus.tsv", "index", "large.tsv"]


@pytest.mark.slow
@pytest.mark.parametrize("append", [False, True])
def test_a_build_killed_at_any_moment_leaves_the_old_index_and_the_next_build_cleans_up(
    tmp_path: Path, append: bool
) -> None:
    old, new, out = tmp_path / "old.tsv", tmp_path / "new.tsv", tmp_path / "index"
    old.write_text(rows(1, 2, 3))
    new.write_text(
        "id\ttext\ttitle\n" + "".join(f"{n}\t{n:x} lamps of Orra\tLamp {n}\n" for n in range(10, 120_010, 2))
    )
    build_index([old], out)
    main = "import sys; from deeprag_graph.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "index", str(new), "--out", str(out), *["--append"] * append]
    all_of_them = 60_000 + 3 * append
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - began
    build_index([old], out)
    random = Random(0)
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
            time.sleep(random.uniform(0, whole))
            build.kill()
        passages = len(BM25Index.open(out))  # killed after the last step, it has succeeded
        assert passages in (3, all_of_them)
        assert len(BM25Index.open(out).search("lamp", 100)) == min(passages, 100)
    subprocess.run(command, check=True, capture_output=True)
    assert len(BM25Index.open(out)) == all_of_them
    assert entries(tmp_path) == ["index", "new.tsv", "old.tsv"]
    assert len(entries(out)) == 2
