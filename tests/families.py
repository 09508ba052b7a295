"""Which shipped algorithms play, and how they learn; words that make them small."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from phalanx.config import compose
from phalanx.config.schema import RunConfig
from phalanx.config.sources import CONFIG_DIR
from phalanx.registry import BUFFERS, REGISTRIES

CONFIGS = sorted(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml"))

ALGORITHMS = [name for name in CONFIGS if BUFFERS.get(compose(name, "matrix").chosen["buffer"]).fed]
"""Those that play; the others learn from a dataset, which must be there first."""


@functools.cache
def on_policy(algorithm: str) -> bool:
    """Whether it learns from what it collected since the last update alone."""
    return bool(BUFFERS.get(compose(algorithm, "matrix").chosen["buffer"]).on_policy)


@functools.cache
def imagines(algorithm: str) -> bool:
    """Whether it learns from what a world model imagines."""
    return not BUFFERS.get(compose(algorithm, "matrix").chosen["buffer"]).gives_state


IMAGINING = (
    "ppo_epoch=1",
    "num_mini_batch=2",
    "buffer_size=40",
    "min_steps=16",
    "round_steps=16",
    "tokenizer_updates=2",
    "tokenizer_batch=8",
    "model_from_round=1",
    "model_updates=2",
    "model_batch=4",
    "policy_from_round=2",
    "batches=2",
    "batch_size=6",
    "chunk=4",
    "tokens=2",
    "codes=8",
    "levels=[4,2]",
    "hidden_width=16",
    "n_layer=1",
    "world_model_args.n_embd=16",
    "perceiver_heads=2",
    "perceiver_head_dim=8",
    "world_model_args.n_head=2",
)
"""Words for rounds of an instant."""


def readable(algorithm: str, words: Iterable[str]) -> tuple[str, ...]:
    """Those of ``words`` whose key the run or one of the algorithm's parts reads."""
    words = tuple(words)
    runner = tuple(word for word in words if word.startswith("runner="))
    composed = compose(algorithm, "matrix", runner)
    known = {*RunConfig.model_fields, *REGISTRIES}
    for part in composed.parts.values():
        known |= type(part).model_fields.keys()
    return tuple(word for word in words if word.partition("=")[0].rpartition(".")[2] in known)


def small(algorithm: str, runner: str = "vector") -> tuple[str, ...]:
    """Words for a run of seconds."""
    words = (
        "t_max=1200",
        "test_interval=400",
        "log_interval=300",
        "test_nepisode=4",
        "batch_size_run=3",
        "save_model_interval=600",
        f"runner={runner}",
    )
    if imagines(algorithm):
        return readable(algorithm, (*words, *IMAGINING, "t_max=300"))
    if not on_policy(algorithm):
        return (*words, "batch_size=4", "buffer_size=40", "env_steps_per_update=16")
    # Updates that fall into the middle of episodes.
    words = readable(algorithm, (*words, "ppo_epoch=1", "num_mini_batch=2"))
    return (
        (*words, "episode_length=35")
        if runner in ("vector", "ray")
        else (*words, "batch_size_run=16")
    )
