import io
import logging
import sys

import pytest

from phalanx.tracking.console import Console
from phalanx.tracking.output import (
    CUT_MARK,
    OUTPUT_LIMIT,
    Output,
    read_shortened,
    shorten,
    unwrapped,
)


def test_everything_printed_is_recorded_once_and_still_shown(capsys):
    output = Output()
    with output.capture():
        print("one")
        print("two", file=sys.stderr)
        unwrapped(sys.stderr).write("past the record\n")
    print("after")
    assert output.take() == "one\ntwo\n"
    assert output.take() == ""
    assert output.text() == "one\ntwo\n"
    shown = capsys.readouterr()
    assert shown.out == "one\nafter\n"
    assert shown.err == "two\npast the record\n"


def test_long_output_keeps_its_beginning_and_end_for_the_database():
    output = Output()
    output.add("first line\n")
    for i in range(30_000):
        output.add(f"{i:>15}\n")
    written = output.text()
    assert len(written) <= OUTPUT_LIMIT
    assert output.text().startswith("first line\n")
    assert output.text().endswith(f"{29_999:>15}\n")
    assert output.text().count(CUT_MARK) == 1
    assert len(output.take()) == len("first line\n") + 30_000 * 16


@pytest.mark.parametrize("letter", ["x", "ä", "界", "🚀"])
@pytest.mark.parametrize("times", [0.1, 0.99, 1.01, 3.7, 9.3])
def test_live_output_and_that_of_the_file_are_cut_alike(letter, times):
    piece = letter * 997 + "\n"
    pieces = [f"{i}{piece}" for i in range(int(OUTPUT_LIMIT * times / len(piece)))]
    text = "".join(pieces)
    output = Output(pieces[0])
    for other in pieces[1:]:
        output.add(other)
    assert output.text() == shorten(text) == read_shortened(io.BytesIO(text.encode()))
    assert (CUT_MARK in output.text()) == (len(text) > OUTPUT_LIMIT)


def test_text_captured_by_sacred_itself_is_taken_over_once():
    output = Output()
    answer = output.sacred_filter("one\n")
    answer = output.sacred_filter(answer + "two\n")
    assert answer == output.take() == "one\ntwo\n"


def test_a_closed_stream_does_not_end_the_run(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

        flush = write

    output = Output()
    monkeypatch.setattr(sys, "stdout", Gone())
    with output.capture():
        print("still running")
    assert output.take() == "still running\n"


def test_reports_are_plain_lines_of_eighty_columns_when_piped(capsys):
    console = Console()
    console.start(1000, "qmix on 3m")
    console.update(0, 0)
    console.update(100, 5)
    latest = {
        "test_battle_won_mean": 0.25,
        "return_mean": 12.0,
        "epsilon": 0.9,
        "loss": float("nan"),
    }
    console.report(100, latest, {"env": 0.5, "act": 0.2, "learn": 0.25, "log": 0.05})
    console.message("a word")
    logging.getLogger("phalanx.tracking.spool").warning("a warning")
    console.close()
    console.close()
    shown = capsys.readouterr()
    title, *lines, message = shown.out.splitlines()
    report = " | ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= 80
    assert (title, message) == ("qmix on 3m", "a word")
    assert report.startswith("100/1,000 | ")
    for part in ("steps/s", "updates/s", "left", "win 0.25", "return 12", "eps 0.9", "loss nan"):
        assert part in report
    assert report.endswith("env 50% act 20% learn 25% log 5%")
    assert "\x1b" not in shown.out + shown.err
    assert shown.err == "a warning\n"


def test_how_much_is_left_is_told_once_the_run_learns(capsys):
    console = Console()
    console.start(1000, "qmix on 3m")
    for t_env, n_updates in ((0, 0), (100, 0)):
        console.update(t_env, n_updates)
    console.report(100, {}, {})
    assert capsys.readouterr().out.rstrip().endswith("left ?")
    for t_env, n_updates in ((200, 3), (1000, 9)):
        console.update(t_env, n_updates)
    console.report(1000, {}, {})
    console.close()
    assert capsys.readouterr().out.rstrip().endswith("left 0s")


def test_the_live_line_stays_out_of_the_record(monkeypatch):
    class Terminal:
        encoding = "utf-8"

        def __init__(self):
            self.text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    output = Output()
    with output.capture():
        console = Console()
        console.start(1000, "title")
        for t_env in range(0, 500, 100):
            console.update(t_env, t_env // 10)
        console.report(400, {"return_mean": 1.0}, {})
        console.close()
    assert "steps/s" in err.text
    assert "\x1b" not in output.text()
    assert len(output.text().splitlines()) == 2
