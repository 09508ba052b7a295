"""The commands of the README, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from phalanx.checkpoint import load_checkpoint

from ..patience import HANGS
from .command import MAIN, phalanx, start

SHORT = (
    "t_max=600",
    "test_interval=300",
    "log_interval=300",
    "test_nepisode=4",
    "batch_size=4",
    "batch_size_run=4",
    "buffer_size=64",
    "mongo_url=none",
)


def only_run(folder: Path) -> Path:
    """The one run recorded below ``folder``."""
    (config,) = folder.glob("results/runs/*/config.json")
    return config.parent


def metric(run: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a metric on disk."""
    points: list[tuple[int, float]] = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["name"] == name:
            points += zip(row["steps"], row["values"], strict=True)
    return points


def test_the_command_this_project_exists_for(tmp_path: Path) -> None:
    words = ("--config=vdfd", "--env-config=sc2", "with", "map_name=MMM2", *SHORT)
    done = phalanx(*words, cwd=tmp_path)
    run = only_run(tmp_path)
    assert f"run {run.name} done: test win rate " in done.stdout
    assert f"src/main.py evaluate {run.relative_to(tmp_path)}" in done.stdout
    stored = json.loads((run / "config.json").read_text())
    assert stored["env_args"]["map_name"] == "MMM2"
    assert stored["world_model"] == "disentangled"
    assert json.loads((run / "info.json").read_text())["engine"] == "embedded"
    assert metric(run, "test_battle_won_mean")
    assert metric(run, "loss")


def test_recomposed_from_keys(tmp_path: Path) -> None:
    words = ("world_model=none", "mixer=vdn", "seed=3", "game=coordination", *SHORT)
    phalanx("--config=vdfd", "--env-config=matrix", "with", *words, cwd=tmp_path)
    stored = json.loads((only_run(tmp_path) / "config.json").read_text())
    assert (stored["world_model"], stored["mixer"], stored["seed"]) == ("none", "vdn", 3)


def test_smacv2_is_trained_on_and_its_evaluation_filmed(tmp_path: Path) -> None:
    words = ("map_name=10gen_protoss", "n_units=3", "n_enemies=3", "prob_obs_enemy=0.5", *SHORT)
    phalanx("--config=qmix", "--env-config=sc2v2", "with", *words, cwd=tmp_path)
    run = only_run(tmp_path)
    stored = json.loads((run / "config.json").read_text())
    assert stored["env_args"]["map_name"] == "10gen_protoss"
    assert json.loads((run / "info.json").read_text())["engine"] == "embedded"
    assert metric(run, "loss")
    out = tmp_path / "rows.csv"
    more = ("test_nepisode=3", "save_video=2")
    phalanx("evaluate", str(run), f"--out={out}", "with", *more, cwd=tmp_path)
    films = sorted(path.name for path in (tmp_path / "rows_films").iterdir())
    assert films == [f"episode_00{i}.{ending}" for i in (0, 1) for ending in ("gif", "npz")]


def test_evaluate_writes_one_row_per_episode(tmp_path: Path) -> None:
    phalanx("--config=qmix", "--env-config=sc2", "with", "map_name=3m", *SHORT, cwd=tmp_path)
    run = only_run(tmp_path)
    out = tmp_path / "rows.csv"
    phalanx("evaluate", str(run), f"--out={out}", "with", "test_nepisode=7", cwd=tmp_path)
    rows = list(csv.DictReader(out.open()))
    assert [r["episode"] for r in rows] == [str(i) for i in range(7)]
    assert all(0 <= float(r["return"]) <= 25 for r in rows)
    assert {"battle_won", "ep_length", "dead_enemies"} <= set(rows[0])
    phalanx("evaluate", run.name, "with", "test_nepisode=2", "save_video=1", cwd=tmp_path)
    (trace,) = run.glob("**/evaluation_films/episode_000.npz")
    assert trace.with_suffix(".gif").is_file()
    drawn = phalanx("render", str(trace), "--png", "--step=2", "--width=320", cwd=tmp_path)
    assert drawn.stdout.strip() == str(trace.with_suffix(".png"))
    assert trace.with_suffix(".png").is_file()
    wrong = phalanx("render", str(out), cwd=tmp_path, status=1)
    assert wrong.stderr.startswith(f"error: {out} is not a battle trace, or is damaged")
    wrong = phalanx("render", str(trace), "--gif", "--out=a.png", cwd=tmp_path, status=1)
    assert wrong.stderr == "error: --gif and --out a.png name two formats.\n"
    assert "--width" in phalanx("render", "--help").stdout


def test_killed_and_resumed_equals_never_killed(tmp_path: Path) -> None:
    words = [w for w in SHORT if not w.startswith("t_max")]
    words += ["map_name=3m", "t_max=3000", "save_model_interval=800"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir()
    part.mkdir()
    phalanx("--config=qmix", "--env-config=sc2", "with", *words, cwd=whole)

    process = start("--config=qmix", "--env-config=sc2", "with", *words, cwd=part)
    while not list(part.glob("results/runs/*/checkpoints/latest/meta.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    run = only_run(part)
    stopped_at = json.loads((run / "checkpoints/latest/meta.json").read_text())["t_env"]
    assert stopped_at < 3000

    phalanx("with", f"resume={run.name}", cwd=part)
    assert only_run(part) == run
    for name in ("test_return_mean", "return_mean", "loss", "epsilon"):
        assert metric(run, name) == metric(only_run(whole), name), name
    ends = [load_checkpoint(r / "checkpoints" / "latest") for r in (run, only_run(whole))]
    for key, value in ends[0]["policy"].items():
        assert torch.equal(value, ends[1]["policy"][key]), key


def test_checkpoint_path_starts_a_new_run_from_an_old_one(tmp_path: Path) -> None:
    phalanx("--config=qmix", "--env-config=matrix", "with", *SHORT, cwd=tmp_path)
    old = only_run(tmp_path)
    done = phalanx("with", f"checkpoint_path={old}", "t_max=900", cwd=tmp_path)
    assert "at step 600" in done.stdout + done.stderr
    assert len(list(tmp_path.glob("results/runs/*/config.json"))) == 2


def test_print_config_shows_value_origin_and_description(tmp_path: Path) -> None:
    words = ("--config=vdfd", "--env-config=sc2", "with", "map_name=MMM2")
    shown = phalanx("print_config", *words, cwd=tmp_path).stdout
    (line,) = [row for row in shown.splitlines() if row.startswith("env_args.map_name")]
    assert "'MMM2'" in line
    assert "command line" in line
    (line,) = [row for row in shown.splitlines() if row.startswith("mixer ")]
    assert "config/algs/" in line


def test_list_shows_kinds_parts_and_keys() -> None:
    everything = phalanx("list").stdout
    for word in ("mixer", "qmix", "world_model", "disentangled", "runner", "vector", "env", "sc2"):
        assert word in everything
    assert "mixing_embed_dim" in phalanx("list", "mixer", "qmix").stdout
    assert "unknown kind 'mixr'. Did you mean 'mixer'?" in phalanx("list", "mixr", status=1).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config=qmx",), "error: --config=qmx: no such config. Did you mean 'qmix'"),
        (("--config=qmix", "with", "mapname=3m"), "Did you mean 'map_name'"),
        (("--config=qmix", "with", "map_name=3mm"), "Did you mean '3m'"),
        (("trian",), "error: unknown command 'trian'. Did you mean 'train'?"),
        (("with", "resume=nothing"), "nothing"),
        (("evaluate", "nowhere"), "nowhere"),
        ((), "error: no algorithm chosen: add --config=NAME"),
    ],
)
def test_mistakes_get_one_clear_line(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = phalanx(*words, cwd=tmp_path, status=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("results/runs/*"))


def test_sacreds_own_options_work(tmp_path: Path) -> None:
    words = ("-c", "a comment", "-F", str(tmp_path / "files"), "--config=qmix")
    phalanx(*words, "--env-config=matrix", "with", *SHORT, cwd=tmp_path)
    assert list((tmp_path / "files").glob("*/run.json"))
    meta = json.loads((only_run(tmp_path) / "run.json").read_text())["meta"]
    assert meta["comment"] == "a comment"


def test_help_needs_nothing() -> None:
    assert "--env-config" in phalanx("--help").stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_stopped_run_leaves_a_checkpoint_of_that_very_step(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    words = ("t_max=1000000", "test_interval=1000000", "log_interval=200", "mongo_url=none")
    process = start("--config=qmix", "--env-config=matrix", "with", *words, cwd=tmp_path)
    assert process.stdout is not None
    while "steps/s" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    said = process.communicate(timeout=HANGS)[0]
    assert process.returncode == status
    run = only_run(tmp_path)
    assert json.loads((run / "checkpoints/latest/meta.json").read_text())["t_env"] >= 200
    assert json.loads((run / "run.json").read_text())["status"] == "INTERRUPTED"
    if number == signal.SIGINT:
        assert "stopping after the step in progress, with a checkpoint" in said
        assert f"go on with: {sys.executable}" in said.replace("\n", " ")
        assert f"resume={run.name}" in said


MATRIX = ("--config=qmix", "--env-config=matrix", "with", *SHORT)


def hint(stdout: str, name: str) -> str:
    """A command that the end of a run prints."""
    (line,) = [line for line in stdout.splitlines() if line.startswith(f"  {name}:")]
    return line.partition(":")[2].strip()


def typed(command: str, cwd: Path) -> str:
    """What a printed command says when it is typed as it is."""
    python, main, *words = shlex.split(command)
    assert (python, main) == (sys.executable, str(MAIN))
    done = phalanx(*words, cwd=cwd)
    return done.stdout + done.stderr


def test_the_hints_work_as_they_are_printed(tmp_path: Path) -> None:
    words = (*MATRIX, "local_results_path=my results", "label=mine")
    said = phalanx(*words, cwd=tmp_path).stdout
    (run,) = tmp_path.glob("my results/runs/2*")
    assert run.name in typed(hint(said, "numbers"), tmp_path)
    assert ".png" in typed(hint(said, "curve"), tmp_path)
    assert "one row per episode" in typed(hint(said, "evaluate"), tmp_path)
    assert (run / "evaluation.csv").is_file()
    assert "run " in typed(hint(said, "go on"), tmp_path)
    assert [t for t, _ in metric(run, "test_return_mean")] == [0, 300, 600, 900, 1200]
    # RUN is a name, a label or a folder, here too.
    where = "local_results_path=my results"
    for name in ("qmix", "mine", run.name, str(run)):
        phalanx("evaluate", name, "with", where, "test_nepisode=2", cwd=tmp_path)
        resumed = phalanx("with", f"resume={name}", where, cwd=tmp_path)
        assert f"run {run.name} is complete" in resumed.stdout
    elsewhere = phalanx("with", "resume=mine", cwd=tmp_path, status=1)
    assert "Runs that are kept elsewhere need local_results_path=DIR" in elsewhere.stderr


def recorded(run: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in run.iterdir() if p.suffix in (".json", ".jsonl")}


def test_a_refused_resume_changes_nothing_and_a_damaged_checkpoint_has_one_before_it(
    tmp_path: Path,
) -> None:
    phalanx(*MATRIX, "save_model_interval=200", cwd=tmp_path)
    run = only_run(tmp_path)
    before = recorded(run)
    for words, message in (
        (("mixer=vdn", "t_max=900"), "the checkpoint does not fit this config"),
        (("rnn_hidden_dim=8", "t_max=900"), "the checkpoint does not fit this config"),
        (("no_such_key=1",), "no_such_key"),
    ):
        refused = phalanx("with", f"resume={run.name}", *words, cwd=tmp_path, status=1)
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
        assert recorded(run) == before
    curve = metric(run, "test_return_mean")
    for name in ("latest", "latest.previous"):
        whole = run / "checkpoints" / name / "state.pt"
        content = whole.read_bytes()
        whole.write_bytes(content[:99] + bytes([content[99] ^ 4]) + content[100:])
        if name == "latest":
            done = phalanx("with", f"resume={run.name}", cwd=tmp_path)
            assert "is not what was written (checksum). Using the one before it" in done.stderr
            assert metric(run, "test_return_mean") == curve
            (run / "checkpoints" / "latest" / "state.pt").write_bytes(b"")
    before = recorded(run)
    lost = phalanx("with", f"resume={run.name}", "t_max=900", cwd=tmp_path, status=1)
    assert "nothing was changed" in lost.stderr
    assert recorded(run) == before


def test_changed_keys_of_a_resumed_run_are_told(tmp_path: Path) -> None:
    phalanx(*MATRIX, cwd=tmp_path)
    run = only_run(tmp_path)
    words = ("t_max=900", "seed=7", "lr=0.01", "torch_threads=2")
    done = phalanx("with", f"resume={run.name}", *words, cwd=tmp_path)
    (told,) = [line for line in done.stderr.splitlines() if "other settings" in line]
    for part in ("from step 600 on", "lr (0.001 before, now 0.01)", "seed (0 before, now 7)"):
        assert part in told
    assert "torch_threads (1 before, now 2)" in told
    assert "t_max" not in told
    (change,) = json.loads((run / "info.json").read_text())["changed_on_resume"]
    assert change["keys"]["seed"] == [0, 7]


def test_code_that_a_checkpoint_names_runs_only_when_it_is_trusted(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("from pathlib import Path\nPath('ran').touch()\n")
    phalanx(*MATRIX, "plugins=[mine.py]", cwd=tmp_path)
    run = only_run(tmp_path)
    ran = tmp_path / "ran"
    ran.unlink()
    for words in (("evaluate", run.name), ("with", f"resume={run.name}", "t_max=900")):
        refused = phalanx(*words, cwd=tmp_path, status=1)
        assert "Python code that would be run now" in refused.stderr
        assert "mine.py" in refused.stderr
        assert not ran.exists()
    trusted = ("with", "trust_plugins=True")
    done = phalanx("evaluate", run.name, *trusted, "test_nepisode=2", cwd=tmp_path)
    assert "running the plugins that" in done.stderr
    assert ran.exists()
    phalanx("evaluate", run.name, "with", "plugins=[mine.py]", "test_nepisode=2", cwd=tmp_path)
