"""How well the world models of trained runs of VDFD predict fresh episodes.

    python benchmarks/prediction.py RUN_FOLDER [RUN_FOLDER ...]

A run needs its checkpoint ``latest``. Plays 64 episodes at the final epsilon with the final agent and prints
one line per run: errors as shares of what repeating the last state makes, and shares of variance lost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from phalanx.build import build
from phalanx.checkpoint import find_checkpoint, load_checkpoint, read_meta
from phalanx.config import compose_stored
from phalanx.modules.world_models.disentangled.quality import quality
from phalanx.runners.rollout import Rollout, play_episodes

EPISODES = 64


def measure(folder: Path, seed: int) -> dict[str, float]:
    """Errors of the run's world model, see :func:`quality`."""
    checkpoint = find_checkpoint(folder)
    words = [f"batch_size_run={EPISODES}", f"seed={seed}"]
    composed = compose_stored(read_meta(checkpoint)["config"], str(checkpoint), words)
    parts = build(composed)
    parts.learner.load_state_dict(load_checkpoint(checkpoint)["learner"])
    generator = torch.Generator().manual_seed(seed)
    rollout = Rollout(
        parts.env,
        parts.behaviour,
        generator,
        parts.device,
        parts.learner.world_model.optional_fields,
    )
    play_episodes(rollout, np.ones(EPISODES, bool), t_env=10**9, test_mode=False)
    batch = rollout.store.batch(np.arange(EPISODES))
    with torch.no_grad():
        unrolled = parts.policy.unroll(batch)
    found = quality(parts.learner.world_model, unrolled, batch, generator)
    parts.env.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=1234, help="of the fresh episodes")
    options = parser.parse_args()
    print("| run | h | h, actions shuffled | h, 3 ahead | obs | h lost | obs lost | static lost |")
    print("|---|---|---|---|---|---|---|---|")
    for run in options.runs:
        e = measure(run, options.seed)
        cells = [
            e["h"] / e["h_repeat"],
            e["h_shuffled"] / e["h_repeat"],
            e["h_ahead"] / e["h_ahead_repeat"],
            e["obs"] / e["obs_repeat"],
            e["h_lost"],
            e["obs_lost"],
            e["static_lost"],
        ]
        print(f"| {run.name} | {' | '.join(f'{c:.3f}' for c in cells)} |", flush=True)
        print(json.dumps({k: round(v, 6) for k, v in e.items()}), flush=True)


if __name__ == "__main__":
    main()
