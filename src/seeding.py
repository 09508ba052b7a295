"""One seed, many independent streams: each purpose draws from its own generator."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def named_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for ``purpose`` that depends on nothing but ``seed`` and the name.

    >>> named_seed(0, "env") != named_seed(0, "act") and named_seed(1, "env") != named_seed(0, "env")
    True
    """
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(
        2, np.uint32
    )
    return (int(words[0]) << 32 | int(words[1])) & (2**63 - 1)


def named_generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator of its own for ``purpose``."""
    generator = torch.Generator(device)
    generator.manual_seed(named_seed(seed, purpose))
    return generator
