"""Words of the command line: which command, which config, what goes on to Sacred."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import __version__
from .errors import (
    ConfigError,
    RenderError,
    did_you_mean,
    in_words,
    unforeseen,
    users_fault,
)
from .interrupt import TRY_AGAIN, Preempted

USAGE = """\
Phalanx {version}: cooperative multi-agent reinforcement learning from registered parts.

  phalanx --config=ALG [--env-config=ENV] [SACRED OPTIONS] [with KEY=VALUE ...]
      train and record a run
  phalanx with resume=RUN [KEY=VALUE ...]
      continue a run that was killed, or go on with a finished one (t_max=...)
  phalanx evaluate CHECKPOINT [--out FILE.csv] [with KEY=VALUE ...]
      play test episodes, one CSV row each; save_video=N films the first N (video_format=gif|mp4)
  phalanx render TRACE [--gif | --mp4 | --png] [--out FILE] [--step N] [--width PIXELS]
      draw a recorded battle
  phalanx print_config --config=ALG [--env-config=ENV] [with KEY=VALUE ...]
      every value of a run with its origin and description
  phalanx list [KIND [PART]] [with plugins=FILE]
      the parts there are, and the keys of one
  phalanx list configs | maps
      what --config and --env-config take, with a line on each; SMAC's maps
  phalanx doctor
      what of this machine can be used, and the line that mends what cannot
  phalanx dataset info | check | record | split | join | convert | export
      recorded episodes to learn from; has --help
  phalanx runs | compare | plot | export
      look at runs; each has --help
  phalanx sweep FILE.yaml | start | status | report
      many runs from one file, on this machine or a cluster; has --help
  phalanx work SWEEP
      run what nobody else runs of a sweep; start it as often as you like
  phalanx board
      look at runs in a web browser (Omniboard)
  phalanx db | sync
      the database of runs; each has --help

`python src/main.py` is the same as `phalanx`. Examples:

  phalanx --config=vdfd --env-config=sc2 with map_name=MMM2
  phalanx --config=qmix --env-config=matrix with mixer=vdn seed=3 t_max=5000
  phalanx list mixer qmix

ALG and ENV are names of shipped configs or paths of YAML files. Sacred's options work as they are, e.g.
-m HOST:PORT:DB (record there), -F DIR (files too), -c COMMENT, -u (unobserved), -l LEVEL, -d (debug).
"""

OWN_COMMANDS = ("train", "print_config", "list", "evaluate", "render", "doctor", "help")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_WITH_OWN_HELP = ("evaluate", "render")
TRACKING_COMMANDS = ("runs", "compare", "plot", "export", "board", "db", "sync")


@dataclass
class Words:
    """A command line taken apart.

    Attributes:
        command: one of COMMANDS.
        arguments: what follows the command, up to ``with``.
        config: ``--config``.
        env_config: ``--env-config``.
        updates: ``KEY=VALUE`` words after ``with``.
        sacred: options that are Sacred's.
    """

    command: str = "train"
    arguments: list[str] = field(default_factory=list)
    config: str | None = None
    env_config: str | None = None
    updates: list[str] = field(default_factory=list)
    sacred: list[str] = field(default_factory=list)


def parse(argv: Sequence[str]) -> Words:
    """Take the words of a command line apart.

    Raises:
        ConfigError: an unknown command or an option without its value.
    """
    words = Words()
    rest = list(argv)
    if "with" in rest:
        at = rest.index("with")
        rest, words.updates = rest[:at], rest[at + 1 :]
    if rest and rest[0] in COMMANDS:
        words.command = rest.pop(0)
    if words.command not in OWN_COMMANDS:
        words.arguments = rest
        return words
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ("--config", "--env-config"):
            if not equals:
                if not rest:
                    raise ConfigError(f"{name} needs a value: {name}=NAME")
                value = rest.pop(0)
            setattr(words, name[2:].replace("-", "_"), value)
        elif word in ("-h", "--help") and words.command not in _WITH_OWN_HELP:
            words.command = "help"
        elif words.command == "train":
            words.sacred.append(word)
        else:
            words.arguments.append(word)
    return words


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("phalanx").setLevel(logging.INFO)
    try:
        words = parse(argv)
        if "-d" in words.sacred or "--debug" in words.sacred:
            logging.getLogger("phalanx").setLevel(logging.DEBUG)
        return COMMANDS[words.command](words)
    except Preempted:
        print("stopped to make room", file=sys.stderr)
        return TRY_AGAIN
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not users_fault(error):  # a command's own parser
            raise
        if unforeseen(error):
            traceback.print_exc()
        print(f"error: {in_words(error)}", file=sys.stderr)
        return 1


def _train(words: Words) -> int:
    from .config import compose
    from .registry import settings_only

    _refuse_stray_words(words.sacred)
    _refuse_unknown_level(words.sacred)
    if not any(word.startswith(("resume=", "checkpoint_path=")) for word in words.updates):
        # Whatever is wrong is said before anything slow is imported.
        typed = [word for word in words.updates if not word.startswith("trust_plugins=")]
        with settings_only():
            compose(words.config, words.env_config, typed)
    from .session import train

    train(words.config, words.env_config, words.updates, words.sacred)
    return 0


def _refuse_stray_words(options: Sequence[str]) -> None:
    """A first word that is no option is a mistyped command; Sacred's message would not say so."""
    if options and not options[0].startswith("-"):
        raise ConfigError(
            f"unknown command {options[0]!r}.{did_you_mean(options[0], COMMANDS)} "
            f"Commands: {', '.join(COMMANDS)}."
        )


def _refuse_unknown_level(options: Sequence[str]) -> None:
    """Sacred looks at the level when the run is recorded already."""
    for at, option in enumerate(options):
        follower = options[at + 1] if at + 1 < len(options) else ""
        name, equals, value = option.partition("=")
        if name in ("-l", "--loglevel"):
            level = value if equals else follower
            if not level.isdigit() and level.upper() not in _LEVELS:
                raise ConfigError(
                    f"{name} {level}: no such level.{did_you_mean(level.upper(), _LEVELS)} "
                    f"Levels: {', '.join(_LEVELS)}, or a number."
                )


def _print_config(words: Words) -> int:
    from .config import compose
    from .listing import print_composed
    from .registry import settings_only

    with settings_only():
        print_composed(compose(words.config, words.env_config, words.updates))
    return 0


def _list(words: Words) -> int:
    from .listing import print_list
    from .registry import settings_only

    with settings_only():
        print_list(words.arguments, words.updates)
    return 0


def _doctor(words: Words) -> int:
    from .doctor import examine
    from .listing import print_findings

    if words.arguments:
        raise ConfigError("`doctor` takes no arguments")
    return print_findings(examine(Path("results")))


def _evaluate(words: Words) -> int:
    parser = argparse.ArgumentParser(
        prog="phalanx evaluate",
        description="Play a checkpoint greedily; writes one CSV row per episode.",
    )
    parser.add_argument("checkpoint", type=Path, help="run id, run folder or checkpoint folder")
    parser.add_argument("--out", type=Path, help="CSV file (default: evaluation.csv in the run)")
    arguments = parser.parse_args(words.arguments)
    from .session import evaluate

    return evaluate(arguments.checkpoint, arguments.out, words.updates)


def _render(words: Words) -> int:
    parser = argparse.ArgumentParser(
        prog="phalanx render", description="Draw a recorded battle (pip install -e '.[render]')."
    )
    parser.add_argument("trace", type=Path, help="file that save_video or a recorder wrote (.npz)")
    kinds = parser.add_mutually_exclusive_group()
    for kind, what in (
        ("gif", "all of it (the default)"),
        ("mp4", "all of it"),
        ("png", "a moment"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=what)
    parser.add_argument("--out", type=Path, help="file to write (default: beside the trace)")
    parser.add_argument("--step", type=int, help="env step of a PNG (default: the busiest moment)")
    parser.add_argument("--width", type=int, default=800, help="pixels (default: 800)")
    arguments = parser.parse_args(words.arguments)
    from .envs.battle.watch import load_trace, render

    trace = load_trace(arguments.trace)
    out = arguments.out or arguments.trace.with_suffix(f".{arguments.kind or 'gif'}")
    if arguments.kind and out.suffix != f".{arguments.kind}":
        raise RenderError(f"--{arguments.kind} and --out {out} name two formats.")
    print(render(trace, out, width=arguments.width, step=arguments.step))
    return 0


def _sweep(words: Words) -> int:
    from .sweeps.cli import sweep

    return sweep(words.arguments, words.updates)


def _work(words: Words) -> int:
    from .sweeps.cli import work

    return work(words.arguments, words.updates)


def _dataset(words: Words) -> int:
    from .data.cli import dataset

    return dataset(words.arguments, words.updates)


def _track(words: Words) -> int:
    from .tracking.cli import add_subcommands

    parser = argparse.ArgumentParser(prog="phalanx")
    add_subcommands(parser.add_subparsers(required=True, metavar="COMMAND"))
    arguments = parser.parse_args([words.command, *words.arguments])
    return int(arguments.func(arguments) or 0)


def _help(words: Words) -> int:
    print(USAGE.format(version=__version__))
    return 0


COMMANDS = {
    "train": _train,
    "print_config": _print_config,
    "list": _list,
    "evaluate": _evaluate,
    "render": _render,
    "doctor": _doctor,
    "sweep": _sweep,
    "work": _work,
    "dataset": _dataset,
    "help": _help,
    **dict.fromkeys(TRACKING_COMMANDS, _track),
}
