"""What the shipped marie_small has learnt of battles after a short training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from phalanx.build import make_env
from phalanx.runners.rollout import Rollout, play_episodes

from ..recorder import trainer

# The shipped tokenizer in one round in place of a run's first ones, on battles of a policy that is untrained.
ONE_ROUND = (
    "map_name=3m",
    "engine=embedded",
    "t_max=1000",
    "tokenizer_updates=600",
    "test_interval=1000000",
    "test_nepisode=1",
    "save_model=False",
)


def test_the_tokenizer_loses_less_than_changes_in_a_step(tmp_path: Path) -> None:
    run, _ = trainer(tmp_path, "marie_small", "sc2", *ONE_ROUND)
    run.run()
    env = make_env(run.composed, 32, "fresh")
    rollout = Rollout(env, run.parts.behaviour, torch.Generator().manual_seed(0), run.parts.device)
    play_episodes(rollout, np.ones(32, bool), t_env=0, test_mode=False)
    batch, tokenizer = rollout.store.batch(np.arange(32)), run.parts.built["tokenizer"]
    env.close()
    assert batch.alive is not None
    lives = batch.alive[:, 1:] & batch.filled[..., None]
    with torch.no_grad():
        kept = tokenizer.decode(tokenizer.encode(batch.obs))
    lost = (kept - batch.obs)[:, 1:][lives].abs().mean()
    assert lost < batch.obs.diff(dim=1)[lives].abs().mean()
