"""Scripted players: what each of the game's tactics is worth on a map.

A bot is a policy written by hand over all battles at once. It knows more than an agent does (every unit's
place, health and cooldown), and acts through the same masked actions. Bots are yardsticks and tests: a
tactic that wins in the game must pay in the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import EnvError, did_you_mean
from .maps import BattleMap, find_map
from .terrain import PATHABLE, SIZE, load_terrain
from .vec import VecBattle

Real = NDArray[np.float64]
Mask = NDArray[np.bool_]
Actions = NDArray[np.int64]
Policy = Callable[[VecBattle], Actions]

MOVES = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], dtype=np.float64)  # actions 2 to 5
FIRST_MOVE = 2
ENGAGE = 9.0  # an enemy this near is walked up to, where none can be attacked yet
PATIENCE = 15  # steps to wait for enemies that do not come; then go to them
FAR = 1e9
TOUCH = 0.7  # a pursuer comes no nearer than this
SHORTER = 2.0  # whoever reaches less far than oneself by this is worth running from
KEEP_AWAY = 3.5  # from the reach of pursuers
CLOSE_CALL = 0.15  # left between a pursuer and its reach after a shot
UNREACHABLE = 4 * SIZE * SIZE


class Scene(NamedTuple):
    """All battles as the bots see them: B battles, N agents, E enemies."""

    at: Real  # (B, N, 2)
    enemy_at: Real  # (B, E, 2)
    life: Real  # (B, E) health and shield; 0 dead
    apart: Real  # (B, N, E) between centres; FAR where the enemy is dead
    hittable: Mask  # (B, N, E) living enemies that the agent's weapon can hit
    targets: Mask  # (B, N, E) the same, as far as an attack is available
    in_reach: Mask  # (B, N, E) the same, as far as the weapon reaches without walking
    alive: Mask  # (B, N)
    medic: Mask  # (B, N)
    ready: Mask  # (B, N) the next shot may start within this step
    shield: Real  # (B, N)
    own_life: Real  # (B, N) health and shield
    share: Real  # (B, N) health over full health
    pace: Real  # (B, N) map units per step
    enemy_pace: Real  # (B, E)
    margin: Real  # (B, N, E) to the reach of enemies who reach less far; FAR from the others
    moves: Mask  # (B, N, 4) steps that are available
    patients: Mask  # (B, N, N) whom a medic may heal and who is hurt
    steps: NDArray[np.int64]  # (B,)
    ground: str
    first_attack: int  # action that attacks enemy 0


def observe_all(battle: VecBattle) -> Scene:
    """The scene of all battles."""
    ally, enemy = battle.units()
    slots, n_agents = battle.slots, battle.spec.n_agents
    own, foes = slots[:, :n_agents], slots[:, n_agents:]
    living = enemy[:, :, 2] > 0
    life = np.where(living, enemy[:, :, 2] + enemy[:, :, 3], 0.0)
    at, enemy_at = ally[:, :, :2], enemy[:, :, :2]
    apart = np.linalg.norm(enemy_at[:, None] - at[:, :, None], axis=-1)
    apart = np.where(living[:, None], apart, FAR)
    layers = own["targets"][:, :, None] & foes["layers"][:, None]
    medic = own["heal_rate"] > 0
    hittable = living[:, None] & (layers != 0) & ~medic[:, :, None]
    offered = battle.avail_actions[:, :, battle.first_attack :] == 1
    targets = hittable & offered[:, :, : enemy.shape[1]]
    rims = own["radius"][:, :, None] + foes["radius"][:, None]
    in_reach = targets & (apart <= own["reach"][:, :, None] + rims)
    shorter = foes["reach"][:, None] + SHORTER <= own["reach"][:, :, None]
    shorter &= living[:, None]
    hurt = (ally[:, :, 2] > 0) & (ally[:, :, 2] < own["health"])
    patients = np.zeros((*ally.shape[:2], n_agents), np.bool_)
    shared = min(n_agents, offered.shape[2])
    patients[:, :, :shared] = offered[:, :, :shared] & medic[:, :, None] & hurt[:, None, :shared]
    return Scene(
        at=at,
        enemy_at=enemy_at,
        life=life,
        apart=apart,
        hittable=hittable,
        targets=targets,
        in_reach=in_reach,
        alive=battle.alive,
        medic=medic,
        ready=ally[:, :, 5] <= 1.0,
        shield=ally[:, :, 3],
        own_life=ally[:, :, 2] + ally[:, :, 3],
        share=ally[:, :, 2] / own["health"],
        pace=own["speed"] * battle.loops_per_step,
        enemy_pace=foes["speed"] * battle.loops_per_step,
        margin=np.where(shorter, apart - foes["reach"][:, None] - rims, FAR),
        moves=battle.avail_actions[:, :, FIRST_MOVE : FIRST_MOVE + 4] == 1,
        patients=patients,
        steps=battle.episode_steps,
        ground=battle.map.terrain,
        first_attack=battle.first_attack,
    )


@cache
def path_lengths(ground: str) -> NDArray[np.int16]:
    """Steps between any two cells of a terrain, in four directions: (1024, 1024) by x * 32 + y.

    Cells on which nobody can walk count as one step away from the walkable ones beside them, since
    bodies may stand half on them.
    """
    walkable = load_terrain(ground)[PATHABLE] > 0
    cells = SIZE * SIZE
    lengths = np.full((cells, SIZE, SIZE), UNREACHABLE, np.int16)
    front = np.zeros((cells, SIZE, SIZE), np.bool_)
    everywhere = np.arange(cells)
    front[everywhere, everywhere // SIZE, everywhere % SIZE] = True
    lengths[front] = 0
    for length in range(1, cells):
        onward = np.zeros_like(front)
        onward[:, 1:] |= front[:, :-1]
        onward[:, :-1] |= front[:, 1:]
        onward[:, :, 1:] |= front[:, :, :-1]
        onward[:, :, :-1] |= front[:, :, 1:]
        reached = onward & walkable & (lengths == UNREACHABLE)
        if not reached.any():
            break
        lengths[reached] = length
        front = reached
    return lengths.reshape(cells, cells)


@cache
def clearance(ground: str) -> Real:
    """Distance from each cell's centre to the nearest cell nobody can walk on, (32, 32)."""
    walkable = np.pad(load_terrain(ground)[PATHABLE] > 0, 1)
    blocked = np.argwhere(~walkable) - 1
    centres = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), axis=-1)
    gaps = np.linalg.norm(centres[:, :, None] - blocked, axis=-1)
    return np.asarray(gaps.min(axis=-1) - 0.5)


def _cells(points: Real) -> NDArray[np.int64]:
    whole = np.clip(np.floor(points), 0, SIZE - 1).astype(np.int64)
    return np.asarray(whole[..., 0] * SIZE + whole[..., 1])


def _pick(scores: Real, allowed: Mask, first: int) -> Actions:
    """Action of the lowest score among the allowed ones, or -1."""
    best = np.where(allowed, scores, np.inf).argmin(-1)
    return np.where(allowed.any(-1), first + best, -1)


def go_to(scene: Scene, goal: Real) -> Actions:
    """(B, N) steps along the ground toward goals (B, N, 2); -1 where no step is available."""
    ahead = scene.at[:, :, None] + MOVES
    lengths = path_lengths(scene.ground)[_cells(ahead), _cells(goal)[:, :, None]]
    straight = np.linalg.norm(goal[:, :, None] - ahead, axis=-1)
    return _pick(lengths + 0.01 * straight, scene.moves, FIRST_MOVE)


# Where a runner may go: one direction for some steps, then another, never straight back.
_PLANS = np.array(
    [
        (first, then, turn)
        for first in range(4)
        for then in range(4)
        for turn in (1, 3, 6)
        if (first != then or turn == 1) and first ^ then != 1
    ]
)
_HORIZON = 12
_PURSUERS = 6


def flee(scene: Scene, who: Mask) -> Actions:
    """(B, N) steps away from pursuers for the agents of ``who`` (B, N); -1 for the others.

    Each plan is played out for some steps with the nearest enemies running after the agent; the first
    step of the plan that keeps them farthest is taken. This is what finds the way out of corners.
    """
    actions = np.full(who.shape, -1)
    b, i = np.nonzero(who)
    if len(b) == 0:
        return actions
    order = np.argsort(scene.apart[b, i], axis=-1)[:, :_PURSUERS]
    foes = np.take_along_axis(scene.enemy_at[b], order[:, :, None], axis=1)
    dead = np.take_along_axis(scene.life[b], order, axis=1) <= 0
    speed = np.take_along_axis(scene.enemy_pace[b], order, axis=1)[:, None]
    at = np.repeat(scene.at[b, i][:, None], len(_PLANS), axis=1)
    foes = np.repeat(foes[:, None], len(_PLANS), axis=1)
    pace = scene.pace[b, i][:, None, None]
    free = clearance(scene.ground)
    closest, mean = np.full(at.shape[:2], FAR), np.zeros(at.shape[:2])
    for t in range(_HORIZON):
        ahead = at + MOVES[np.where(t < _PLANS[:, 2], _PLANS[:, 0], _PLANS[:, 1])] * pace
        cells = _cells(ahead)
        walkable = (free[cells // SIZE, cells % SIZE] > 0) & (ahead >= 0).all(-1)
        walkable &= (ahead < SIZE).all(-1)
        at = np.where(walkable[:, :, None], ahead, at)
        gaps = at[:, :, None] - foes
        length = np.maximum(np.linalg.norm(gaps, axis=-1), 1e-6)
        foes = foes + gaps * (np.clip(length - TOUCH, 0.0, speed) / length)[..., None]
        length = np.linalg.norm(at[:, :, None] - foes, axis=-1)
        near = np.where(dead[:, None], FAR, length).min(-1)
        closest = np.minimum(closest, near)
        mean += np.minimum(near, 6.0) / _HORIZON
    worth = closest + 0.5 * mean
    scores = np.stack([-worth[:, _PLANS[:, 0] == d].max(-1) for d in range(4)], axis=-1)
    actions[b, i] = _pick(scores, scene.moves[b, i], FIRST_MOVE)
    return actions


def rest(scene: Scene) -> Actions:
    """Stop, or no-op for the dead."""
    return scene.alive.astype(np.int64)


def first_of(scene: Scene, *choices: Actions) -> Actions:
    """Per agent the first choice that is none of -1, else stop; medics tend, the dead rest."""
    actions = rest(scene)
    for choice in reversed(choices):
        actions = np.where(choice >= 0, choice, actions)
    if scene.medic.any():
        actions = np.where(scene.medic, tend(scene), actions)
    return np.where(scene.alive, actions, 0)


def tend(scene: Scene) -> Actions:
    """Medics heal whoever is worst off, else stay with the nearest other."""
    others = scene.alive & ~scene.medic
    gaps = np.linalg.norm(scene.at[:, None] - scene.at[:, :, None], axis=-1)
    gaps = np.where(others[:, None], gaps, FAR)
    friend = np.take_along_axis(scene.at, gaps.argmin(-1)[:, :, None], axis=1)
    heal = _pick(
        np.broadcast_to(scene.share[:, None], gaps.shape), scene.patients, scene.first_attack
    )
    follow = np.where((gaps.min(-1) > 3) & (gaps.min(-1) < FAR), go_to(scene, friend), 1)
    return np.where(heal >= 0, heal, np.where(follow >= 0, follow, 1))


def at_nearest(scene: Scene) -> Actions:
    """Attack the nearest enemy on offer."""
    return _pick(scene.apart, scene.targets, scene.first_attack)


def at_weakest(scene: Scene) -> Actions:
    """Attack whoever has the least life among those in weapon range."""
    life = np.broadcast_to(scene.life[:, None], scene.apart.shape)
    return _pick(life + 1e-3 * scene.apart, scene.in_reach, scene.first_attack)


def advance(scene: Scene) -> Actions:
    """Walk to the nearest enemy once it is close, or once it has been waited for long enough."""
    gaps = np.where(scene.hittable, scene.apart, FAR)
    goal = np.take_along_axis(scene.enemy_at, gaps.argmin(-1)[:, :, None], axis=1)
    near = gaps.min(-1)
    going = (near < ENGAGE) | ((near < FAR) & (scene.steps[:, None] >= PATIENCE))
    return np.where(going, go_to(scene, goal), -1)


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
    return first_of(scene, _pick(scene.apart, scene.in_reach, scene.first_attack))


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
        left[rows, target] -= np.where(shoots & scene.ready[:, i], hits[rows, i, target], 0.0)
    return first_of(scene, choice, at_weakest(scene), at_nearest(scene), advance(scene))


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
    away = _pick(-np.where(lonely_there, FAR, there).min(-1), scene.moves, FIRST_MOVE)
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


def hold(battle: VecBattle, posts: Real) -> Actions:
    """Go to a post each, (N, 2), stay there and attack what comes within weapon range."""
    scene = observe_all(battle)
    goal = np.broadcast_to(posts, scene.at.shape)
    off = np.abs(goal - scene.at).max(-1) > 0.6 * scene.pace
    walk = np.where(off, go_to(scene, goal), -1)
    return first_of(scene, at_weakest(scene), walk)


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
# Two abreast at the high ground's southern edge, and below it in the open.
_EDGE = ((15.0, 14.8), (17.0, 14.8))
_LOW = ((22.0, 8.0), (22.0, 10.0))


@dataclass(frozen=True)
class Bot:
    """A scripted player.

    Attributes:
        summary: what it does, in a line.
        make: a fresh policy.
        options: SMAC options that the battles need.
        maps: the maps it is made for; empty: all.
        ally_start: where its agents start, if not where the map says.
    """

    summary: str
    make: Callable[[], Policy]
    options: dict[str, Any] = field(default_factory=dict)
    maps: tuple[str, ...] = ()
    ally_start: tuple[tuple[float, float], ...] | None = None


BOTS: dict[str, Bot] = {
    "stop": Bot("stops for ever", lambda: stop),
    "random": Bot("takes any available action", Random),
    "heuristic": Bot(
        "SMAC's built-in heuristic: goes for the nearest enemy and keeps it",
        lambda: stop,
        {"heuristic_ai": True},
    ),
    "nearest": Bot("attacks the nearest enemy", lambda: nearest),
    "focus": Bot("attacks the weakest enemy in weapon range", lambda: focus),
    "volley": Bot("focus fire without overkill", lambda: volley),
    "stay": Bot("never walks, attacks the nearest in weapon range", lambda: stay),
    "kite": Bot("shoots when loaded, else runs from whoever is near", lambda: kite),
    "alternate": Bot("whoever is chased or badly hurt runs, the others shoot", Alternate),
    "spread": Bot("stands apart until the enemy is there", lambda: spread),
    "clump": Bot("stands together until the enemy is there", lambda: clump),
    "wall": Bot(
        "stands across the passage",
        lambda: lambda battle: hold(battle, _WALL),
        maps=("corridor",),
    ),
    "edge": Bot(
        "stays, at the edge of the high ground",
        lambda: stay,
        maps=("2c_vs_64zg",),
        ally_start=_EDGE,
    ),
    "low": Bot(
        "stays, but starts on the low ground", lambda: stay, maps=("2c_vs_64zg",), ally_start=_LOW
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
    battle_map = find_map(map_name) if isinstance(map_name, str) and kind.ally_start else map_name
    if kind.ally_start and isinstance(battle_map, BattleMap):
        battle_map = replace(battle_map, ally_start=kind.ally_start)
    battle = VecBattle(battle_map, battles, seed=seed, autoreset=False, **(kind.options | options))
    policy = kind.make()
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
