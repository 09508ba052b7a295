"""``phalanx dataset``: record, look at, check, cut up, put together, convert and export recorded episodes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DatasetError, did_you_mean

if TYPE_CHECKING:
    from .convert.foreign import Place
    from .dataset.checks import Report

SUBCOMMANDS = {
    "info": "returns, lengths, win rate and variety of a dataset",
    "check": "whether all of it is as it was written, and makes sense",
    "record": "play a checkpoint, or a player written by hand, into a new dataset",
    "split": "tiers by return, each a dataset of its own",
    "join": "several datasets as one",
    "convert": "a published format into ours",
    "export": "ours into a published format",
}
_USAGE = """\
phalanx dataset info DIR [--out FILE.png]
       phalanx dataset check DIR [--rescue DIR]
       phalanx dataset record RUN [--step N] [--epsilon E] (--episodes N | --transitions N)
                              [--seed S] --out DIR [with KEY=VALUE ...]
       phalanx dataset record --bot NAME [--env-config=ENV] [as above]
       phalanx dataset split DIR --tiers NAME:FROM-BELOW,... [--episodes N] [--seed S] --out DIR
       phalanx dataset join DIR DIR ... --out DIR
       phalanx dataset convert FORMAT PATH [--env-config=ENV] --out DIR [with KEY=VALUE ...]
       phalanx dataset export minari DIR --out DIR/NAME-v0"""
_FAULTS_SHOWN = 50


def dataset(arguments: Sequence[str], updates: Sequence[str]) -> int:
    """``phalanx dataset ...``; returns the exit status.

    Raises:
        ConfigError: there is no such command, or words after ``with`` where none are read.
        DatasetError: a dataset is missing, damaged or in the way.
    """
    command = arguments[0] if arguments else ""
    if command in ("", "-h", "--help"):
        print(f"usage: {_USAGE}\n")
        for name, what in SUBCOMMANDS.items():
            print(f"  {name:<8} {what}")
        print("\nEach has --help. The format and a worked example: docs/datasets.md")
        return 0
    if command not in SUBCOMMANDS:
        raise ConfigError(
            f"unknown command `dataset {command}`.{did_you_mean(command, SUBCOMMANDS)} "
            f"Commands: {', '.join(SUBCOMMANDS)}."
        )
    parser = argparse.ArgumentParser(
        prog=f"phalanx dataset {command}", description=f"{SUBCOMMANDS[command].capitalize()}."
    )
    if command in _COMPOSING:
        return _COMPOSING[command](parser, arguments[1:], updates)
    if updates:
        raise ConfigError(
            f"{updates[0]!r}: `dataset {command}` reads no keys; leave `with` and what follows out."
        )
    return _COMMANDS[command](parser, arguments[1:])


def _info(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument(
        "--out", metavar="FILE.png", type=Path, help="also draw the histogram of returns"
    )
    given = parser.parse_args(list(arguments))
    from .dataset import Dataset
    from .dataset.summary import draw, lines, summary

    found = summary(Dataset.open(given.folder))
    print("\n".join(lines(found)))
    if given.out is not None:
        print(draw(found, given.folder.resolve().name, given.out))
    return 0


def _check(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument(
        "--rescue", metavar="DIR", type=Path, help="copy the episodes without a fault to a new one"
    )
    given = parser.parse_args(list(arguments))
    from .dataset.derive import rescue
    from .dataset.summary import in_a_line

    report = _checked(given.folder)
    if given.rescue is not None:
        if not report.whole.any():
            raise DatasetError(f"{given.folder} has no whole episode that could be copied.")
        print(in_a_line(rescue(report.dataset, report.whole, given.rescue)))
    elif report.faults and report.whole.any():
        print(f"copy them: phalanx dataset check {given.folder} --rescue NEW_DIR")
    return int(bool(report.faults))


def _checked(folder: Path) -> Report:
    """What the checks found, after telling it."""
    from .dataset.checks import CHECKS, check

    report = check(folder)
    for fault in report.faults[:_FAULTS_SHOWN]:
        print(f"{fault.check}: {fault}")
    if len(report.faults) > _FAULTS_SHOWN:
        print(f"... and {len(report.faults) - _FAULTS_SHOWN:,} more")
    whole, there = (
        int(report.whole.sum()),
        sum(e.episodes for e in report.dataset.description.shards),
    )
    if report.faults:
        print(f"{whole:,} of {there:,} episodes are whole")
    else:
        steps = report.dataset.steps
        print(f"{there:,} episodes with {steps:,} steps are whole ({', '.join(CHECKS)})")
    return report


def _split(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument(
        "--tiers",
        required=True,
        metavar="NAME:FROM-BELOW,...",
        help="returns, e.g. poor:0-10,medium:10-15,good:15-",
    )
    parser.add_argument("--episodes", type=_count, metavar="N", help="of a tier, drawn at random")
    parser.add_argument("--seed", type=_seed, default=0, help="of the draw (default: 0)")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="gets one per tier")
    given = parser.parse_args(list(arguments))
    from .dataset import Dataset
    from .dataset.derive import parse_tiers, split
    from .dataset.summary import in_a_line
    from .dataset.writer import refuse_what_is_there

    tiers = parse_tiers(given.tiers)
    source = Dataset.open(given.folder)
    for tier in tiers:
        refuse_what_is_there(given.out / tier.name)
    for tier in tiers:
        made = split(source, tier, given.out / tier.name, episodes=given.episodes, seed=given.seed)
        there = len(tier.rows(source.returns))
        if made is None:
            print(f"{tier.name}: no episode has such a return, so nothing was written")
            continue
        fewer = "" if given.episodes is None or there >= given.episodes else ", fewer than asked"
        print(f"{tier.name}: {len(made):,} of the {there:,} there are{fewer}")
        print(in_a_line(made))
    return 0


def _join(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the new dataset")
    given = parser.parse_args(list(arguments))
    from .dataset import Dataset
    from .dataset.derive import join
    from .dataset.summary import in_a_line

    if len(given.folders) < 2:
        raise ConfigError(f"{given.folders[0]} alone: give two datasets or more to join.")
    sources = [Dataset.open(folder) for folder in given.folders]
    made = join(sources, given.out)
    for name in sorted({name for source in sources for name in source.fields} - set(made.fields)):
        print(f"{name} is left out: not all of them hold it")
    print(in_a_line(made))
    return 0


def _convert(
    parser: argparse.ArgumentParser, arguments: Sequence[str], updates: Sequence[str]
) -> int:
    parser.add_argument("format", metavar="FORMAT", help="alberdice, madt, omiga or vault")
    parser.add_argument("source", metavar="PATH", type=Path, help="its file, or folder of files")
    parser.add_argument(
        "--env-config",
        metavar="ENV",
        help="the environment that the episodes are of, with its keys: needed to test what learns from them",
    )
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the new dataset")
    given = parser.parse_args(list(arguments))
    if updates and given.env_config is None:
        raise ConfigError(
            f"{updates[0]!r} is a key of an environment: name it by --env-config=ENV."
        )
    from .convert import READERS, convert
    from .dataset.summary import in_a_line

    if given.format not in READERS:
        raise ConfigError(
            f"unknown format {given.format!r}.{did_you_mean(given.format, READERS)} "
            f"Formats: {', '.join(READERS)}."
        )
    place = None if given.env_config is None else _place(given.env_config, updates)
    print(in_a_line(convert(given.format, given.source, given.out, place)))
    return int(bool(_checked(given.out).faults))


def _place(env_config: str, updates: Sequence[str]) -> Place:
    """The environment so configured."""
    from ..build import make_env
    from ..config import compose
    from ..recording import environment_of
    from .convert.foreign import Place

    # A composition needs an algorithm; no part of it but the environment is built.
    composed = compose("iql", env_config, updates)
    env = make_env(composed, 1, "convert")
    try:
        return Place(env.spec, environment_of(composed, env))
    finally:
        env.close()


def _export(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    parser.add_argument("format", metavar="FORMAT", choices=["minari"], help="minari")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument(
        "--out", required=True, metavar="DIR/NAME-v0", type=Path, help="the new folder"
    )
    given = parser.parse_args(list(arguments))
    from .dataset import Dataset
    from .export_minari import export_minari

    print(export_minari(Dataset.open(given.folder), given.out))
    return 0


def _record(
    parser: argparse.ArgumentParser, arguments: Sequence[str], updates: Sequence[str]
) -> int:
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="run, or folder of a run or checkpoint"
    )
    parser.add_argument("--step", type=_seed, metavar="N", help="checkpoint (default: the latest)")
    parser.add_argument("--bot", metavar="NAME", help="a player written by hand, in place of a run")
    parser.add_argument("--env-config", metavar="ENV", help="environment of --bot (default: sc2)")
    parser.add_argument(
        "--epsilon",
        type=_share,
        default=0.0,
        metavar="E",
        help="share of random actions (default: 0, what tests do)",
    )
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument("--episodes", type=_count, metavar="N", help="so many")
    amount.add_argument(
        "--transitions", type=_count, metavar="N", help="whole episodes until there are so many"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="S", help="default: 0")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="the new dataset")
    given = parser.parse_args(list(arguments))
    if (given.run is None) == (given.bot is None):
        raise ConfigError("`dataset record` plays a RUN or a --bot NAME: give one of them.")
    if given.run is not None and given.env_config is not None:
        raise ConfigError(
            f"--env-config={given.env_config}: {given.run} plays in its own environment; leave it out."
        )
    if given.bot is not None and given.step is not None:
        raise ConfigError(f"--step {given.step}: a bot has no checkpoints; leave it out.")
    from ..collection import Amount, Collector
    from ..config import compose
    from ..session import home, open_run
    from ..tracking.console import Console
    from .dataset.summary import in_a_line

    if given.run is not None:
        checkpoint, composed = open_run(
            given.run, updates, "latest" if given.step is None else given.step
        )
        who = f"{composed.run.name} of step {checkpoint.t_env}"
    else:
        # A composition needs an algorithm; no part of it but the environment is built.
        composed = compose("iql", given.env_config, updates)
        who = given.bot
    asked = (
        Amount(given.transitions, "step")
        if given.episodes is None
        else Amount(given.episodes, "episode")
    )
    console = Console()
    collector = Collector(
        composed, given.out, asked, epsilon=given.epsilon, seed=given.seed, tell=console.update
    )
    console.start(asked.total, f"{who} plays {asked.total:,} {asked.unit}s", asked.unit)
    try:
        if given.run is None:
            made = collector.play_by_hand(given.bot)
        else:
            made = collector.play_checkpoint(checkpoint, home(checkpoint.folder).name)
    finally:
        console.close()
    print(in_a_line(made))
    return 0


_COMMANDS = {"info": _info, "check": _check, "split": _split, "join": _join, "export": _export}
_COMPOSING = {"record": _record, "convert": _convert}
"""Those that read keys."""


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, not {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, not {text!r}")
    return value
