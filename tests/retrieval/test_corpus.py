"""Reading passages: the formats, what is skipped and counted, and what is refused."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprag_graph.errors import OperatorError
from deeprag_graph.retrieval.corpus import Corpus, Passage, Skipped, _parse_json, _parse_tsv

HEADER = b"id\ttext\ttitle\n"
LINE_OF_TEXT = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)


def read(*files: Path) -> tuple[list[Passage], list[Skipped]]:
    skipped: list[Skipped] = []
    return list(Corpus(files, skipped.append)), skipped


def written(folder: Path, content: bytes, name: str = "passages.tsv") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def test_tsv_gives_id_title_and_text(tmp_path: Path) -> None:
    file = written(tmp_path, HEADER + b"7\tThe lamp is lit.\tLighthouse\n8\tNo title here.\t\n")
    assert read(file)[0] == [Passage("7", "Lighthouse", "The lamp is lit."), Passage("8", "", "No title here.")]


def test_tsv_with_quoted_fields_is_unquoted_and_stray_quotes_do_no_harm(tmp_path: Path) -> None:
    file = written(tmp_path, HEADER + b'1\t"He said ""no""."\tA\n2\tA 5" nail\t5"\n3\tlast\tC\n')
    assert [p.text for p in read(file)[0]] == ['He said "no".', 'A 5" nail', "last"]


def test_a_quote_that_is_not_closed_costs_its_own_line_alone(tmp_path: Path) -> None:
    passages, skipped = read(written(tmp_path, HEADER + b'1\t"open\tA\n2\tnext\tB\n'))
    assert [p.id for p in passages] == ["2"]
    assert [(s.line, s.reason) for s in skipped] == [(2, "not 3 columns")]


def test_jsonl_takes_text_or_contents_numbers_as_ids_and_no_title(tmp_path: Path) -> None:
    rows = [{"id": 1, "text": "one"}, {"id": "b", "contents": "two", "title": "T"}]
    file = written(tmp_path, "\n".join(map(json.dumps, rows)).encode(), "passages.jsonl")
    assert read(file)[0] == [Passage("1", "", "one"), Passage("b", "T", "two")]


def test_gzip_is_known_by_content_and_not_by_name(tmp_path: Path) -> None:
    packed = written(tmp_path, gzip.compress(HEADER + b"1\ta\tA\n"), "packed.tsv")
    plain = written(tmp_path, HEADER + b"2\tb\tB\n", "plain.tsv.gz")
    assert [p.id for p in read(packed, plain)[0]] == ["1", "2"]


def test_windows_line_ends_byte_order_mark_and_blank_lines_are_no_matter(tmp_path: Path) -> None:
    file = written(tmp_path, b"\xef\xbb\xbfid\ttext\ttitle\r\n1\ta\tA\r\n\r\n2\tb\tB")
    assert read(file) == ([Passage("1", "A", "a"), Passage("2", "B", "b")], [])


def test_a_passage_of_a_megabyte_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, HEADER + b'1\t"' + b"long " * 200_000 + b'"\tA\n')
    assert len(read(file)[0][0].text) == 1_000_000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"only one column", "not 3 columns"),
        (b"1\ttext\ttitle\tmore", "not 3 columns"),
        (b"\ttext\ttitle", "no id"),
        (b"1\t  \ttitle", "empty text"),
        (b"1\t\xff\xfe\ttitle", "not UTF-8"),
        (b'1\t"a"\rb\ttitle', "not 3 columns"),
    ],
)
def test_malformed_tsv_line_is_skipped_and_reported(tmp_path: Path, line: bytes, reason: str) -> None:
    file = written(tmp_path, HEADER + b"1\tbefore\t\n" + line + b"\n2\tafter\t\n")
    passages, skipped = read(file)
    assert [p.text for p in passages] == ["before", "after"]
    assert skipped == [Skipped(file, 3, reason)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": 1, "text": ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["1", "text"]', "not a JSON object"),
        (b'{"text": "t"}', "no id"),
        (b'{"id": true, "text": "t"}', "no id"),
        (b'{"id": 1}', "no text"),
        (b'{"id": 1, "text": ["t"]}', "no text"),
        (b'{"id": 1, "text": "\\n"}', "empty text"),
        (b'{"id": 1, "text": "t", "title": 5}', "title is not a string"),
        (b'{"id": 1, "text": "\\ud800"}', "not Unicode"),
    ],
)
def test_malformed_json_line_is_skipped_and_reported(tmp_path: Path, line: bytes, reason: str) -> None:
    file = written(tmp_path, b'{"id": 0, "text": "before"}\n' + line + b"\n", "passages.jsonl")
    passages, skipped = read(file)
    assert [p.text for p in passages] == ["before"]
    assert skipped == [Skipped(file, 2, reason)]


def test_missing_file_and_folder_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    good = written(tmp_path, HEADER)
    with pytest.raises(OperatorError, match=r"absent\.tsv is not there; expected a TSV with the header"):
        Corpus([good, tmp_path / "absent.tsv"])
    with pytest.raises(OperatorError, match="is a folder"):
        Corpus([good, tmp_path])


@pytest.mark.parametrize(
    "content", [b"", b"question\tanswer\n1\t2\n", b"1\ttext\ttitle\n", b"\x00\x01\x02" * 99, b"[\n"]
)
def test_file_of_something_else_is_refused_with_the_expected_format(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(
        OperatorError, match=r"passages\.tsv .*expected a TSV with the header line id<TAB>text<TAB>title"
    ):
        read(written(tmp_path, content))


def test_truncated_and_corrupt_gzip_are_refused_with_the_line_reached(tmp_path: Path) -> None:
    rows = b"".join(b"%d\tpassage %d\t\n" % (n, n * n) for n in range(50_000))
    packed = gzip.compress(HEADER + rows)
    half = len(packed) // 2
    for damaged in (packed[:half], packed[:half] + bytes(1000) + packed[half + 1000 :]):
        with pytest.raises(OperatorError, match=r"damaged gzip file: it breaks off after line [\d,]+;"):
            read(written(tmp_path, damaged))


def test_bytes_done_counts_packed_bytes_and_sources_have_their_hash(tmp_path: Path) -> None:
    file = written(tmp_path, gzip.compress(HEADER + b"1\ta\tA\n"))
    corpus = Corpus([file, file])
    list(corpus)
    assert corpus.bytes_done == corpus.bytes_total == 2 * file.stat().st_size
    assert [source.bytes for source in corpus.sources] == [file.stat().st_size] * 2
    assert len(corpus.sources[0].sha256) == 64


@given(id=LINE_OF_TEXT, text=LINE_OF_TEXT, title=LINE_OF_TEXT)
def test_whatever_a_csv_writer_or_json_writes_is_read_back(id: str, text: str, title: str) -> None:
    quoted = ['"' + field.replace('"', '""') + '"' for field in (id, text, title)]
    assert _parse_tsv("\t".join(quoted)) == Passage(id.strip(), title, text)
    assert _parse_json(json.dumps({"id": id, "text": text, "title": title})) == Passage(id.strip(), title, text)


def test_a_line_beyond_all_measure_is_skipped_whole_and_counts_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeprag_graph.retrieval.corpus.LONGEST_LINE", 50)
    file = tmp_path / "long.tsv"
    phantom = "2\t" + "a " * 24 + "999\tphantom text\tphantom title"
    file.write_text(f"id\ttext\ttitle\n1\tone\t\n{phantom}\nbroken\n3\tthree\t{'x' * 41}\n")
    skipped: list[Skipped] = []
    assert [passage.id for passage in Corpus([file], skipped.append)] == ["1", "3"]
    assert skipped == [Skipped(file, 3, "longer than 16 MB"), Skipped(file, 4, "not 3 columns")]
