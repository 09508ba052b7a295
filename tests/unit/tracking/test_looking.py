"""Finding runs, and the commands that show them."""

import argparse
import csv
import io
import json
import sys

import pytest

from phalanx.errors import ConfigError, MissingDependencyError, TrackingError
from phalanx.tracking import points
from phalanx.tracking import runs as run_table
from phalanx.tracking.cli import add_subcommands
from phalanx.tracking.experiment import run_experiment
from phalanx.tracking.plots import group_by_config
from phalanx.tracking.provenance import git_state
from phalanx.tracking.queries import find_run, run_folder, runs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for name, seed in (("qmix", 1), ("qmix", 2), ("vdn", 1)):

        def body(handle, seed=seed):
            for t_env in range(0, 100, 10):
                handle.log_scalar("test_battle_won_mean", t_env / 100 / seed, t_env + seed)
            handle.log_scalar("loss", float("nan"), 99)

        config = {"name": name, "seed": seed, "env": "sc2", "env_args": {"map_name": "3m"}}
        run_experiment(body, name=name, config=config, results_dir=folder, mongo_url="none")
    return folder


def command(*words):
    parser = argparse.ArgumentParser()
    add_subcommands(parser.add_subparsers(required=True))
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.func(arguments)


def test_runs_are_found_by_uid_beginning_and_folder(results):
    first, second, _ = runs(results)
    assert [run.config["seed"] for run in runs(results)] == [1, 2, 1]
    assert find_run(results, first.uid) == first
    assert find_run(results, second.uid[:-1]).uid == second.uid
    assert run_folder(results, str(first.directory)) == first.directory
    with pytest.raises(TrackingError, match="could be any of"):
        find_run(results, first.uid[:4])
    with pytest.raises(TrackingError, match="phalanx runs"):
        find_run(results, "99")


def test_metrics_are_read_by_name(results):
    run = runs(results)[0]
    everything = run.metrics()
    assert set(everything) == {"test_battle_won_mean", "loss"}
    won = run.metrics(["test_battle_won_mean", "nothing"])
    assert won == {"test_battle_won_mean": everything["test_battle_won_mean"]}
    assert run.metrics(iter(["loss"]))["loss"].steps == [99]
    assert run.metrics(["won"]) == run.metrics([]) == {}


def test_a_run_is_found_by_its_number_in_the_database(results):
    second = runs(results)[1]
    (second.directory / "mirror.json").write_text(json.dumps({"run_id": 12}))
    assert find_run(results, "12").uid == second.uid
    (second.directory / "mirror.json").unlink()


def test_a_killed_run_is_called_dead(results, tmp_path):
    source = runs(results)[0].directory
    record = json.loads((source / "run.json").read_text()) | {"status": "RUNNING"}
    folder = tmp_path / "runs" / source.name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    assert runs(tmp_path)[0].status == "DIED"


def test_runs_lists_and_shows(results, capsys):
    assert command("runs", "--results", results) == 0
    table = capsys.readouterr().out
    assert table.count("COMPLETED") == 3
    for word in ("qmix", "vdn", "3m", "0.900", runs(results)[0].uid):
        assert word in table
    assert command("runs", "show", runs(results)[0].uid, "--results", results) == 0
    shown = capsys.readouterr().out
    for word in ("env_args.map_name", "versions.torch", "test_battle_won_mean", "▁", "█"):
        assert word in shown
    assert command("runs", "--results", results / "none") == 0
    assert "no runs" in capsys.readouterr().out


def test_runs_are_filtered_sorted_and_cut(results, capsys):
    def listed(*words):
        assert command("runs", "--results", results, "--columns", "name,seed", *words) == 0
        return [
            tuple(cell.strip() for cell in line.strip("│").split("│"))
            for line in capsys.readouterr().out.splitlines()
            if line.startswith("│")
        ]

    assert listed() == [("qmix", "1"), ("qmix", "2"), ("vdn", "1")]
    assert listed("name=qmix", "config.seed>1") == [("qmix", "2")]
    assert listed("map_name=3m,8m", "name~^v") == [("vdn", "1")]
    assert listed("max.test_battle_won_mean<0.5") == [("qmix", "2")]
    assert listed("--sort", "seed", "--reverse")[0] == ("qmix", "2")
    assert listed("--reverse", "--limit", "1") == [("vdn", "1")]
    assert command("runs", "name=iql", "--results", results) == 0
    assert "no run meets" in capsys.readouterr().out
    with pytest.raises(TrackingError, match="Did you mean 'map_name'"):
        listed("mapname=3m")
    with pytest.raises(TrackingError, match="is no filter"):
        listed("3m")


def test_runs_are_compared(results, tmp_path, capsys):
    uids = [run.uid for run in runs(results)]
    out = tmp_path / "both.png"
    assert command("compare", *uids[:2], "--results", results, "--out", out) == 0
    shown = capsys.readouterr().out
    (seeds,) = [line for line in shown.splitlines() if line.startswith("│ seed ")]
    assert [cell.strip() for cell in seeds.strip("│").split("│")] == ["seed", "1", "2"]
    assert "env_args.map_name" not in shown  # the same in both
    assert "0.9, 0.9" in shown
    chart = [line.split("│")[1] for line in shown.splitlines() if line[9:11] == " │"]
    assert len(chart) == 14
    assert chart[0].rstrip().endswith("A")  # 0.9, at the last step but one
    assert chart[7].rstrip().endswith("B")  # 0.45, half as high
    assert out.read_bytes().startswith(b"\x89PNG")


def test_points_are_exported_as_tidy_csv(results, tmp_path, capsys):
    assert command("export", "name=qmix", "--results", results) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * (10 + 1)
    won = [row for row in rows if row["metric"] == "test_battle_won_mean" and row["seed"] == "2"]
    assert [float(row["value"]) for row in won] == [t / 200 for t in range(0, 100, 10)]
    assert [int(row["step"]) for row in won] == [t + 2 for t in range(0, 100, 10)]
    assert {(row["env"], row["task"], row["run"]) for row in rows} == {("sc2", "3m", "")}
    out = tmp_path / "new" / "loss.csv"
    assert command("export", "--results", results, "--metric", "loss", "--out", out) == 0
    assert [row["value"] for row in csv.DictReader(out.open())] == ["nan"] * 3


def test_points_are_exported_for_marl_eval(results, capsys):
    assert command("export", "--format", "marl-eval", "--results", results) == 0
    exported = json.loads(capsys.readouterr().out)
    assert list(exported["sc2"]["3m"]) == ["qmix", "vdn"]
    assert sorted(exported["sc2"]["3m"]["qmix"]) == ["seed_1", "seed_2"]
    seed = exported["sc2"]["3m"]["qmix"]["seed_2"]
    assert seed["step_10"] == {"step_count": 92, "battle_won_mean": [0.45]}
    assert seed["absolute_metrics"] == {"battle_won_mean": [0.45]}
    assert len(seed) == 11


def test_runs_and_points_are_pandas_tables(results):
    table = run_table("name=qmix", results=results, mongo_url="none")
    assert list(table.index) == [run.uid for run in runs(results)[:2]]
    assert list(table["config.env_args.map_name"]) == ["3m", "3m"]
    assert list(table["max.test_battle_won_mean"]) == [0.9, 0.45]
    found = points("name=qmix", metrics=["test_battle_won_mean"], results=results, mongo_url="none")
    means = found.groupby("seed")["value"].mean()
    assert means.to_dict() == pytest.approx({1: 0.45, 2: 0.225})
    assert run_table("name=iql", results=results, mongo_url="none").empty
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        run_table("qmix", results=results, mongo_url="none")


def test_a_missing_pandas_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'phalanx\[pandas\]'"):
        run_table(results=results)


def test_seeds_of_one_config_share_a_curve(results, tmp_path, capsys):
    groups = group_by_config(runs(results))
    assert {label: len(members) for label, members in groups.items()} == {
        "qmix, 3m": 2,
        "vdn, 3m": 1,
    }
    uids = [run.uid for run in runs(results)]
    out = tmp_path / "curves" / "won.png"
    assert command("plot", *uids, "--results", results, "--out", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(TrackingError, match="'nothing'; all have: loss"):
        command("plot", *uids, "--results", results, "--metric", "nothing", "--out", out)


def test_a_missing_matplotlib_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'phalanx\[plot\]'"):
        command("plot", runs(results)[0].uid, "--results", results)


def test_code_outside_a_checkout_has_no_git_state(tmp_path):
    (tmp_path / "__init__.py").touch()
    assert git_state(tmp_path) is None


def test_the_server_program_is_never_imported(results):
    assert "secantus" not in sys.modules
