"""Downloading: whole or not at all, going on where it broke off, and never two versions in one file; a real server."""

import gzip
import itertools
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deeprag_graph import download as module
from deeprag_graph.download import download
from deeprag_graph.errors import OperatorError
from tests.file_server import FileServer

SIZE = 1_000_000
CONTENT, OTHER = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
OTHERWISE = "ask a neighbour for it"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No pauses; the list has those that there would be."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return asked


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT) as server:
        yield server


class Place(NamedTuple):
    """Where a file goes."""

    path: Path

    @property
    def partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.partial")

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.path.parent.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "passages.tsv.gz")


def fetch(server: FileServer, place: Place) -> bytes:
    download(server.url, place.path, otherwise=OTHERWISE)
    assert place.files == {"passages.tsv.gz"}
    return place.path.read_bytes()


def refusal(server: FileServer, place: Place) -> str:
    with pytest.raises(OperatorError) as caught:
        download(server.url, place.path, otherwise=OTHERWISE)
    assert not place.path.exists()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def broken_off(server: FileServer, place: Place, at: int = 600_000) -> int:
    """Fetch a part, that stays; return its size."""
    server.faults = itertools.chain([f"close {at}"], itertools.repeat("503"))
    refusal(server, place)
    server.faults = iter(())
    server.asked.clear()
    return place.partial.stat().st_size


def starts(server: FileServer) -> list[int | None]:
    return [asked.start for asked in server.asked]


def test_a_file_comes_whole_with_a_bar_of_bytes_and_nothing_beside_it(
    server: FileServer, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "passages.tsv.gz: 100%" in shown.err
    assert "1.00M/1.00M" in shown.err
    assert "B/s" in shown.err


@pytest.mark.parametrize("how", ["close", "cut"])
def test_a_connection_that_breaks_is_tried_again_from_where_it_broke(
    how: str, server: FileServer, place: Place, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = iter([f"{how} 300000", "503", f"{how} 200000"])
    assert fetch(server, place) == CONTENT
    first, failed, second, third = server.asked
    assert first.start is None
    assert failed.start == second.start  # a reset may take some of what was sent last with it
    assert 0 < (second.start or 0) <= 300_000
    assert (second.start or 0) < (third.start or 0) <= (second.start or 0) + 200_000
    assert {asked.if_range for asked in server.asked[1:]} == {'"one"'}
    assert third.sent == SIZE - (third.start or 0)
    assert pauses == [1.0, 2.0, 1.0]  # the third try got further than the first
    assert "503 Service Unavailable; trying again in 2 s" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["408", "429", "500", "502", "504"])
def test_an_answer_that_may_be_another_next_time_is_asked_for_again(
    status: str, server: FileServer, place: Place
) -> None:
    server.faults = iter([status])
    assert fetch(server, place) == CONTENT
    assert len(server.asked) == 2


def test_a_packed_file_stays_packed_whatever_the_server_calls_it(server: FileServer, place: Place) -> None:
    server.content, server.encoding = gzip.compress(CONTENT), "gzip"
    assert fetch(server, place) == server.content
    assert [asked.encoding for asked in server.asked] == ["identity"]


def test_as_long_as_it_gets_further_it_is_not_given_up(server: FileServer, place: Place) -> None:
    server.faults = itertools.repeat("close 100000")
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None, *range(100_000, SIZE, 100_000)]


def test_tries_without_success_end_in_a_sentence_and_the_next_call_goes_on(
    server: FileServer, place: Place, pauses: list[float]
) -> None:
    server.faults = itertools.chain(["close 600000"], itertools.repeat("503"))
    assert refusal(server, place) == (
        f"{server.url} could not be fetched (503 Service Unavailable): 600kB of 1.00MB are kept and the same command "
        f"goes on from there, or {OTHERWISE}."
    )
    assert pauses == list(module.PAUSES) == sorted(set(pauses))
    server.asked.clear()
    server.faults = iter(())
    assert fetch(server, place) == CONTENT
    assert [(asked.start, asked.status, asked.sent) for asked in server.asked] == [(600_000, 206, 400_000)]


def test_a_server_that_is_silent_is_a_broken_connection(
    server: FileServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.faults = iter(["stall 300000", "stall 0"])
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None, 300_000, 300_000]


def test_a_server_that_cannot_be_reached_says_so_and_leaves_nothing(place: Place, pauses: list[float]) -> None:
    server = FileServer(CONTENT)
    server.http.server_close()
    message = refusal(server, place)
    assert "refused" in message
    assert f"run the same command again later, or {OTHERWISE}." in message
    assert pauses == list(module.PAUSES)
    assert place.files == set()


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found"])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: str, server: FileServer, place: Place) -> None:
    server.faults = itertools.repeat(status[:3])
    assert refusal(server, place) == f"{server.url} could not be fetched ({status}): {OTHERWISE}."
    assert len(server.asked) == 1
    assert place.files == set()


def test_a_file_that_changed_is_fetched_anew(
    server: FileServer, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    held = broken_off(server, place)
    server.content, server.etag = OTHER, '"two"'
    assert fetch(server, place) == OTHER
    assert [(asked.start, asked.if_range, asked.status) for asked in server.asked] == [(held, '"one"', 200)]
    assert "is sent from its beginning again" in capsys.readouterr().err


@pytest.mark.parametrize("length", [SIZE, SIZE // 2])
def test_a_changed_file_is_noticed_even_where_the_server_does_not_mind_if_range(
    length: int, server: FileServer, place: Place
) -> None:
    broken_off(server, place)
    server.content, server.etag, server.minds_if_range = OTHER[:length], '"two"', False
    assert fetch(server, place) == OTHER[:length]
    assert [asked.status for asked in server.asked] == [206 if length == SIZE else 416, 200]


def test_a_file_that_changes_between_two_tries_is_never_mixed(server: FileServer, place: Place) -> None:
    def change() -> Iterator[str]:
        yield "close 600000"
        server.content, server.etag = OTHER, '"two"'
        yield "close 300000"

    server.faults = change()
    assert fetch(server, place) == OTHER
    assert [asked.status for asked in server.asked] == [200, 200, 206]


def test_without_an_etag_the_date_tells_the_version(place: Place) -> None:
    date = "Tue, 02 Mar 2021 10:00:00 GMT"
    with FileServer(CONTENT, etag=None, modified=date) as server:
        held = broken_off(server, place)
        assert fetch(server, place) == CONTENT
        assert [(asked.start, asked.if_range, asked.status) for asked in server.asked] == [(held, date, 206)]


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_a_version_that_cannot_be_told_is_not_gone_on_with(etag: str | None, place: Place) -> None:
    with FileServer(CONTENT, etag=etag) as server:
        server.faults = itertools.chain(["close 600000"], itertools.repeat("503"))
        assert "run the same command again later" in refusal(server, place)
        server.faults = iter(())
        server.asked.clear()
        assert fetch(server, place) == CONTENT
        assert starts(server) == [None]


def test_a_server_without_ranges_sends_it_anew(server: FileServer, place: Place) -> None:
    broken_off(server, place)
    server.ranges = False
    assert fetch(server, place) == CONTENT
    assert [(asked.status, asked.sent) for asked in server.asked] == [(200, SIZE)]


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server: FileServer, place: Place) -> None:
    server.ranges, server.faults = False, itertools.repeat("close 600000")
    refusal(server, place)
    assert len(server.asked) == 1 + len(module.PAUSES)


def test_parts_smaller_than_asked_for_are_put_together(server: FileServer, place: Place) -> None:
    server.faults = itertools.repeat("part 250000")
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None, 250_000, 500_000, 750_000]


def test_a_server_that_sends_nothing_more_is_given_up(server: FileServer, place: Place) -> None:
    server.faults = itertools.chain(["close 600000"], ["part 0"] * 20)
    assert "(the server sent a part of it): 600kB of 1.00MB are kept" in refusal(server, place)


def test_a_length_that_is_never_reached_is_not_a_whole_file(server: FileServer, place: Place) -> None:
    server.ranges, server.faults = False, itertools.repeat("long 10")
    assert "1.00MB of 1.00MB are kept" in refusal(server, place)


def test_a_file_of_unknown_length_is_refused(server: FileServer, place: Place) -> None:
    server.says_length = False
    assert f"(the server does not say how long it is): {OTHERWISE}." in refusal(server, place)


@pytest.mark.parametrize(
    "record", [None, "", "{", "[]", '{"url": 1}', '{"url": "http://other", "tag": "\\"one\\"", "bytes": 1000000}']
)
def test_a_part_without_a_record_of_its_version_is_not_trusted(
    record: str | None, server: FileServer, place: Place
) -> None:
    broken_off(server, place)
    path = place.partial.with_name(f"{place.partial.name}.json")
    assert json.loads(path.read_text()) == {"url": server.url, "tag": '"one"', "bytes": SIZE}
    if record is None:
        path.unlink()
    else:
        path.write_text(record)
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None]


def test_a_part_longer_than_the_file_is_not_trusted(server: FileServer, place: Place) -> None:
    broken_off(server, place)
    place.partial.write_bytes(OTHER + b"x")
    assert fetch(server, place) == CONTENT


def test_a_whole_part_needs_no_server(server: FileServer, place: Place) -> None:
    broken_off(server, place)
    place.partial.write_bytes(CONTENT)
    assert fetch(server, place) == CONTENT
    assert server.asked == []


def test_an_empty_file_is_a_file(place: Place) -> None:
    with FileServer(b"") as server:
        assert fetch(server, place) == b""


def test_what_is_at_the_place_already_stays_until_the_new_file_is_whole(server: FileServer, place: Place) -> None:
    place.path.write_bytes(b"old")
    server.faults = itertools.chain(["close 600000"], itertools.repeat("503"))
    with pytest.raises(OperatorError):
        download(server.url, place.path, otherwise=OTHERWISE)
    assert place.path.read_bytes() == b"old"
    server.faults = iter(())
    assert fetch(server, place) == CONTENT


def test_ctrl_c_says_what_is_kept_and_the_next_call_goes_on(
    server: FileServer, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    server.faults = iter(["close 600000"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(time, "sleep", interrupted)
        download(server.url, place.path, otherwise=OTHERWISE)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "passages.tsv.gz: 600kB of 1.00MB are kept and the same command goes on from there."
    )
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None, 600_000]


@pytest.mark.parametrize("held", [0, 600_000])
def test_a_disk_without_room_for_the_rest_is_told_before_it_is_fetched(
    held: int, server: FileServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held:
        broken_off(server, place, held)

    def free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": count}))

    free(SIZE - held - 1)
    message = refusal(server, place)
    needed = "400kB" if held else "1.00MB"
    assert message.startswith(f"{needed} are to be fetched and ")
    assert message.endswith(f" are free in {place.path.parent}: free some space there, or choose another folder.")
    assert (place.partial.stat().st_size if held else place.files) == (held or set())
    free(SIZE - held)
    assert fetch(server, place) == CONTENT


def test_a_disk_that_fills_up_meanwhile_is_a_sentence_and_the_part_stays(
    server: FileServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, chunk: bytes) -> None:
        if self.held + len(chunk) > 500_000:
            raise OSError(28, "No space left on device")
        write(self, chunk)

    write = module._Partial.write
    with monkeypatch.context() as patch:
        patch.setattr(module._Partial, "write", full)
        assert refusal(server, place) == (
            f"{place.path} cannot be stored (No space left on device); the same command goes on once that is mended."
        )
    held = place.partial.stat().st_size
    assert 0 < held <= 500_000
    assert fetch(server, place) == CONTENT
    assert starts(server) == [None, held]


def test_a_folder_that_is_not_there_is_a_sentence(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot be stored \(No such file or directory\)"):
        download(server.url, tmp_path / "nowhere" / "file", otherwise=OTHERWISE)


def test_a_proxy_that_cannot_be_used_is_a_sentence(
    server: FileServer, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy")
    assert "correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY." in refusal(server, place)
