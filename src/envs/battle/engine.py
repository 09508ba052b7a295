"""The compiled entry points: restart battles, step them, look at arbitrary unit records.

One battle after the other goes through a whole env step, so that the few kilobytes it touches stay in the
cache. An env step is ``step_mul`` game loops.
"""

from __future__ import annotations

import numpy as np

from . import rng
from .crew import (
    DISMISSED,
    DONE,
    LINE,
    PRESENT,
    ROUND,
    Crew,
    add,
    all_done,
    load,
    store,
    take_share,
)
from .generation import Draw, arrange, generate
from .jit import inlined, inner, kernel, step_kernel
from .layout import (
    EPISODE,
    FILM_REAL,
    FILM_WHOLE,
    HEALTH,
    INTENT,
    LOOP,
    OVER,
    STEP,
    WISH_X,
    WISH_Y,
    Array,
    Outputs,
    Real,
    State,
    Whole,
    Work,
)
from .loop import advance, prepare
from .observation import look, may_target, spot
from .opening import begin, restart
from .orders import heuristic_action, obey
from .pitch import with_pitch
from .reward import ONGOING, WON, battle_end, battle_reward, end_bonus
from .rules import Features, Rules
from .terrain import Ground, Terrain
from .units import Slots


@inlined
def show(
    b: int, key: np.uint64, state: State, out: Outputs,
    stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Write battle b's observations, state and masks."""
    if rules.partial:
        spot(
            key, state.battle[b, STEP], state.facing[b], state.spotted[b], state.spotter[b],
            state.units[b], stats, rules,
        )  # fmt: skip
    look(
        out.obs[b], out.state[b], out.avail_actions[b], out.alive[b], out.visibility[b],
        state.last_action[b], state.battle[b, STEP] / rules.limit, state.facing[b], state.spotted[b],
        state.units[b], stats, rules, terrain, shape,
    )  # fmt: skip


@inlined
def give_orders(
    b: int, actions: Array, state: State, out: Outputs, stats: Slots, rules: Rules
) -> None:
    """Turn one battle's actions (N,) into orders; out-of-reach ones count as stop."""
    units, flags, avail = state.units[b], state.flags[b], out.avail_actions[b]
    for i in range(rules.n_allies):
        action = actions[i]
        dead = units[HEALTH, i] <= 0.0
        if action < 0 or action >= avail.shape[1] or avail[i, action] == 0:
            action = 0 if dead else 1
        state.last_action[b, i] = action
        out.actions_taken[b, i] = action
        if dead or rules.scripted:
            continue
        if rules.heuristic_ai:
            action = heuristic_action(i, avail[i], state.chosen[b], units, flags, stats, rules)
            out.actions_taken[b, i] = max(action, 0)
            if action < 0:
                continue  # no order given: the unit goes on with its last one
        if rules.first_attack - rules.looks <= action < rules.first_attack:
            state.facing[b, i] = action - rules.first_attack + rules.looks
            continue  # a look is no order
        if not rules.action_mask and action >= rules.first_attack:
            j = action - rules.first_attack
            if not rules.medics or stats[i].heal_rate == 0.0:
                j += rules.n_allies
            if not may_target(i, j, state.facing[b], units, stats, rules):
                continue
        obey(i, action, units, flags, stats, rules)


@inner
def keep_last_view(b: int, out: Outputs) -> None:
    """Copy what is seen of battle b to where a restart leaves it alone."""
    for i in range(out.obs.shape[1]):
        for c in range(out.obs.shape[2]):
            out.final_obs[b, i, c] = out.obs[b, i, c]
        for c in range(out.avail_actions.shape[2]):
            out.final_avail_actions[b, i, c] = out.avail_actions[b, i, c]
    for c in range(out.state.shape[1]):
        out.final_state[b, c] = out.state[b, c]


@inlined
def conclude(b: int, state: State, out: Outputs, work: Work, stats: Slots, rules: Rules) -> None:
    """Reward and end of battle b's env step."""
    units = state.units[b]
    end = battle_end(units, stats, rules)
    reward = end_bonus(battle_reward(work, units, rules), end, stats, rules)
    timeout = end == ONGOING and state.battle[b, STEP] >= rules.limit
    state.returned[b] += reward
    state.battle[b, OVER] = end != ONGOING or timeout
    out.reward[b] = reward
    out.terminated[b] = end != ONGOING or (timeout and not rules.continuing)
    out.truncated[b] = timeout
    out.battle_won[b] = end == WON
    out.timed_out[b] = timeout
    out.episode_return[b] = state.returned[b]
    out.episode_length[b] = state.battle[b, STEP]
    dead_allies, dead_enemies = 0, 0
    for i in range(rules.n_allies + rules.n_enemies):
        if units[HEALTH, i] <= 0.0:
            if i < rules.n_allies:
                dead_allies += 1
            else:
                dead_enemies += 1
    out.dead_allies[b] = dead_allies
    out.dead_enemies[b] = dead_enemies


@inner
def film(units: Real, flags: Whole, frame: Array) -> None:
    """Keep what a picture of this loop needs in ``frame`` (N_FILM, M)."""
    for i in range(frame.shape[1]):
        for field in range(FILM_REAL):
            frame[field, i] = units[field, i]
        for field in range(FILM_WHOLE):
            frame[FILM_REAL + field, i] = flags[field, i]


@step_kernel
def first_unavailable(actions: Array, battle: Array, avail_actions: Array) -> int:
    """Flat index (battle times N plus agent) of the first action that may not be taken, or -1.

    Finished battles ignore their actions, so these are not looked at.
    """
    n_battles, n_agents = actions.shape
    n_actions = avail_actions.shape[2]
    for b in range(n_battles):
        if battle[b, OVER] == 1:
            continue
        for i in range(n_agents):
            action = actions[b, i]
            if action < 0 or action >= n_actions or avail_actions[b, i, action] == 0:
                return int(b * n_agents + i)
    return -1


@kernel
def reset_battles(
    mask: Array, seed: int, first_index: int, start: Real, work: Work, draw: Draw,
    state: State, out: Outputs, table: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Begin a new episode in every battle of the mask (B,), and write what its agents see.

    ``table`` (1, M) and ``start`` (1, 2, M) hold for all battles, or, with drawn teams, (B, M) and
    (B, 2, M) for one each.
    """
    for b in range(mask.shape[0]):
        if not mask[b]:
            continue
        row = b if rules.generated else 0
        stats = table[row]
        restart(b, seed, first_index + b, state, work, draw, start[row], stats, rules)
        key = rng.episode_key(seed, first_index + b, state.battle[b, EPISODE])
        out.reward[b] = 0.0
        out.terminated[b] = out.truncated[b] = out.battle_won[b] = out.timed_out[b] = False
        out.dead_allies[b] = out.dead_enemies[b] = out.episode_length[b] = 0
        out.episode_return[b] = 0.0
        out.actions_taken[b] = 0
        show(b, key, state, out, stats, rules, terrain, shape)


@kernel
def show_battles(
    mask: Array, seed: int, first_index: int,
    state: State, out: Outputs, table: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Write anew what the agents of the masked battles (B,) see."""
    for b in range(mask.shape[0]):
        if mask[b]:
            key = rng.episode_key(seed, first_index + b, state.battle[b, EPISODE])
            stats = table[b if rules.generated else 0]
            show(b, key, state, out, stats, rules, terrain, shape)


@kernel
def field_battle(
    b: int, kinds: Array, places: Real, seed: int, first_index: int, start: Real, work: Work, draw: Draw,
    state: State, out: Outputs, table: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """Begin battle b's episode again with units of these kinds (M,), created at places (M, 2)."""
    for i in range(kinds.shape[0]):
        work.whole[INTENT, i] = kinds[i]
        work.real[WISH_X, i], work.real[WISH_Y, i] = places[i, 0], places[i, 1]
    arrange(work, draw, table[b], start[b], rules)
    key = rng.episode_key(seed, first_index + b, state.battle[b, EPISODE])
    begin(b, key, state, start[b], table[b], rules)
    show(b, key, state, out, table[b], rules, terrain, shape)


@kernel
def draw_again(
    seed: int, first_index: int, start: Real, work: Work, draw: Draw,
    state: State, table: Slots, rules: Rules,
) -> None:  # fmt: skip
    """Draw the teams of all battles' current episodes again, into ``table`` and ``start``."""
    for b in range(table.shape[0]):
        key = rng.episode_key(seed, first_index + b, state.battle[b, EPISODE])
        generate(key, work, draw, table[b], start[b], rules)


@inlined
def step_battle(
    b: int, seed: int, first_index: int, autoreset: bool, actions: Array, start: Real,
    work: Work, draw: Draw, state: State, out: Outputs,
    table: Slots, rules: Rules, terrain: Terrain, shape: Features, ground: Ground,
) -> None:  # fmt: skip
    """One env step of battle b; see :func:`step_battles`."""
    battle = state.battle[b]
    if battle[OVER] == 1:
        out.reward[b] = 0.0
        out.avail_actions[b] = 0
        out.avail_actions[b, :, 0] = 1
        return
    row = b if rules.generated else 0
    stats = table[row]
    give_orders(b, actions[b], state, out, stats, rules)
    units, flags = with_pitch(state.units[b]), with_pitch(state.flags[b])
    work = Work(with_pitch(work.real), with_pitch(work.whole), work.pairs)
    prepare(work, units, stats, rules)
    key = rng.episode_key(seed, first_index + b, battle[EPISODE])
    filmed = b < out.film.shape[0]
    for k in range(rules.step_mul):
        battle[LOOP] += 1
        advance(
            battle[LOOP], key, work, units, flags, battle,
            state.queue[b], stats, rules, ground,
        )  # fmt: skip
        if filmed:
            film(units, flags, out.film[b, k])
    battle[STEP] += 1
    conclude(b, state, out, work, stats, rules)
    show(b, key, state, out, stats, rules, terrain, shape)
    if autoreset and battle[OVER] == 1:
        keep_last_view(b, out)
        restart(b, seed, first_index + b, state, work, draw, start[row], stats, rules)
        key = rng.episode_key(seed, first_index + b, battle[EPISODE])
        show(b, key, state, out, stats, rules, terrain, shape)


@step_kernel
def step_battles(
    crew: Crew, bounds: Array, thread: int, threads: int, patience: int,
    seed: int, first_index: int, autoreset: bool, actions: Array, start: Real,
    work: Work, draw: Draw, state: State, out: Outputs,
    table: Slots, rules: Rules, terrain: Terrain, shape: Features, ground: Ground,
) -> bool:  # fmt: skip
    """One env step of as many shares of the battles as this thread gets.

    Args:
        crew: what the threads have in common, with shares that wait to be done.
        bounds: share k holds battles bounds[k] to bounds[k + 1] - 1.
        thread: 0 leads and returns once the step is done everywhere; others wait for the next step's shares.
        patience: how often to look in vain before returning nevertheless.
        seed, first_index: randomness of battle b comes from (seed, first_index + b, episode).
        autoreset: restart finished battles at once, keeping their last view in ``out.final_*``.
        actions: (B, N); those of finished battles are ignored.
        start, table: start positions and unit data, as :func:`reset_battles` takes them.
        work: this thread's working memory.

    Returns:
        Whether the whole step is done.
    """
    shares = bounds.shape[0] - 1
    looks, finished = 0, 0
    emptied = -1  # the round in which nothing is left to take
    while looks <= patience:
        this_round = load(crew, ROUND)
        share = -1
        if this_round != emptied:
            share = take_share(crew, this_round, shares, thread, threads)
        if share < 0:
            emptied = this_round
            if finished > 0:  # told once, as telling takes the line from the other threads
                add(crew, DONE, finished)
                finished = 0
            if all_done(crew, shares) if thread == 0 else load(crew, DISMISSED) == 1:
                break
            looks += 1
            continue
        looks = 0
        for b in range(bounds[share], bounds[share + 1]):
            step_battle(
                b, seed, first_index, autoreset, actions, start, work, draw, state, out,
                table, rules, terrain, shape, ground,
            )  # fmt: skip
        finished += 1
    store(crew, PRESENT + LINE * thread, 0)
    return all_done(crew, shares)


@kernel
def look_at(
    units: Real, last_action: Array, clock: Real, facing: Array, spotted: Array,
    obs: Array, view: Array, avail: Array, alive: Array, visibility: Array,
    stats: Slots, rules: Rules, terrain: Terrain, shape: Features,
) -> None:  # fmt: skip
    """What agents would see of given unit records: units (B, N_REAL, M or more), clock (B,)."""
    for b in range(units.shape[0]):
        look(
            obs[b], view[b], avail[b], alive[b], visibility[b], last_action[b], clock[b],
            facing[b], spotted[b], units[b], stats, rules, terrain, shape,
        )  # fmt: skip


@kernel
def reward_of(work: Work, units: Real, rules: Rules) -> float:
    """Unscaled battle reward from ``work``'s row TOTAL to units (N_REAL, M)."""
    return battle_reward(work, units, rules)
