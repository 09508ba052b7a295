"""Check a GPU in one command: does it compute what the CPU computes, and how fast?

    python benchmarks/device.py [--out results/benchmarks/device.md]

Under eight minutes on one card; says within seconds that there is none. Three tables in Markdown:

- loss and gradient of everything that learns against the CPU's on the same batch (within 1e-4), and whether
  the same update twice gives the same bits: each shipped algorithm in each of its phases, and tokenizers and
  world models that a buffer trains;
- gradient steps per second at the sizes of MMM2, their share of the card's matrix rate, peak memory;
- environment steps per second of whole runs on both devices, and where the time goes.

`--device cpu` compares the CPU with itself, which tries this program out.

What repeats bit for bit: on the CPU everything, resumed runs included. On a card sums may be added in
another order each time, so runs repeat in what they do and not in their last bits; the first table says which
updates repeated anyway.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from update import make_spec, random_batch

from phalanx.build import build
from phalanx.config import Composed, compose
from phalanx.config.sources import shipped_configs
from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import EnvSpec
from phalanx.learners.base import Learner
from phalanx.learners.simulation import SimulatorLearner, TokenizerLearner
from phalanx.modules.world_models.base import Simulator
from phalanx.registry import TOKENIZERS, WORLD_MODELS, Assembler
from phalanx.training import Trainer

TOLERANCE = 1e-4
TIMED = ("qmix", "vdfd", "mappo", "mat")
# One gradient step a batch, and nothing drawn by a device itself.
COMPARABLE = ("ppo_epoch=1", "critic_epoch=1", "num_mini_batch=1", "dropout=0.0")
# What no shipped config turns on.
ALSO = (("iql", "cql_alpha=1.0"),)
# Kinds that a learner does not compute with.
AROUND = ("env", "runner", "buffer", "behaviour")
IMAGINES = "marie_small"


@dataclass(frozen=True)
class Update:
    """One update of a learner.

    Attributes:
        losses: by name.
        gradient: all parameters' of the first step of each optimiser, in a row, on the CPU.
    """

    losses: Mapping[str, float]
    gradient: Tensor

    def apart(self, other: Update) -> tuple[float, float]:
        """Largest difference of a loss, as a share of it or of 1, and that of the gradients, as a share."""
        losses = [
            abs(value - other.losses[name]) / max(1.0, abs(value))
            for name, value in self.losses.items()
        ]
        gap = (self.gradient - other.gradient).norm() / self.gradient.norm().clamp(min=1e-12)
        return max(losses), float(gap)

    def same_bits(self, other: Update) -> bool:
        """Whether nothing at all differs."""
        return self.losses == other.losses and torch.equal(self.gradient, other.gradient)


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    """Draw all random numbers on the CPU, from one seed, whatever device and generator they are for."""
    generator = torch.Generator().manual_seed(0)
    real = {name: getattr(torch, name) for name in ("rand", "randn")}

    def drawing(name: str) -> Callable[..., Tensor]:
        def draw(*shape: Any, device: Any = None, **options: Any) -> Tensor:
            options["generator"] = generator
            drawn: Tensor = real[name](*shape, **options)
            return drawn.to(device or "cpu")

        return draw

    def like(x: Tensor) -> Tensor:
        return drawing("randn")(x.shape, device=x.device)

    with (
        mock.patch.object(torch, "rand", drawing("rand")),
        mock.patch.object(torch, "randn", drawing("randn")),
        mock.patch.object(torch, "randn_like", like),
    ):
        yield


Case = Callable[[EpisodeBatch, torch.device], "tuple[Learner, EpisodeBatch]"]
"""Makes a learner with weights of one seed on a device, and what it is to learn from."""


def cases() -> dict[str, Case]:
    """Everything that ships and learns, by name; configs of the same networks and learner count once."""
    found: dict[str, Case] = {}
    known = list[Any]()
    shipped = [(name,) for name in shipped_configs("algs")]
    for algorithm, *words in (*shipped, *ALSO):
        composed = comparable(algorithm, *words)
        for phase in composed.phases or (composed,):
            what = [(k, phase.chosen[k], v) for k, v in phase.parts.items() if k not in AROUND]
            if what not in known:
                known.append(what)
                found[" ".join((algorithm, *words, phase.run.phase)).strip()] = own(phase)
    for name, tokenizer in TOKENIZERS.items():
        if tokenizer.trained_by:
            found[f"tokenizer {name}"] = tokenizing(comparable(IMAGINES, f"tokenizer={name}"))
    for name, world_model in WORLD_MODELS.items():
        if issubclass(world_model, Simulator):
            found[f"world_model {name}"] = simulating(comparable(IMAGINES, f"world_model={name}"))
    return found


def comparable(algorithm: str, *words: str) -> Composed:
    """A shipped algorithm on SMAC, which takes one step a batch as far as it knows how to."""
    words = ("engine=embedded", *words)
    composed = compose(algorithm, "sc2", words)
    known = {
        key
        for phase in composed.phases or (composed,)
        for part in phase.parts.values()
        for key in type(part).model_fields
    }
    return compose(
        algorithm, "sc2", [*words, *(w for w in COMPARABLE if w.partition("=")[0] in known)]
    )


def assembled(composed: Composed, spec: EnvSpec, device: torch.device) -> Assembler:
    """Builds a run's parts, without what is around them."""
    torch.manual_seed(0)
    given: dict[str, Any] = {"spec": spec, "seed": 0, "device": device}
    return Assembler(composed.chosen, composed.parts, optional_fields=frozenset(), **given)


def own(composed: Composed) -> Case:
    """The algorithm's own learner."""

    def make(batch: EpisodeBatch, device: torch.device) -> tuple[Learner, EpisodeBatch]:
        return assembled(composed, batch.spec, device).build("learner"), batch

    return make


def tokenizing(composed: Composed) -> Case:
    """How its buffer trains the tokenizer."""

    def make(batch: EpisodeBatch, device: torch.device) -> tuple[Learner, EpisodeBatch]:
        tokenizer = assembled(composed, batch.spec, device).build("tokenizer")
        kept: Any = composed.parts["buffer"]
        shared = (kept.model_weight_decay, kept.model_grad_norm, device)
        return TokenizerLearner(tokenizer, kept.tokenizer_lr, *shared), batch

    return make


def simulating(composed: Composed) -> Case:
    """How its buffer trains the world model."""

    def make(batch: EpisodeBatch, device: torch.device) -> tuple[Learner, EpisodeBatch]:
        assembler = assembled(composed, batch.spec, device)
        model, tokenizer = assembler.build("world_model"), assembler.build("tokenizer")
        kept: Any = composed.parts["buffer"]
        shared = (kept.model_weight_decay, kept.model_grad_norm, device)
        windows = random_batch(replace(batch.spec, episode_limit=model.horizon), batch.batch_size)
        g = torch.Generator().manual_seed(0)
        shape = (*windows.obs.shape[:3], tokenizer.tokens)
        codes = torch.randint(tokenizer.vocabulary, shape, generator=g)
        return SimulatorLearner(model, kept.model_lr, *shared), replace(windows, codes=codes)

    return make


def update_once(case: Case, batch: EpisodeBatch, device: torch.device) -> Update:
    """The first update of a fresh learner on ``batch``."""
    with same_draws():
        learner, learnt_from = case(batch, device)
        gradients: dict[int, Tensor] = {}
        for number, optimiser in enumerate(learner.optimisers):
            optimiser.step = _noting(optimiser, number, gradients)  # type: ignore[method-assign]
        metrics = learner.learn(learnt_from.to(device), 0)
    losses = {name: float(value) for name, value in metrics.items() if "loss" in name}
    return Update(losses, torch.cat([gradients[number] for number in sorted(gradients)]))


def _noting(
    optimiser: torch.optim.Optimizer, number: int, into: dict[int, Tensor]
) -> Callable[[], None]:
    step = optimiser.step

    def note_and_step() -> None:
        if number not in into:
            given = [p for group in optimiser.param_groups for p in group["params"]]
            found = [torch.zeros_like(p) if p.grad is None else p.grad for p in given]
            into[number] = torch.cat([g.detach().flatten().cpu() for g in found])
        step()

    return note_and_step


def compare(
    device: torch.device, batch: EpisodeBatch, what: Mapping[str, Case]
) -> tuple[list[str], bool]:
    """Rows of the first table, and whether all agree."""
    rows, all_agree = [], True
    for name, case in what.items():
        here = update_once(case, batch, torch.device("cpu"))
        there, again = (update_once(case, batch, device) for _ in range(2))
        loss, gradient = here.apart(there)
        agree = loss <= TOLERANCE and gradient <= TOLERANCE
        all_agree &= agree
        verdict = "yes" if agree else "**no**"
        bits = "yes" if there.same_bits(again) else "no"
        rows.append(f"| {name} | {loss:.1e} | {gradient:.1e} | {verdict} | {bits} |")
    return rows, all_agree


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device) -> float:
    """FLOP per second of large float32 products."""
    n = 8192 if device.type == "cuda" else 1024
    x = torch.rand(n, n, device=device)
    best = float("inf")
    for _ in range(4):
        wait_for(device)
        start = time.perf_counter()
        _ = x @ x
        wait_for(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def time_updates(
    algorithm: str, sizes: str, episodes: int, device: torch.device, seconds: float, rate: float
) -> str:
    """A row of the second table: what updates on ``episodes`` of a map's size take for ``seconds``."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = random_batch(make_spec(sizes), episodes).to(device)
    learner, _ = own(comparable(algorithm))(batch, device)
    with FlopCounterMode(display=False) as counted:
        learner.learn(batch, 0)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait_for(device)
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        learner.learn(batch, 0)
        wait_for(device)
        done += 1
    each = (time.perf_counter() - start) / done
    flop = counted.get_total_flops()
    memory = "-"
    if device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"
    return (
        f"| {algorithm} | {device.type} | {1 / each:.2f} | {flop / 1e9:.0f} GFLOP | "
        f"{flop / each / rate:.1%} | {memory} |"
    )


class EnoughError(Exception):
    """The time for a run is up."""


class Watch:
    """Stands in for the recording: ends the run after some seconds of its loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began: float | None = None
        self.clocks: list[dict[str, float]] = []  # seconds by activity, begun anew with the count
        self.first = self.steps = 0

    def log_many(self, metrics: Mapping[str, float], t_env: int, prefix: str = "") -> None:
        """Drop them."""

    def report(self, t_env: int, split: Mapping[str, float]) -> None:
        """Nothing to show."""

    def flush(self) -> int:
        """Nothing waits."""
        return 0

    def update(self, t_env: int, n_updates: int) -> None:
        """Count from the first gradient step on: what came before is set-up."""
        self.steps = t_env
        if self.began is None:
            if n_updates:
                self.began, self.first = time.perf_counter(), t_env
                for clock in self.clocks:
                    clock.update(dict.fromkeys(clock, 0.0))
        elif time.perf_counter() - self.began > self.seconds:
            raise EnoughError


def time_run(
    algorithm: str, env: str, words: Sequence[str], device: str, seconds: float, folder: Path
) -> str:
    """A row of the third table: a training run for ``seconds``, without recording."""
    fixed = ("seed=0", "save_model=False", f"device={device}", "t_max=100000000")
    quiet = ("test_interval=100000000", "test_nepisode=1", "log_interval=100000000")
    composed = compose(algorithm, env, [*words, *fixed, *quiet])
    watch, parts = Watch(seconds), build(composed)
    trainer = Trainer(composed, parts, watch, folder)
    watch.clocks = [parts.runner.seconds, trainer._seconds]
    with contextlib.suppress(EnoughError):
        trainer.run()
    assert watch.began is not None
    took = time.perf_counter() - watch.began
    spent = {**parts.runner.seconds, **trainer._seconds}
    whole = max(sum(spent.values()), 1e-9)
    shares = ", ".join(f"{name} {value / whole:.0%}" for name, value in spent.items() if value)
    return f"| {algorithm} | {device} | {(watch.steps - watch.first) / took:,.0f} | {shares} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Check and print; 1 where there is no card, or where it computes something else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="file for the tables, too")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each time that is taken")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            f"no CUDA device: torch {torch.__version__} sees none here, so nothing was checked. "
            "`phalanx doctor` says what is missing; --device=cpu tries this program out.",
            file=sys.stderr,
        )
        return 1
    torch.set_num_threads(1)  # as runs have it
    # Float32 throughout: with TF32 nothing agrees within 1e-4.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device, cpu = torch.device(options.device), torch.device("cpu")
    lines: list[str] = []

    def say(*new: str) -> None:
        lines.extend(new)
        print("\n".join(new), flush=True)

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"
    say(f"# {name}, torch {torch.__version__}, float32", "")
    say("| what learns | loss apart | gradient apart | within 1e-4 | twice the same bits |")
    say("| --- | ---: | ---: | --- | --- |")
    rows, agree = compare(device, random_batch(make_spec("3m"), 4), cases())
    say(*rows, "")
    devices = [cpu, device] if device.type == "cuda" else [cpu]
    rates = {where.type: matrix_rate(where) for where in devices}
    told = ", ".join(f"{where} {rate / 1e12:.2f} TFLOP/s" for where, rate in rates.items())
    say(f"Gradient steps on 32 episodes of MMM2's size. Large products: {told}.", "")
    say("| algorithm | device | steps/s | each | of the matrix rate | peak memory |")
    say("| --- | --- | ---: | ---: | ---: | ---: |")
    for algorithm in TIMED:
        for where in devices:
            rate = rates[where.type]
            say(time_updates(algorithm, "MMM2", 32, where, options.seconds, rate))
    say("", "Whole runs on MMM2, embedded engine.", "")
    say("| algorithm | device | env steps/s | where the time goes |", "| --- | --- | ---: | --- |")
    words = ("map_name=MMM2", "engine=embedded")
    for algorithm in TIMED:
        for where in devices:
            seconds = 1.5 * options.seconds
            say(time_run(algorithm, "sc2", words, where.type, seconds, Path("results/unobserved")))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
