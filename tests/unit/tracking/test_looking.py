"""Finding runs, and the commands that show them."""

import argparse
import json
import sys

import pytest

from phalanx.errors import MissingDependencyError, TrackingError
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
