"""Records chosen battles of a batch while they are fought."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..door import whole
from ..layout import ATTACK, COOLDOWN, FILM_REAL, FILM_WHOLE, N_FILM, ORDER, TARGET
from ..maps import terrain_rows
from ..vec import VecBattle
from .trace import Trace, UnitFacts


class Filmed(NamedTuple):
    """A recorded episode and the battle of the batch (0 to B-1) it was fought in."""

    battle: int
    trace: Trace


class _Reel:
    """The episode that a battle is in."""

    def __init__(self, first_frame: NDArray[np.float32], units: tuple[UnitFacts, ...]) -> None:
        self.frames = [first_frame]
        self.actions: list[NDArray[np.int16]] = []
        self.rewards: list[float] = []
        self.units = units


class Recorder:
    """Records battles (all without a choice) from their next episode on, or from this one where it has not
    made a step; takes the place of an earlier recorder.

    Per env step it copies what the kernel noted of each loop; nothing is packed before the episode is over.

    Args:
        battle: what is fought.
        battles: numbers of battles, 0 to B-1; low ones are cheapest.
        episodes: stop after so many finished ones.

    Raises:
        EnvError: no such battle, or no such number of episodes.

    Attributes:
        finished: recorded episodes, in the order in which they ended (within a step by battle); yours to
            empty.
    """

    def __init__(
        self,
        battle: VecBattle,
        battles: Iterable[int] | None = None,
        episodes: int | None = None,
    ) -> None:
        if episodes is not None:
            whole("episodes", episodes, 1)
        self.finished: list[Filmed] = []
        self._left = episodes
        self._battle = battle
        self._chosen = sorted(set(range(battle.num_envs) if battles is None else battles))
        for b in self._chosen:
            battle.episode_of(b)  # complains if there is no such battle
        self.jumped()
        battle.show_to(self)

    @property
    def films(self) -> int:
        """Battles the kernel has to film: all up to the last one chosen."""
        return self._chosen[-1] + 1 if self._chosen else 0

    def jumped(self) -> None:
        """The battles are elsewhere than they were: only what has not made a step can be recorded."""
        self._reels: dict[int, _Reel] = {}
        self.restarted(np.array(self._battle.episode_steps == 0))

    def restarted(self, mask: NDArray[np.bool_]) -> None:
        """Battles in ``mask`` (B,) begin an episode; what was there of another one is dropped."""
        for b in self._chosen:
            if mask[b]:
                self._reels[b] = _Reel(self._frame(b), _facts(self._battle, b))

    def stepped(self, running: NDArray[np.bool_]) -> None:
        """Battles that were ``running`` (B,) before it have made a step."""
        battle = self._battle
        over = battle.terminated | battle.truncated
        for b in self._chosen:
            if not running[b]:
                continue
            if b in self._reels:
                self._note(b, self._reels[b])
                if over[b]:
                    self._finish(b, self._reels.pop(b))
                if self._left == 0:
                    battle.show_to(None)
                    return
            if over[b] and battle.autoreset:
                self._reels[b] = _Reel(self._frame(b), _facts(battle, b))

    def _note(self, b: int, reel: _Reel) -> None:
        reel.frames.append(self._battle.film[b].copy())
        reel.actions.append(self._battle.actions_taken[b].astype(np.int16))
        reel.rewards.append(float(self._battle.reward[b]))

    def _finish(self, b: int, reel: _Reel) -> None:
        self.finished.append(Filmed(b, self._develop(b, reel, _result(self._battle, b))))
        if self._left is not None:
            self._left -= 1

    def current(self, battle: int) -> Trace | None:
        """The episode a battle is in, as far as it has come; None if it is not recorded."""
        reel = self._reels.get(battle)
        return None if reel is None else self._develop(battle, reel, "unfinished")

    def _frame(self, b: int) -> NDArray[np.float32]:
        state = self._battle.battle_state
        whole = state.flags[b, :FILM_WHOLE]
        return np.concatenate([state.units[b, :FILM_REAL], whole])[None].astype(np.float32)

    def _develop(self, b: int, reel: _Reel, result: str) -> Trace:
        battle = self._battle
        frames = np.concatenate(reel.frames)
        assert frames.shape[1] == N_FILM
        cooldown, order = frames[:, COOLDOWN], frames[:, FILM_REAL + ORDER]
        target = frames[:, FILM_REAL + TARGET].astype(np.int16)
        # A cooldown only ever rises when its weapon fires, and the order it fired under still stands then.
        fired = np.zeros(target.shape, np.bool_)
        fired[1:] = (cooldown[1:] > cooldown[:-1]) & (order[1:] == ATTACK)
        cells, levels = terrain_rows(battle.map.terrain)
        return Trace(
            map_name=battle.map.name,
            profile=battle.profile,
            options=asdict(battle.options),
            seed=battle.seed,
            battle=battle.first_index + b,
            episode=battle.episode_of(b) - (result != "unfinished" and battle.autoreset),
            step_mul=battle.film.shape[1],
            limit=battle.map.limit,
            result=result,
            units=reel.units,
            cells=tuple(cells),
            levels=tuple(levels),
            x=frames[:, 0],
            y=frames[:, 1],
            health=frames[:, 2],
            shield=frames[:, 3],
            energy=frames[:, 4],
            order=order.astype(np.int8),
            target=target,
            shot=np.where(fired, target, np.int16(-1)),
            actions=np.array(reel.actions, np.int16).reshape(
                len(reel.actions), battle.spec.n_agents
            ),
            reward=np.array(reel.rewards, np.float32),
        )


def _result(battle: VecBattle, b: int) -> str:
    info = battle.info
    if info["battle_won"][b]:
        return "won"
    if info["episode_limit"][b]:
        return "timeout"
    everyone = info["dead_enemies"][b] == len(battle.map.enemies)
    return "drawn" if everyone else "lost"


def _facts(battle: VecBattle, b: int) -> tuple[UnitFacts, ...]:
    return tuple(
        UnitFacts(
            type=name,
            enemy=bool(slot["enemy"]),
            **{
                f: float(slot[f]) for f in ("radius", "health", "shield", "energy", "missile_speed")
            },
            plane=int(slot["plane"]),
            delivery=int(slot["delivery"]),
        )
        for name, slot in zip(battle.unit_names(b), battle.slots[b], strict=True)
    )
