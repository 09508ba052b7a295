"""Imagined environment steps per second: the shipped form against the published one written plainly.

    python benchmarks/imagination.py [--map 3m] [--rounds 7] [KEY=VALUE ...]

The plain form passes actions, the aggregation's vector and each token of an observation through the
transformer one at a time, K + 2 passes a step, calls every head after every pass, forms attention by its
formula and keeps keys and values of all rows in 32 bits. Both forms have the same weights, policy, starts and
draws, and must imagine the same rows. Also: an update of the world model against the products of matrices
that it needs at least, forward and backward, done alone.

Prints tables in Markdown. Forms take turns in one process on one thread; times are processor time, the least
over rounds: other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from phalanx.build import Parts, build
from phalanx.config import compose
from phalanx.data.batch import EpisodeBatch
from phalanx.modules.layers.attention import Attention
from phalanx.modules.world_models.base import Dream, Moment
from phalanx.modules.world_models.imagination import Generators, Start, imagine
from phalanx.modules.world_models.marie.heads import sampled, sampled_masks
from phalanx.modules.world_models.marie.model import Marie
from phalanx.modules.world_models.marie.trunk import TokenBlock


class PlainDream(Dream):
    """Rows imagined as the authors' code does, with the weights of ``model``."""

    def __init__(
        self, model: Marie, codes: Tensor, avail_actions: Tensor, generator: torch.Generator
    ) -> None:
        self._model, self._generator, self._codes = model, generator, codes
        M, places, E = codes[..., 0].numel(), model.trunk.positions, model.trunk.width
        # Keys and values of each block, room for whole rows.
        self._kept = [torch.zeros(2, M, places, E) for _ in model.trunk.blocks]
        self._place = 0
        self._pass(model.obs_embedding(codes).flatten(0, 1))

    def step(self, actions: Tensor) -> Moment:
        """See :meth:`Dream.step`."""
        model, (B, N, K) = self._model, self._codes.shape
        done = model.action_embedding(model.actions.encode(actions))
        told = model.perceiver(torch.cat([model.obs_embedding(self._codes), done], dim=2))
        older = None if model.recall is None else model.recall(self._codes).flatten(0, 1)
        told = told.flatten(0, 1) if older is None else told.flatten(0, 1) + older[:, 0]
        self._pass(done.flatten(0, 1))
        logits, reward, going, masks = self._pass(told[:, None])
        outcome = [rearrange(x, "(b n) w -> b n w", n=N) for x in (reward, going, masks)]
        tokens = []
        for k in range(K):
            tokens.append(sampled(logits, self._generator))
            embedded = model.obs_embedding(tokens[-1])
            if older is not None and k < K - 1:
                embedded = embedded + older[:, k + 1]
            if self._place < model.trunk.positions:  # a row's last token goes nowhere
                logits = self._pass(embedded[:, None])[0]
        self._codes = torch.stack(tokens, dim=1).view(B, N, K)
        avail = sampled_masks(outcome[2].sigmoid(), self._generator)
        draws = torch.rand(B, generator=self._generator)
        over = draws >= outcome[1][..., 0].sigmoid().mean(dim=1)
        return Moment(self._codes, avail, model.reward_code.decode(outcome[0]).mean(dim=1), over)

    def _pass(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of all heads at the last of the next tokens (M, L, E)."""
        model, start = self._model, self._place
        self._place += x.shape[1]
        x = x + model.trunk.place[start : self._place]
        for block, kept in zip(model.trunk.blocks, self._kept, strict=True):
            assert isinstance(block, TokenBlock)
            x = x + self._look(block.attention, block.norm1(x), kept, start)
            x = x + block.mlp(block.norm2(x))
        last = model.trunk.norm(x)[:, -1]
        assert model.mask_head is not None
        heads = (model.token_head, model.reward_head, model.end_head, model.mask_head)
        return tuple(head(last) for head in heads)

    @staticmethod
    def _look(layer: Attention, x: Tensor, kept: Tensor, start: int) -> Tensor:
        end = start + x.shape[1]
        kept[0, :, start:end], kept[1, :, start:end] = layer.key(x), layer.value(x)
        q, k, v = (
            rearrange(y, "m s (h d) -> m h s d", h=layer.heads)
            for y in (layer.query(x), kept[0, :, :end], kept[1, :, :end])
        )
        scores = q @ k.mT * q.shape[-1] ** -0.5
        later = torch.ones(x.shape[1], end, dtype=torch.bool).triu(start + 1)
        weights = scores.masked_fill(later, -torch.inf).softmax(dim=-1)
        y: Tensor = layer.out(rearrange(weights @ v, "m h s d -> m s (h d)"))
        return y


class Plain(nn.Module):
    """The simulator's rows in their plain form."""

    def __init__(self, model: Marie) -> None:
        super().__init__()
        self.model, self.horizon = model, model.horizon

    def begin(self, codes: Tensor, avail_actions: Tensor, generator: torch.Generator) -> Dream:
        """See :meth:`Simulator.begin`."""
        return PlainDream(self.model, codes, avail_actions, generator)


def made(map_name: str, words: list[str]) -> tuple[Parts, Marie, int]:
    """Parts of ``marie_small`` with weights large enough that outcomes differ, and rows of its batches."""
    battle = (f"map_name={map_name}", "engine=embedded", "torch_threads=1", "device=cpu")
    composed = compose("marie_small", "sc2", (*battle, *words))
    parts = build(composed)
    model = parts.built["world_model"]
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.1)
    nn.init.constant_(model.end_head[-1].bias, 4.0)  # rows go on to the end, as most do
    return parts, model, composed.parts["buffer"].batch_size


def start_of(parts: Parts, model: Marie, rows: int) -> Start:
    """Random codes, and whatever may be done."""
    g = torch.Generator().manual_seed(0)
    N, A = parts.spec.n_agents, parts.spec.mask_dim
    codes = torch.randint(model.obs_embedding.num_embeddings, (rows, N, model.tokens), generator=g)
    carry = parts.policy.init_carry(rows, parts.device)
    return Start(codes, torch.ones(rows, N, A, dtype=torch.bool), carry)


def dreamt(parts: Parts, simulator: Any, start: Start) -> EpisodeBatch:
    """A batch, always with the same draws."""
    generators = Generators(torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    tokenizer = parts.built["tokenizer"]
    return imagine(parts.spec, simulator, tokenizer, parts.policy, start, 0, generators)


def alike(one: EpisodeBatch, other: EpisodeBatch) -> bool:
    """Whether both have imagined the same, but for rows that rounding has led apart early."""
    same = (one.obs - other.obs).abs().flatten(1).amax(dim=1) < 1e-3
    return bool(same.float().mean() > 0.95)


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def products(model: Marie, batch: EpisodeBatch) -> list[Callable[[], Tensor]]:
    """The matrix products of an update: of each linear layer and of each attention, forward and backward."""
    shapes: list[tuple[int, ...]] = []
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            hooks.append(
                module.register_forward_hook(
                    lambda m, given, _: shapes.append(
                        (1, given[0].numel() // m.in_features, m.in_features, m.out_features)
                    )
                )
            )
        if isinstance(module, Attention):
            hooks.append(
                module.register_forward_hook(
                    lambda m, given, _: shapes.extend(
                        2
                        * [
                            (
                                len(given[0]) * m.heads,
                                given[0].shape[1],
                                m.inner // m.heads,
                                given[1].shape[1],
                            )
                        ]
                    )
                )
            )
    with torch.no_grad():
        model.losses(batch)
    for hook in hooks:
        hook.remove()
    work: list[Callable[[], Tensor]] = []
    for count, rows, inner, columns in shapes:
        x, w, y = (
            torch.randn(count, *size) for size in ((rows, inner), (inner, columns), (rows, columns))
        )
        for left, right in ((x, w), (y, w.mT), (x.mT, y)):
            out = torch.empty(count, left.shape[1], right.shape[2])
            work.append(lambda a=left, b=right, o=out: torch.bmm(a, b, out=o))  # type: ignore[misc]
    return work


def window(parts: Parts, model: Marie, rows: int) -> EpisodeBatch:
    """Full windows with random codes."""
    spec, T, g = parts.spec, model.horizon, torch.Generator().manual_seed(0)
    N = spec.n_agents
    ends = torch.zeros(rows, T, dtype=torch.bool)
    codes = torch.randint(
        model.obs_embedding.num_embeddings, (rows, T + 1, N, model.tokens), generator=g
    )
    return EpisodeBatch(
        spec=spec,
        obs=torch.rand(rows, T + 1, N, spec.obs_dim, generator=g),
        state=torch.zeros(rows, T + 1, spec.state_dim),
        avail_actions=torch.rand(rows, T + 1, N, spec.mask_dim, generator=g) < 0.5,
        actions=torch.randint(spec.n_actions, (rows, T, N), generator=g),
        reward=torch.rand(rows, T, generator=g),
        terminated=ends,
        truncated=ends,
        lengths=torch.full((rows,), T),
        codes=codes,
    )


def imagination(parts: Parts, model: Marie, rows: int, rounds: int) -> str:
    """A row of the first table."""
    start, plain = start_of(parts, model, rows), Plain(model)
    forms = {"shipped": model, "plain": plain}
    batches = {name: dreamt(parts, form, start) for name, form in forms.items()}
    if not alike(*batches.values()):
        raise SystemExit("the two forms do not imagine the same rows")
    steps = int(batches["shipped"].lengths.sum())
    least = dict.fromkeys(forms, float("inf"))
    for _ in range(rounds):
        for name, form in forms.items():
            spent = seconds(lambda form=form: dreamt(parts, form, start))  # type: ignore[misc]
            least[name] = min(least[name], spent)
    fast, slow = (steps / least[name] for name in forms)
    return f"| {rows} | {model.tokens} | {fast:,.0f} | {slow:,.0f} | {fast / slow:.1f} |"


def update(parts: Parts, model: Marie, rows: int, rounds: int) -> str:
    """A row of the second table."""
    batch, learner = window(parts, model, rows), parts.buffer._model_learner  # type: ignore[attr-defined]
    floor = products(model, batch)

    def multiply() -> None:
        for product in floor:
            product()

    learner.learn(batch, 0)
    pairs = [(seconds(lambda: learner.learn(batch, 0)), seconds(multiply)) for _ in range(rounds)]
    spent, least = (1000 * min(column) for column in zip(*pairs, strict=True))
    return f"| {rows} | {spent:.1f} ms | {least:.1f} ms | {spent / least:.2f} |"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--map", default="3m")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("words", nargs="*", help="further KEY=VALUE of marie_small")
    given = parser.parse_args()
    torch.set_num_threads(1)
    parts, model, rows = made(given.map, given.words)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread\n")
    print("| rows | tokens | shipped, steps / s | plain, steps / s | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    print(imagination(parts, model, rows, given.rounds), flush=True)
    windows = parts.buffer._config.model_batch  # type: ignore[attr-defined]
    print("\n| windows | an update | its products alone | ratio |")
    print("| ---: | ---: | ---: | ---: |")
    print(update(parts, model, windows, given.rounds))


if __name__ == "__main__":
    main()
