"""Omniboard on a real database, over HTTP and in a real browser.

Screenshots are left in build/artifacts/board.
"""

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from phalanx.errors import TrackingError
from phalanx.tracking import board as board_module
from phalanx.tracking import server as embedded
from phalanx.tracking.board import Board, install
from phalanx.tracking.experiment import run_experiment
from phalanx.tracking.target import Target

from .conftest import HANGS, Mongo, free_port, wait_until

SCREENSHOTS = Path(__file__).resolve().parents[3] / "build" / "artifacts" / "board"
STEPS = list(range(0, 100_000, 5_000))
RUNS = (("qmix", "3m", 20_000), ("qmix", "3m", 40_000), ("vdn", "MMM2", 80_000))


def won(pace):
    """A learning curve."""
    return [1 - math.exp(-step / pace) for step in STEPS]


@pytest.fixture(scope="module")
def mongo(tmp_path_factory):
    """A server that holds three runs; the test may kill it and start it again."""
    if embedded.executable() is None:
        pytest.skip("the extra `server` is not installed")
    server = Mongo(tmp_path_factory.mktemp("mongo")).start()
    results = tmp_path_factory.mktemp("results")
    for seed, (name, map_name, pace) in enumerate(RUNS):

        def body(handle, pace=pace):
            for step, value in zip(STEPS, won(pace), strict=True):
                handle.log_scalar("test_battle_won_mean", value, step)
                handle.log_scalar("loss", 1 / (1 + step), step)
            note = handle.directory / "note.txt"
            note.write_text(f"learnt at a pace of {pace}\n")
            handle.add_artifact(note)
            handle.info["engine"] = "embedded"
            handle.set_result(won(pace)[-1])

        env_args = {"map_name": map_name}
        config = {"name": name, "mixer": name, "seed": seed, "env": "sc2", "env_args": env_args}
        run_experiment(body, name=name, config=config, results_dir=results, mongo_url=server.url)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def board(mongo, tmp_path_factory):
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    try:
        install()
    except TrackingError as error:
        if "npm registry" not in str(error):
            raise
        pytest.skip(f"Omniboard is not installed, and the npm registry is out of reach: {error}")
    running = Board(Target("phalanx", mongo.url), tmp_path_factory.mktemp("board"), free_port())
    yield running
    running.close()


@pytest.fixture
def page(board):
    """A browser's page that must meet no error."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    quiet = ["background-networking", "component-update", "sync", "gpu", "quic"]
    flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    errors = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        opened = browser.new_page(viewport={"width": 1800, "height": 900})
        opened.set_default_timeout(60_000)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("requestfailed", lambda request: errors.append(request.url))
        opened.on(
            "response", lambda answer: errors.append(answer.url) if answer.status >= 400 else None
        )
        yield opened
        browser.close()
    assert errors == []


def shoot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def column(page, key):
    """Texts of one column of the runs table, from top to bottom."""
    return page.evaluate(
        """(key) => {
            const box = (cell) => cell.getBoundingClientRect();
            const head = document.querySelector(`[test-attr="header-${key}"]`);
            return [...document.querySelectorAll('[role=gridcell]')]
                .filter((cell) => Math.abs(box(cell).left - box(head).left) < 3)
                .sort((a, b) => box(a).top - box(b).top)
                .map((cell) => cell.innerText.trim());
        }""",
        key,
    )


def wait_for_column(page, key, texts):
    end = time.monotonic() + HANGS
    while column(page, key) != texts and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert column(page, key) == texts


def test_the_table_in_the_browser(page, board):
    page.goto(board.url)
    page.get_by_text("COMPLETED").nth(2).wait_for()
    shoot(page, "1_runs")
    assert column(page, "_id") == ["3", "2", "1"]
    assert column(page, "map") == ["MMM2", "3m", "3m"]
    assert column(page, "algorithm") == ["vdn", "qmix", "qmix"]
    assert column(page, "engine") == ["embedded"] * 3
    assert column(page, "seed") == ["2", "1", "0"]
    assert column(page, "steps") == ["95000"] * 3
    best = [won(pace)[-1] for _, _, pace in RUNS]
    assert [float(text) for text in column(page, "win rate, max")] == best[::-1]
    page.locator("[test-attr='header-sort-win rate, max']").click()
    wait_for_column(page, "_id", ["1", "2", "3"])  # the best first
    page.locator("[test-attr='header-sort-win rate, max']").click()
    wait_for_column(page, "_id", ["3", "2", "1"])
    shoot(page, "2_sorted")


def plotted(page):
    """Names and values of the curves that are drawn."""
    page.locator(".js-plotly-plot").wait_for()
    return page.evaluate(
        """() => Object.fromEntries(document.querySelector('.js-plotly-plot').data
            .filter((line) => !line.name.endsWith('.unsmoothed')).map((line) => [line.name, line.y]))"""
    )


def test_a_run_in_the_browser(page, board):
    page.goto(board.url)
    page.locator("[test-attr='cell-row_expander-1']").click()
    curves = plotted(page)
    assert curves["test_battle_won_mean"] == pytest.approx(won(40_000))
    assert set(curves) == {"test_battle_won_mean", "loss"}
    shoot(page, "3_run")
    page.get_by_text("Config", exact=True).click()
    page.locator(".tab-content").get_by_text("env_args").first.wait_for()
    shoot(page, "4_config")
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("note.txt").first.click()
    page.get_by_text("learnt at a pace of 40000").wait_for()
    page.wait_for_timeout(500)  # it is faded in
    shoot(page, "5_artifact")


def test_runs_are_compared_in_the_browser(page, board):
    page.goto(board.url)
    for row in range(3):
        page.locator(f"[test-attr='cell-row_selection-{row}']").click()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Compare 3 Runs [3, 2, 1]").wait_for()
    curves = plotted(page)
    for number, (_, _, pace) in enumerate(RUNS, 1):
        assert curves[f"{number}-test_battle_won_mean"] == pytest.approx(won(pace))
    shoot(page, "6_compare")
    page.locator(".compare-runs-modal").get_by_text("Config", exact=True).click()
    page.locator(".compare-runs-modal").get_by_text("map_name").first.wait_for()
    shoot(page, "7_compare_config")


def test_tags_and_notes_in_the_browser(page, board, mongo):
    page.set_viewport_size({"width": 2400, "height": 900})
    page.goto(board.url)
    page.locator("[test-attr='edit-button']").first.click()
    page.locator("textarea").first.fill("the slow one")
    page.locator("form.editableform button[type=submit], .editable-submit").first.click()
    page.get_by_text("the slow one").first.wait_for()
    tags = page.locator("[role=gridcell] input[type=text]").first
    tags.fill("baseline")
    tags.press("Enter")
    run = {}
    end = time.monotonic() + HANGS
    while "tags" not in run.get("omniboard", {}) and time.monotonic() < end:
        page.wait_for_timeout(50)
        run = mongo.db().runs.find_one({"_id": 3})
    assert run["omniboard"] == {"notes": "the slow one", "tags": ["baseline"]}
    assert run["config"]["mixer"] == "vdn"
    shoot(page, "8_tags_and_notes")


def answers(port):
    """Whether anybody listens there."""
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def get(board, path, headers=None, **query):
    """Answer of the board's HTTP API."""
    address = f"{board.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers or {})) as answer:
        data = answer.read()
    return json.loads(data) if "json" in answer.headers["Content-Type"] else data


def test_the_http_api_gives_the_recorded_values(board, mongo):
    db = mongo.db()
    best = {number: won(pace)[-1] for number, (_, _, pace) in enumerate(RUNS, 1)}
    path = "info.summary.max.test_battle_won_mean"
    found = get(board, "Runs", select=f"_id,{path}", sort_by=path, order_by=-1)
    assert [(r["_id"], r["info"]["summary"]["max"]["test_battle_won_mean"]) for r in found] == [
        (number, best[number]) for number in (1, 2, 3)
    ]
    query = json.dumps({"$and": [{"config.env_args.map_name": {"$eq": "3m"}}]})
    assert [r["_id"] for r in get(board, "Runs", select="_id", query=query, sort_by="_id")] == [
        2,
        1,
    ]
    assert get(board, "Runs/count", query=query) == {"count": 2}
    (curve,) = get(board, "Metrics", query=json.dumps({"run_id": 3, "name": "loss"}))
    assert curve["steps"] == STEPS
    assert curve["values"] == [1 / (1 + step) for step in STEPS]
    # Metric columns of the user's own go another way, rewritten to use the index.
    kinds = {"last": 1 / (1 + STEPS[-1]), "max": 1.0, "min": 1 / (1 + STEPS[-1])}
    kinds["avg"] = sum(1 / (1 + step) for step in STEPS) / len(STEPS)
    columns = [{"name": f"loss {k}", "metric_name": "loss", "extrema": k} for k in kinds]
    db["omniboard.metric.columns"].insert_many(columns)
    for run in get(board, "Runs", select="_id," + ",".join(c["name"] for c in columns)):
        assert [run[f"loss {kind}"] for kind in kinds] == pytest.approx(list(kinds.values()))
    db["omniboard.metric.columns"].delete_many({})
    (file,) = get(board, "files/artifacts/2")
    assert get(board, f"files/download/{file['_id']}/note.txt") == b"learnt at a pace of 40000\n"


def test_pages_of_others_get_no_answer(board):
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(board, "Runs", headers=headers)
        assert refused.value.code == 403
    with urllib.request.urlopen(f"{board.url}/api/v1/Runs/count") as answer:
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_no_page_may_frame_it(board):
    for address in (board.url, f"{board.url}/api/v1/Runs/count", board.url.removesuffix("/sacred")):
        request = urllib.request.Request(address, headers={"Accept": "text/html"})
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_board_listens_on_this_machine_only(board):
    port = f":{board.port:04X}"
    rows = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = [row.split()[1] for row in rows.splitlines() if row.split()[3] == "0A"]
    assert [where for where in listening if where.endswith(port)] == ["0100007F" + port]


def test_columns_a_user_removed_stay_away(mongo, board):
    db = mongo.db()
    columns = db["omniboard.custom.columns"]
    assert {c["name"]: c["config_path"] for c in columns.find()} == board_module.COLUMNS
    removed = columns.find_one_and_delete({"name": "engine"})
    board_module.set_up_columns(db)
    assert columns.count_documents({}) == len(board_module.COLUMNS) - 1
    assert "engine" not in board_module.default_table(db)["columnOrder"]
    columns.insert_one(removed)


def test_the_board_comes_back_with_its_database(board, mongo):
    mongo.kill()
    with pytest.raises(urllib.error.HTTPError):
        get(board, "Runs", select="_id")
    mongo.start()
    end = time.monotonic() + HANGS
    while True:
        try:
            assert len(get(board, "Runs", select="_id")) == 3
            break
        except urllib.error.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_command_leaves_nothing_that_serves(mongo, board, tmp_path, number):
    words = ("board", "--results", tmp_path, "--port", free_port())
    process = subprocess.Popen(
        [sys.executable, "-m", "phalanx.main", *map(str, words), f"--mongo-url={mongo.url}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        with urllib.request.urlopen(f"{url}/sacred/api/v1/Runs/count") as answer:
            assert json.load(answer) == {"count": 3}
        process.send_signal(number)
        assert process.wait(HANGS) == (0 if number == signal.SIGTERM else -number)
    port = int(url.rpartition(":")[2])
    wait_until(lambda: not answers(port))


def test_a_missing_node_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrackingError, match=r"Node.js is missing.*nodejs.org.*phalanx runs"):
        install(tmp_path / "cache")


@pytest.mark.parametrize("broken", ["old node", "no npm", "no registry"])
def test_what_npm_needs_is_explained(tmp_path, monkeypatch, broken, capsys):
    programs = {
        "node": "echo v10.1.0" if broken == "old node" else "echo v20.0.0",
        "npm": "echo 'npm error code ENOTFOUND' >&2; exit 1",
    }
    for name, script in programs.items():
        if (broken, name) != ("no npm", "npm"):
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    said = {"old node": "v10.1.0 is too old", "no npm": "npm is missing"}.get(broken, "ENOTFOUND")
    with pytest.raises(TrackingError, match=said):
        install(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("omniboard-*/node_modules"))
    assert ("once, about a minute" in capsys.readouterr().err) == (broken == "no registry")
