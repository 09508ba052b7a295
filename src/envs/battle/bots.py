"""Scripted players: what each of the game's tactics is worth on a map.

A bot is a policy written by hand over all battles at once. It knows more than an agent does (every unit's
place, health and cooldown), and acts through the same masked actions. Bots are yardsticks and tests: a
tactic that wins in the game must pay in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, did_you_mean
from .maps import BattleMap, find_map
from .scene import FAR, FIRST_MOVE, Mask, Real, observe_all
from .tactics import (
    MOVES,
    Actions,
    advance,
    at_crowd,
    at_nearest,
    at_weakest,
    first_of,
    flee,
    go_to,
    pick,
    rest,
)
from .vec import VecBattle

Policy = Callable[[VecBattle], Actions]

KEEP_AWAY = 3.5  # from the reach of pursuers
CLOSE_CALL = 0.15  # left between a pursuer and its reach after a shot
_SOUTH = 1


def stop(battle: VecBattle) -> Actions:
    """Stop for ever."""
    return rest(observe_all(battle))


def nearest(battle: VecBattle) -> Actions:
    """Attack the nearest enemy."""
    scene = observe_all(battle)
    return first_of(scene, at_nearest(scene), advance(scene))


def focus(battle: VecBattle) -> Actions:
    """Attack the weakest enemy in weapon range, else the nearest."""
    scene = observe_all(battle)
    return first_of(scene, at_weakest(scene), at_nearest(scene), advance(scene))


def stay(battle: VecBattle) -> Actions:
    """Attack the nearest enemy in weapon range, and never walk."""
    scene = observe_all(battle)
    return first_of(scene, pick(scene.apart, scene.in_reach, scene.first_attack))


def volley(battle: VecBattle) -> Actions:
    """Focus fire without overkill: nobody shoots at what the others' shots will kill."""
    scene = observe_all(battle)
    slots, n_agents = battle.slots, battle.spec.n_agents
    own, foes = slots[:, :n_agents], slots[:, n_agents:]
    bonus = (own["bonus_attributes"][:, :, None] & foes["attributes"][:, None]) != 0
    hits = own["damage"][:, :, None] + np.where(bonus, own["bonus"][:, :, None], 0.0)
    hits = np.maximum(hits - foes["armor"][:, None], 0.5) * own["hits"][:, :, None]
    left = scene.life.copy()
    choice = np.full(scene.alive.shape, -1)
    rows = np.arange(len(left))
    for i in range(n_agents):
        offered = scene.in_reach[:, i] & (left > 0)
        life = np.where(offered, left + 1e-3 * scene.apart[:, i], np.inf)
        target = life.argmin(-1)
        shoots = offered.any(-1) & scene.alive[:, i]
        choice[:, i] = np.where(shoots, scene.first_attack + target, -1)
        left[rows, target] -= np.where(shoots & scene.fires[:, i], hits[rows, i, target], 0.0)
    return first_of(scene, choice, at_weakest(scene), at_nearest(scene), advance(scene))


def sweep(battle: VecBattle) -> Actions:
    """Let beams sweep over as many as possible; the others attack the weakest in weapon range."""
    scene = observe_all(battle)
    crowd = at_crowd(battle, scene)
    return first_of(scene, crowd, at_weakest(scene), at_nearest(scene), advance(scene))


def kite(battle: VecBattle) -> Actions:
    """Run from pursuers of shorter reach; shoot when loaded and they are a step away."""
    scene = observe_all(battle)
    shoot = at_weakest(scene)
    shoot = np.where(shoot >= 0, shoot, at_nearest(scene))
    after = scene.margin - scene.enemy_pace[:, None]
    loaded = np.where(scene.ready & (after.min(-1) >= CLOSE_CALL), shoot, -1)
    run = flee(scene, scene.alive & (scene.margin.min(-1) < KEEP_AWAY))
    return first_of(scene, loaded, run, shoot, advance(scene))


def spread(battle: VecBattle, room: float = 3.5) -> Actions:
    """Stand apart from each other until the enemy is there, then attack the nearest."""
    scene = observe_all(battle)
    gaps = np.linalg.norm(scene.at[:, None] - scene.at[:, :, None], axis=-1)
    n_agents = scene.at.shape[1]
    ahead = scene.at[:, :, None] + MOVES * scene.pace[:, :, None, None]
    there = np.linalg.norm(scene.at[:, None, None] - ahead[:, :, :, None], axis=-1)
    lonely = ~scene.alive[:, None] | np.eye(n_agents, dtype=np.bool_)
    crowded = np.where(lonely, FAR, gaps).min(-1) < room
    lonely_there = np.broadcast_to(lonely[:, :, None], there.shape)
    away = pick(-np.where(lonely_there, FAR, there).min(-1), scene.moves, FIRST_MOVE)
    calm = scene.apart.min(-1) > 4.0
    return first_of(scene, np.where(crowded & calm, away, -1), at_nearest(scene), advance(scene))


def clump(battle: VecBattle) -> Actions:
    """Stand together until the enemy is there, then attack the nearest."""
    scene = observe_all(battle)
    count = np.maximum(scene.alive.sum(-1), 1)[:, None]
    middle = np.where(scene.alive[:, :, None], scene.at, 0.0).sum(1) / count
    goal = np.broadcast_to(middle[:, None], scene.at.shape)
    outside = np.linalg.norm(goal - scene.at, axis=-1) > 1.2
    calm = scene.apart.min(-1) > 4.0
    together = np.where(outside & calm, go_to(scene, goal), -1)
    return first_of(scene, together, at_nearest(scene), advance(scene))


def hold(battle: VecBattle, posts: Real | None = None) -> Actions:
    """Attack what is within weapon range; while nothing is, go to a post each, (N, 2), if given."""
    scene = observe_all(battle)
    goal = np.broadcast_to(scene.at if posts is None else posts, scene.at.shape)
    off = np.abs(goal - scene.at).max(-1) > 0.6 * scene.pace
    walk = np.where(off, go_to(scene, goal), -1)
    return first_of(scene, at_crowd(battle, scene), at_weakest(scene), walk)


def cliff(battle: VecBattle) -> Actions:
    """The colossus behind pushes the other one, which gives way, out onto the cliff; then both stay."""
    scene = observe_all(battle)
    behind = scene.at[:, :, 1] > scene.at[:, :, 1].min(-1, keepdims=True)
    push = np.where(behind & scene.moves[:, :, _SOUTH], FIRST_MOVE + _SOUTH, 1)
    return np.where(scene.steps[:, None] == 0, push, hold(battle))


class Alternate:
    """One draws the enemy's fire or runs from it while the others shoot.

    Who is chased runs. Where the enemy cannot move, who is badly hurt steps out of its range until it has
    turned to somebody else; once all are hurt, all wait out of range until their shields are back.
    """

    def __init__(self, low: float = 45.0, well: float = 0.95, chased: float = 4.0) -> None:
        self.low, self.well, self.chased = low, well, chased
        self._spent: Mask | None = None
        self._dodged: Mask | None = None

    def __call__(self, battle: VecBattle) -> Actions:
        """(B, N) actions."""
        scene = observe_all(battle)
        slots, n_agents = battle.slots, battle.spec.n_agents
        own, foes = slots[:, :n_agents], slots[:, n_agents:]
        if self._spent is None or self._dodged is None:
            self._spent = np.zeros(scene.alive.shape, np.bool_)
            self._dodged = np.zeros(scene.alive.shape, np.bool_)
        standing = foes["speed"] == 0
        reach = (foes["reach"] + foes["radius"])[:, None] + own["radius"][:, :, None] + 0.5
        threatened = ((scene.apart < reach) & standing[:, None]).any(-1)
        self._spent |= (own["shield"] > 0) & (scene.own_life < self.low)
        whole = (scene.shield >= self.well * own["shield"]) | ~scene.alive
        back = whole.all(-1, keepdims=True)
        everyone = (self._spent | ~scene.alive).all(-1, keepdims=True)
        self._spent &= ~((everyone & back) | (scene.steps[:, None] == 0))
        self._dodged |= self._spent & ~threatened
        self._dodged &= self._spent
        waiting = self._spent & everyone & ~back
        leaving = threatened & (waiting | (self._spent & ~self._dodged))
        near = np.where(scene.alive, scene.apart.min(-1), FAR)
        followed = (near == near.min(-1, keepdims=True)) & (near < self.chased)
        followed &= ~standing.any(-1, keepdims=True) & (scene.alive.sum(-1, keepdims=True) > 1)
        run = flee(scene, scene.alive & (followed | leaving))
        wait = np.where(waiting, 1, -1)
        return first_of(scene, run, wait, at_weakest(scene), at_nearest(scene), advance(scene))


class Random:
    """Any available action."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, battle: VecBattle) -> Actions:
        """(B, N) actions."""
        weights = self._rng.random(battle.avail_actions.shape, dtype=np.float32)
        return np.asarray((weights * battle.avail_actions).argmax(-1))


# Across the diagonal passage of corridor, four abreast and two behind.
_WALL = np.array(
    [[11.4, 13.3], [12.1, 12.6], [12.8, 11.9], [13.5, 11.2], [11.3, 12.0], [12.1, 11.2]]
)
# Side by side at the southern edge of the ravine's high ground, as near to it as the masks let them.
_EDGE = np.array([[14.875, 14.5], [16.0, 14.875]])
# Below it, on either side of the enemies: abreast or one behind the other. Not abreast in the middle, at
# y = 8 and 10: there the two and whoever attacks them fill the lane, and nobody gets around them.
_BELOW = tuple(
    pair
    for x in (6.0, 10.0, 22.0, 26.0)
    for pair in (((x, 7.5), (x, 9.5)), ((x, 8.5), (x, 10.5)), ((x - 1, 9.0), (x + 1, 9.0)))
)


@dataclass(frozen=True)
class Bot:
    """A scripted player.

    Attributes:
        summary: what it does, in a line.
        make: a fresh policy from a seed.
        options: SMAC options that the battles need.
        maps: the maps it is made for; empty: all.
        starts: places where its agents start, each in its share of the battles; empty: the map's.
        terrain: the ground it fights on, if not the map's.
    """

    summary: str
    make: Callable[[int], Policy]
    options: dict[str, Any] = field(default_factory=dict)
    maps: tuple[str, ...] = ()
    starts: tuple[tuple[tuple[float, float], ...], ...] = ()
    terrain: str | None = None


BOTS: dict[str, Bot] = {
    "stop": Bot("stops for ever", lambda _: stop),
    "random": Bot("takes any available action", Random),
    "heuristic": Bot(
        "SMAC's built-in heuristic: goes for the nearest enemy and keeps it",
        lambda _: stop,
        {"heuristic_ai": True},
    ),
    "nearest": Bot("attacks the nearest enemy", lambda _: nearest),
    "focus": Bot("attacks the weakest enemy in weapon range", lambda _: focus),
    "volley": Bot("focus fire without overkill", lambda _: volley),
    "stay": Bot("never walks, attacks the nearest in weapon range", lambda _: stay),
    "kite": Bot("shoots when loaded, else runs from whoever is near", lambda _: kite),
    "alternate": Bot(
        "whoever is chased or badly hurt runs, the others shoot", lambda _: Alternate()
    ),
    "spread": Bot("stands apart until the enemy is there", lambda _: spread),
    "clump": Bot("stands together until the enemy is there", lambda _: clump),
    "shifted": Bot(
        "SMAC's heuristic, every unit starting up to half a unit off its place",
        lambda _: stop,
        {"heuristic_ai": True, "start_jitter": 0.5},
        maps=("3m", "8m", "25m", "MMM", "2s3z", "3s5z", "1c3s5z"),
    ),
    "wall": Bot(
        "stands across the passage",
        lambda _: lambda battle: hold(battle, _WALL),
        maps=("corridor",),
    ),
    "sweep": Bot(
        "shoots where the colossi's beams hit most",
        lambda _: sweep,
        maps=("1c3s5z", "2c_vs_64zg"),
    ),
    "edge": Bot(
        "sweeps from the edge of the high ground",
        lambda _: lambda battle: hold(battle, _EDGE),
        maps=("2c_vs_64zg",),
    ),
    "cliff": Bot(
        "sweeps, one out on the cliff, where the other has pushed it",
        lambda _: cliff,
        maps=("2c_vs_64zg",),
    ),
    "low": Bot(
        "sweeps from the low ground, where it starts, in twelve places",
        lambda _: hold,
        maps=("2c_vs_64zg",),
        starts=_BELOW,
    ),
    "flat": Bot(
        "SMAC's heuristic, with neither walls nor high ground on the map",
        lambda _: stop,
        {"heuristic_ai": True},
        maps=("2c_vs_64zg",),
        terrain="open_32x32",
    ),
}


class Record(NamedTuple):
    """How B battles went; arrays (B,)."""

    won: Mask
    returns: NDArray[np.float32]
    lengths: NDArray[np.int32]
    kills: NDArray[np.int32]
    losses: NDArray[np.int32]
    timed_out: Mask

    @property
    def win_rate(self) -> float:
        """Share of battles won."""
        return float(self.won.mean())


def bots_for(map_name: str) -> list[str]:
    """Names of the bots that can play a map."""
    return [name for name, bot in BOTS.items() if not bot.maps or map_name in bot.maps]


def players_for(map_name: str) -> dict[str, str]:
    """Bots that play a map as it is, without options or ground of their own: name -> what each does."""
    return {
        name: BOTS[name].summary
        for name in bots_for(map_name)
        if not (BOTS[name].options or BOTS[name].starts or BOTS[name].terrain)
    }


def play(
    map_name: str | BattleMap, bot: str, battles: int, seed: int = 0, **options: Any
) -> Record:
    """Let a bot fight one episode of each of so many battles.

    Args:
        map_name: a SMAC map.
        bot: a name in :data:`BOTS`.
        battles: B.
        seed: seed of the battles.
        options: of :class:`VecBattle`.

    Raises:
        EnvError: no such bot, or it is not made for this map.
    """
    if bot not in BOTS:
        raise EnvError(f"unknown bot {bot!r}.{did_you_mean(bot, BOTS)} Bots are {', '.join(BOTS)}.")
    kind = BOTS[bot]
    name = map_name if isinstance(map_name, str) else map_name.name
    if kind.maps and name not in kind.maps:
        raise EnvError(f"bot {bot!r} is made for {', '.join(kind.maps)}, not for {name!r}.")
    if not kind.starts and kind.terrain is None:
        return _play(map_name, kind, battles, seed, options)
    ground = find_map(map_name) if isinstance(map_name, str) else map_name
    ground = replace(ground, terrain=kind.terrain or ground.terrain)
    starts = kind.starts or (ground.ally_start,)
    shares = [len(part) for part in np.array_split(np.arange(battles), len(starts))]
    parts = [
        _play(replace(ground, ally_start=start), kind, share, seed + k, options)
        for k, (start, share) in enumerate(zip(starts, shares, strict=True))
        if share
    ]
    return Record(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _play(
    map_name: str | BattleMap, kind: Bot, battles: int, seed: int, options: dict[str, Any]
) -> Record:
    """One episode of each of so many battles from one start."""
    battle = VecBattle(map_name, battles, seed=seed, autoreset=False, **(kind.options | options))
    policy = kind.make(seed)
    while not (battle.terminated | battle.truncated).all():
        battle.step(policy(battle))
    info = battle.info
    battle.close()
    return Record(
        won=info["battle_won"],
        returns=info["episode_return"],
        lengths=info["episode_length"],
        kills=info["dead_enemies"],
        losses=info["dead_allies"],
        timed_out=info["episode_limit"] & ~info["battle_won"],
    )
