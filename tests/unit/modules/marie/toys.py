"""A small model with weights large enough that everything matters, and windows with codes for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from phalanx.data.batch import EpisodeBatch
from phalanx.envs.protocol import EnvSpec
from phalanx.modules.world_models.marie.model import Marie

from ..toys import SPEC, assemble, random_batch

SIZES: dict[str, Any] = {
    "horizon": 5,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "perceiver_depth": 1,
    "perceiver_heads": 2,
    "perceiver_head_dim": 4,
    "dropout": 0.0,
}
TOKENS, CODES = 3, 11


def make(spec: EnvSpec = SPEC, std: float | None = 0.3, **config: Any) -> Marie:
    configs = {
        "world_model": SIZES | config,
        "tokenizer": {"tokens": TOKENS, "codes": CODES, "code_dim": 4, "hidden_width": 8},
    }
    model: Marie = assemble(configs, spec, tokenizer="vq", world_model="marie").build("world_model")
    for module in model.modules() if std else ():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
    return model.eval()


def windows(lengths: tuple[int, ...] = (4, 4, 2), spec: EnvSpec = SPEC) -> EpisodeBatch:
    batch = random_batch(lengths, spec)
    g = torch.Generator().manual_seed(3)
    shape = (*batch.obs.shape[:3], TOKENS)
    return replace(batch, codes=torch.randint(CODES, shape, generator=g))
