"""`deeprag`: the way in, its help and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deeprag_graph.cli import main


@pytest.mark.parametrize("command", ["ask", "index", "data", "graph"])
def test_help_of_every_command_shows_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"usage: deeprag {command}" in capsys.readouterr().out


def test_help_without_a_command_teaches_the_first_question(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert 'deeprag ask "' in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense"], ["ask", "--decision", "2", "q"], ["ask", "--concurrency", "0"]]
)
def test_a_wrong_flag_is_exit_code_2_with_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_graph_is_drawn_with_its_five_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph"]) == 0
    drawn = capsys.readouterr().out
    assert all(name in drawn for name in ("decompose", "decide", "retrieve", "answer", "conclude"))
    assert main(["graph", "--mermaid"]) == 0
    assert "decompose -.-> decide" in capsys.readouterr().out


def test_output_that_nobody_reads_to_the_end_is_no_error() -> None:
    command = f"{sys.executable} -m deeprag_graph graph --mermaid | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_build_whose_progress_nobody_reads_any_more_is_not_called_done(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("id\ttext\ttitle\n" + "".join(f"{n}\tlamp {n}\t\n" for n in range(2_000)))
    command = [
        sys.executable,
        "-m",
        "deeprag_graph",
        "index",
        str(tmp_path / "p.tsv"),
        "--out",
        str(tmp_path / "index"),
    ]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert not (tmp_path / "index").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_an_output_that_cannot_be_written_is_one_sentence() -> None:
    command = f"{sys.executable} -m deeprag_graph graph --mermaid > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["deeprag: [Errno 28] No space left on device"]


def test_the_modules_of_the_library_do_not_import_torch(tmp_path: Path) -> None:
    heavy = ("torch", "datasets", "openai")
    code = f"import deeprag_graph, deeprag_graph.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]"
