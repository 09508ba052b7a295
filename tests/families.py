"""Which shipped algorithms learn from a replay and which on-policy, and words that make them small."""

from __future__ import annotations

from phalanx.config import compose
from phalanx.config.sources import CONFIG_DIR

ALGORITHMS = sorted(p.stem for p in (CONFIG_DIR / "algs").glob("*.yaml"))


def on_policy(algorithm: str) -> bool:
    """Whether it learns from what it collected since the last update alone."""
    return compose(algorithm, "matrix").chosen["buffer"] == "on_policy"


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
    if not on_policy(algorithm):
        return (*words, "batch_size=4", "buffer_size=40", "env_steps_per_update=16")
    # Updates that fall into the middle of episodes.
    words = (*words, "ppo_epoch=1", "num_mini_batch=2")
    return (*words, "episode_length=35") if runner == "vector" else (*words, "batch_size_run=16")
