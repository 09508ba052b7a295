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
from phalanx.tracking.export import marl_eval
from phalanx.tracking.grouping import group_by_config
from phalanx.tracking.plots import curve_of, label_groups
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
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[pandas\]'"):
        run_table(results=results)


def test_seeds_of_one_config_share_a_curve(results, tmp_path, capsys):
    groups = label_groups(runs(results))
    assert {label: len(members) for label, members in groups.items()} == {
        "qmix, 3m": 2,
        "vdn, 3m": 1,
    }
    uids = [run.uid for run in runs(results)]
    out = tmp_path / "curves" / "won.png"
    assert command("plot", *uids, "--results", results, "--out", out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(TrackingError, match="'nothing'; there are: loss"):
        command("plot", *uids, "--results", results, "--metric", "nothing", "--out", out)


def store(folder, *configs, metrics=("test_return_mean",)):
    """A run per config, without anything trained."""
    for config in configs:
        config = {"name": "qmix", "seed": 0, "env": "matrix", **config}

        def body(handle, config=config):
            for name in config.pop("logs", metrics):
                for step in (0, 100):
                    handle.log_scalar(name, step + config["seed"], step)

        logged = {key: value for key, value in config.items() if key != "logs"}
        run_experiment(
            body, name=config["name"], config=logged, results_dir=folder, mongo_url="none"
        )
    return runs(folder)


def test_seeds_stay_together_whatever_only_changes_length_and_logging(tmp_path):
    lengths = ({"t_max": 100, "log_interval": 10}, {"t_max": 200, "seed": 1, "torch_threads": 2})
    assert [len(g.runs) for g in group_by_config(store(tmp_path, *lengths))] == [2]
    others = ({"lr": 0.1, "seed": 2}, {"lr": 0.5, "seed": 2}, {"lr": 0.5, "seed": 3})
    found = {g.name: len(g.runs) for g in group_by_config(store(tmp_path, *others))}
    assert found == {"qmix, lr=unset": 2, "qmix, lr=0.1": 1, "qmix, lr=0.5": 2}


def test_plot_leaves_out_and_names_runs_without_numbers(tmp_path, capsys, caplog):
    recorded = store(tmp_path, {}, {"seed": 1, "logs": ()}, {"seed": 2, "logs": ("loss",)})
    assert (
        command("plot", *[r.uid for r in recorded], "--results", tmp_path, "--mongo-url=none") == 0
    )
    said = capsys.readouterr()
    assert said.out.strip().endswith("test_return_mean.png")
    left_out = (
        f"left out, without numbers of test_return_mean: {recorded[1].uid}, {recorded[2].uid}"
    )
    assert left_out in said.err
    with pytest.raises(TrackingError, match="no run has the metric"):
        command("plot", recorded[1].uid, "--results", tmp_path, "--mongo-url=none")


def test_numbers_that_are_not_finite_are_not_drawn(tmp_path):
    def body(handle):
        for step, value in enumerate([1.0, float("nan"), float("inf"), 2.0]):
            handle.log_scalar("test_return_mean", value, step)

    run_experiment(body, name="qmix", config={"seed": 4}, results_dir=tmp_path, mongo_url="none")
    (run,) = runs(tmp_path)
    curve = curve_of(run, "test_return_mean")
    assert (curve.steps, curve.values) == ([0, 3], [1.0, 2.0])
    assert command("plot", run.uid, "--results", tmp_path, "--mongo-url=none") == 0
    assert command("runs", "show", run.uid, "--results", tmp_path, "--mongo-url=none") == 0
    tree = marl_eval([run]).tree[""][""]["qmix"]["seed_4"]
    assert [tree[f"step_{i}"]["return_mean"] for i in (1, 2, 3, 4)] == [
        [1.0],
        [None],
        [None],
        [2.0],
    ]


def test_marl_eval_gets_every_run_under_a_name_of_its_own(tmp_path, capsys, caplog):
    def robot(scenario, division, **more):
        arguments = {"scenario": scenario, "agent_conf": division}
        return {"env": "mamujoco", "env_args": arguments, **more}

    configs = (
        robot("HalfCheetah", "6x1"),
        robot("Ant", "4x2"),
        robot("Ant", "4x2", lr=0.1),
        robot("Ant", "2x4", seed=1),
        {"env": "sc2", "env_args": {"map_name": "3m", "episode_limit": 30}},
        {"env": "sc2", "env_args": {"map_name": "3m", "episode_limit": 60}},
    )
    store(tmp_path, *configs)
    out = tmp_path / "all.json"
    words = ("--format", "marl-eval", "--results", tmp_path, "--mongo-url=none")
    assert command("export", *words, "--out", out) == 0
    assert f"6 runs in {out}" in capsys.readouterr().err
    tree = json.loads(out.read_text())
    assert set(tree["mamujoco"]) == {"HalfCheetah-6x1", "Ant-4x2", "Ant-2x4"} or all(
        name.startswith(("HalfCheetah-6x1", "Ant-4x2", "Ant-2x4")) for name in tree["mamujoco"]
    )
    assert set(tree["sc2"]) == {"3m, episode_limit=30", "3m, episode_limit=60"}
    leaves = [s for tasks in tree.values() for t in tasks.values() for a in t.values() for s in a]
    assert len(leaves) == 6
    # A run that is there twice counts once, and that is said.
    store(tmp_path, configs[0], {"seed": 3, "logs": ()})
    assert command("export", *words, "--out", out) == 0
    assert f"6 runs in {out}" in capsys.readouterr().err
    assert "is there twice" in caplog.text
    assert "has no test metrics to export, left out" in caplog.text
    with pytest.raises(TrackingError, match=r"none of 8 runs .* return_mean; .*test_return_mean"):
        command("export", *words, "--metric", "return_mean", "--out", out)
    with pytest.raises(TrackingError, match="none of 8 runs has points of nothing"):
        command("export", "--results", tmp_path, "--mongo-url=none", "--metric", "nothing")


def test_a_run_is_found_by_its_name_and_label_too(tmp_path):
    first, second, third = store(tmp_path, {"name": "vdn"}, {"label": "mine"}, {"seed": 1})
    assert find_run(tmp_path, "vdn").uid == first.uid
    assert find_run(tmp_path, "mine").uid == second.uid
    with pytest.raises(TrackingError, match=f"{second.uid}, {third.uid}"):
        find_run(tmp_path, "qmix")


def test_a_missing_matplotlib_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[plot\]'"):
        command("plot", runs(results)[0].uid, "--results", results)


def test_code_outside_a_checkout_has_no_git_state(tmp_path):
    (tmp_path / "__init__.py").touch()
    assert git_state(tmp_path) is None


def test_the_server_program_is_never_imported(results):
    assert "secantus" not in sys.modules
