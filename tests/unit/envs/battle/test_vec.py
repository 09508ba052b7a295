"""Batches: determinism, restarts, saving, and what is refused at the door."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any
from unittest import mock

import numba
import numpy as np
import pytest

from phalanx.envs.battle import BattleMap, VecBattle, battle_reward, map_info, observe
from phalanx.envs.battle.crew import LINE, begin_round, deal, make_crew, raise_to, take_share
from phalanx.envs.battle.pitch import PITCH
from phalanx.envs.battle.watch import Recorder
from phalanx.envs.gate import expected_fields, wrong_fields
from phalanx.errors import EnvError, UnavailableActionError

from .arena import random_actions, run_out, waiting

OUTPUTS = ("obs", "state", "avail_actions", "reward", "terminated", "truncated", "alive")


def course(battle: VecBattle, index: int, steps: int) -> list[bytes]:
    """What battle ``index`` of the seed shows when its agents follow a fixed random stream."""
    own = index - battle.first_index
    rng = np.random.default_rng(index)
    seen = []
    for _ in range(steps):
        actions = waiting(battle)
        weights = rng.random(battle.avail_actions.shape[1:])
        actions[own] = (weights * battle.avail_actions[own]).argmax(-1)
        battle.step(actions)
        seen.append(b"".join(getattr(battle, name)[own].tobytes() for name in OUTPUTS))
    return seen


@pytest.mark.parametrize(
    "name", ["3m", "MMM2", "1c3s5z", "2m_vs_1z", "corridor", "bane_vs_bane", "2c_vs_64zg"]
)
def test_battles_do_not_depend_on_the_batch_or_threads(name: str) -> None:
    alone = course(VecBattle(name, 1, seed=9, first_index=3), 3, 70)
    for battle in (
        VecBattle(name, 7, seed=9),
        VecBattle(name, 64, seed=9),
        VecBattle(name, 7, seed=9, threads=2),
    ):
        assert course(battle, 3, 70) == alone
        battle.close()
    assert course(VecBattle(name, 7, seed=10), 3, 70) != alone


def test_threads_awake_between_steps_notice_what_changes() -> None:
    rng = np.random.default_rng(0)
    alone, crew = VecBattle("8m", 12, seed=1), VecBattle("8m", 12, seed=1, threads=3)
    saved = VecBattle("8m", 12, seed=7).state_dict()
    changes = {
        10: lambda battle: Recorder(battle),
        20: lambda battle: battle.load_state_dict(saved),
        30: lambda battle: battle.show_to(None),
        40: lambda battle: time.sleep(0.05),  # they have gone to rest by now
        50: lambda battle: battle.place(3, *battle.units(4)),
    }
    for step in range(60):
        if step in changes:
            changes[step](alone)
            changes[step](crew)
        actions = random_actions(alone, rng)
        alone.step(actions)
        crew.step(actions)
        for name in (*OUTPUTS, "film"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(crew, name))
    crew.close()


def test_shares_cover_all_battles() -> None:
    assert deal(5, 1).tolist() == [0, 5]
    assert deal(1, 4).tolist() == [0, 1]
    assert deal(7, 2).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    half = [0, 8, 14, 19, 23, 26, 28, 29, 30, 31]
    assert deal(64, 2).tolist() == [*half, *(32 + start for start in half), 64]


@pytest.mark.parametrize("name", ["8m", "MMM", "3s5z", "1c3s5z", "so_many_baneling", "2c_vs_64zg"])
def test_saved_battles_go_on_bit_for_bit(name: str) -> None:
    rng = np.random.default_rng(0)
    first = VecBattle(name, 5, seed=1)
    for _ in range(45):
        first.step(random_actions(first, rng))
    saved = first.state_dict()
    second = VecBattle(name, 5, seed=99)
    second.load_state_dict(saved)
    for name_ in OUTPUTS:
        np.testing.assert_array_equal(getattr(first, name_), getattr(second, name_))
    for _ in range(45):
        actions = random_actions(first, rng)
        first.step(actions)
        second.step(actions)
        for name_ in OUTPUTS:
            np.testing.assert_array_equal(getattr(first, name_), getattr(second, name_))


def test_state_of_finished_battles_is_saved_too() -> None:
    battle = run_out(VecBattle("3m", 2, autoreset=False), waiting)
    battle.step(waiting(battle))
    copy = VecBattle("3m", 2, autoreset=False)
    copy.load_state_dict(battle.state_dict())
    for name in (*OUTPUTS, "visibility"):
        np.testing.assert_array_equal(getattr(battle, name), getattr(copy, name))
    with pytest.raises(EnvError, match=re.escape("saved state is of 2 battles on '3m', this")):
        VecBattle("3m", 3).load_state_dict(battle.state_dict())


def test_autoreset_restarts_and_keeps_the_last_view() -> None:
    frozen = VecBattle("3m", 3, autoreset=False, seed=4)
    going = VecBattle("3m", 3, autoreset=True, seed=4)
    while not frozen.terminated[0]:
        frozen.step(waiting(frozen))
        going.step(waiting(going))
    assert going.terminated[0]
    np.testing.assert_array_equal(going.final_obs[0], frozen.obs[0])
    np.testing.assert_array_equal(going.final_state[0], frozen.state[0])
    np.testing.assert_array_equal(going.final_avail_actions[0], frozen.avail_actions[0])
    assert going.info["episode_return"][0] == frozen.info["episode_return"][0]
    assert going.episode_steps[0] == 0
    frozen.reset(np.array([True, False, False]))
    np.testing.assert_array_equal(going.obs[0], frozen.obs[0])
    going.step(waiting(going))
    frozen.step(waiting(frozen))
    np.testing.assert_array_equal(going.obs[0], frozen.obs[0])
    assert not going.terminated[0]


def test_finished_battles_wait_for_their_reset() -> None:
    battle = VecBattle("3m", 2, autoreset=False)
    while not battle.terminated[0]:
        battle.step(waiting(battle))
    obs, length = battle.obs[0].copy(), battle.info["episode_length"][0]
    battle.step(np.where(battle.terminated[:, None], 8, waiting(battle)))  # ignored, no complaint
    np.testing.assert_array_equal(battle.obs[0], obs)
    assert battle.reward[0] == 0
    assert battle.terminated[0]
    assert battle.info["episode_length"][0] == length
    assert (battle.avail_actions[0] == np.eye(9)[0]).all()
    battle.reset(np.array([True, False]))
    assert not battle.terminated[0]
    assert battle.alive[0].all()


def test_later_episodes_differ_only_by_chance() -> None:
    battle = VecBattle("3m", 1, autoreset=False)
    start = battle.obs.copy()
    lengths = set()
    for _ in range(5):
        run_out(battle, waiting)
        lengths.add(float(battle.units(0)[1][:, 2].sum() + battle.info["episode_length"][0]))
        battle.reset()
        np.testing.assert_array_equal(battle.obs, start)
    assert len(lengths) >= 1


def test_start_jitter_moves_everybody_a_little() -> None:
    battle = VecBattle("8m", 2, start_jitter=0.1)
    still = VecBattle("8m", 2)
    shift = battle.units(0)[0][:, :2] - still.units(0)[0][:, :2]
    assert (np.abs(shift) <= 0.1).all()
    assert (shift != 0).all()
    assert (battle.units(0)[0][:, :2] != battle.units(1)[0][:, :2]).all()


def test_spec() -> None:
    spec = VecBattle("MMM2", 1).spec
    assert (spec.n_agents, spec.obs_dim, spec.state_dim, spec.n_actions) == (10, 176, 322, 18)
    assert spec.episode_limit == 180
    assert spec.agent_groups == (0, 0, 1, 1, 1, 1, 1, 1, 1, 2)
    assert spec.has_alive
    assert spec.has_visibility
    assert VecBattle("8m", 1).spec.agent_groups is None


def test_scripted_allies_and_heuristic_need_no_actions() -> None:
    for options in ({"scripted_allies": True}, {"heuristic_ai": True}):
        battle = run_out(VecBattle("3m", 2, autoreset=False, **options), waiting)
        assert battle.info["episode_return"].min() > 1
    assert battle.actions_taken.max() >= 6


def test_heuristic_rest_walks_until_the_target_is_at_hand() -> None:
    battle = VecBattle("3m", 1, heuristic_ai=True, heuristic_rest=True)
    battle.step(waiting(battle))
    assert battle.actions_taken[0].tolist() == [4, 4, 4]


def error(call, *args: object, **kwargs: object) -> str:
    with pytest.raises(EnvError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_unknown_maps_profiles_and_options() -> None:
    message = error(VecBattle, "MMM3", 1)
    assert message.startswith("unknown map 'MMM3'. Did you mean 'MMM")
    assert "2c_vs_64zg" in message
    assert error(VecBattle, "3m", 1, profile="libery") == (
        "unknown profile 'libery'; profiles are liberty, lotv. Did you mean 'liberty'?"
    )
    assert error(VecBattle, "3m", 1, reward_spares=True).startswith(
        "unknown battle option 'reward_spares'. Did you mean 'reward_sparse'"
    )
    assert error(VecBattle, "3m", 1, step_mul=0) == (
        "battle option 'step_mul' must be above 0, got 0."
    )
    assert error(VecBattle, "3m", 1, obs_last_action=1) == (
        "battle option 'obs_last_action' must be true or false, got 1."
    )
    assert error(VecBattle, "3m", 0) == "num_envs must be a whole number of at least 1, got 0."
    assert (
        error(VecBattle, "3m", 1, seed=-1) == "seed must be a whole number of at least 0, got -1."
    )
    assert error(map_info, "4m").startswith("unknown map '4m'")


def test_actions_are_checked_at_the_door() -> None:
    battle = VecBattle("3m", 2)
    assert error(battle.step, np.ones((2, 2), int)) == (
        "actions must be integers of shape (2, 3) (battles, agents), got int64 of shape (2, 2)."
    )
    assert error(battle.step, np.ones((2, 3))) == (
        "actions must be integers of shape (2, 3) (battles, agents), got float64 of shape (2, 3)."
    )
    actions = np.ones((2, 3), int)
    actions[1, 2] = 7
    before = battle.obs.copy()
    assert error(battle.step, actions) == (
        "battle 1, agent 2 (Marine, alive): action 7 is not available; "
        "available are [1, 2, 3, 4, 5]."
    )
    np.testing.assert_array_equal(battle.obs, before)
    actions[1, 2] = 9
    assert "action 9 is not available" in error(battle.step, actions)
    assert "boolean mask of shape (2,), got int64" in error(battle.reset, np.ones(2, int))
    assert error(battle.units, 2) == "no battle 2; there are 2, counted from 0."
    assert "ally must be finite numbers of shape (3, 6)" in error(
        battle.place, 0, np.zeros((3, 5)), np.zeros((3, 4))
    )


def test_lenient_battles_take_impossible_actions_as_stop() -> None:
    lenient, strict = VecBattle("3m", 1, strict=False), VecBattle("3m", 1)
    for _ in range(10):
        lenient.step([[8, 99, -5]] if not lenient.avail_actions[0, 0, 8] else [[1, 1, 1]])
        strict.step([[1, 1, 1]])
    np.testing.assert_array_equal(lenient.obs, strict.obs)


def test_wrong_types_are_refused_before_any_kernel() -> None:
    battle = VecBattle("3m", 2)
    for actions in (
        [[1, 1, 1], [1, 1]],
        [["a"] * 3] * 2,
        np.ones((2, 3), bool),
        None,
        [[None] * 3] * 2,
    ):
        assert "actions must be integers of shape (2, 3) (battles, agents), got" in error(
            battle.step, actions
        )
    huge = np.full((2, 3), 2**64 - 1, np.uint64)
    assert "action 9223372036854775807 is not available" in error(battle.step, huge)
    assert issubclass(UnavailableActionError, AssertionError)
    enemies = np.zeros((3, 4))
    for ally in (np.full((3, 6), np.nan), [["x"] * 6] * 3, [[1, 2], [3]]):
        assert error(battle.place, 0, ally, enemies).startswith(
            "ally must be finite numbers of shape (3, 6), got "
        )
    assert error(battle.units, 0.5) == "no battle 0.5; there are 2, counted from 0."
    for name in ("autoreset", "strict", "random_delay", "scripted_allies"):
        assert error(VecBattle, "3m", 1, **{name: "no"}) == (
            f"{name} must be true or false, got 'no'."
        )
    assert "start_jitter must lie between 0 and 1" in error(VecBattle, "3m", 1, start_jitter="a")
    assert "must be finite, got nan" in error(VecBattle, "3m", 1, reward_win=float("nan"))
    assert error(VecBattle, "3m", 1, profile=3).startswith("unknown profile 3; profiles are")
    assert error(VecBattle, 3, 1).startswith("unknown map 3.")


def test_observe_checks_what_it_is_given() -> None:
    ally, enemy, last = np.zeros((3, 6)), np.zeros((3, 4)), np.zeros(3, int)
    assert error(observe, "3m", np.zeros((3, 5)), enemy, last, 0) == (
        "ally must be finite numbers of shape (3, 6), got shape (3, 5)."
    )
    assert "enemy must be finite numbers of shape (2, 3, 4)" in error(
        observe, "3m", [ally] * 2, enemy, [last] * 2, [0, 0]
    )
    for beyond in (9, -2, 0.5):
        assert error(observe, "3m", ally, enemy, [beyond, 0, 0], 0) == (
            "last_action must be whole numbers from -1 (none yet) to 8."
        )
    assert "step must be finite numbers of shape ()" in error(
        observe, "3m", ally, enemy, last, [1, 2]
    )
    assert "dead_before must be finite numbers of shape (3,), got shape (2,)" in error(
        battle_reward, "3m", (ally, enemy), (ally, enemy), (np.zeros(2), np.zeros(3))
    )


TWO_ON_ONE = BattleMap(
    name="two_on_one",
    agents=("Marine", "Marine"),
    enemies=("Zealot",),
    ally_start=((9.0, 15.0), (9.0, 17.0)),
    enemy_start=((23.0, 16.0),),
    limit=50,
)


def test_own_maps_can_be_played() -> None:
    battle = run_out(VecBattle(TWO_ON_ONE, 2, autoreset=False), waiting)
    assert battle.spec.obs_dim == 4 + 6 + 5 + 1
    assert battle.info["dead_allies"].tolist() == [2, 2]


def test_own_maps_have_room_for_many_units() -> None:
    full = ("Marine",) * (PITCH - 1)
    battle = VecBattle(replace(TWO_ON_ONE, agents=full, ally_start=((9.0, 15.0),) * len(full)), 1)
    battle.step(waiting(battle))
    assert battle.alive.all()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"agents": ()}, "map 'two_on_one' has no agents."),
        ({"agents": ("Marine", "Marin")}, "unknown unit 'Marin' among its agents. Did you mean"),
        ({"agents": ("Marine",) * 3}, "ally_start must be finite numbers of shape (3, 2)"),
        ({"enemy_start": ((np.nan, 16.0),)}, "enemy_start must be finite numbers of shape (1, 2)"),
        ({"enemy_start": ((33.0, 16.0),)}, "enemy_start must lie on the map, from 0 to 32"),
        ({"enemy_goal": (9.0, -1.0)}, "enemy_goal must lie on the map"),
        ({"ally_bits": (("Marine", 5),), "unit_type_bits": 5}, "ally_bits gives Marine column 5"),
        ({"terrain": "strip"}, "unknown terrain 'strip'."),
        ({"limit": 0}, "limit must be a whole number of at least 1"),
        (
            {"agents": ("Marine",) * PITCH, "ally_start": ((9.0, 15.0),) * PITCH},
            f"has {PITCH + 1} units; a battle has room for at most {PITCH}.",
        ),
    ],
)
def test_own_maps_are_checked_at_the_door(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EnvError, match=re.escape(complaint)):
        VecBattle(replace(TWO_ON_ONE, **changes), 1)


def test_saved_states_of_other_battles_are_refused() -> None:
    saved = VecBattle("3m", 2).state_dict()
    with pytest.raises(EnvError, match="a saved state has the entries map, settings, seed"):
        VecBattle("3m", 2).load_state_dict({})
    for other, complaint in (
        ({"profile": "lotv"}, "with profile=liberty; these have profile=lotv"),
        ({"step_mul": 4}, "with step_mul=8; these have step_mul=4"),
    ):
        with pytest.raises(EnvError, match=complaint):
            VecBattle("3m", 2, **other).load_state_dict(saved)


def test_closed_battles_do_not_step() -> None:
    battle = VecBattle("3m", 2, threads=2)
    battle.close()
    with pytest.raises(EnvError, match="closed"):
        battle.step(waiting(battle))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupted_step_does_not_hold_up_the_next(threads: int) -> None:
    cut, whole = (VecBattle("3m", 5, seed=1, threads=threads) for _ in range(2))
    interrupt = mock.patch.object(VecBattle, "_work_on", side_effect=KeyboardInterrupt)
    with interrupt, pytest.raises(KeyboardInterrupt):
        cut.step(waiting(cut))
    cut.step(waiting(cut))
    for _ in range(2):
        whole.step(waiting(whole))
    for name in OUTPUTS:
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))


def test_a_share_is_taken_once_in_a_round_even_by_who_comes_late() -> None:
    crew = make_crew(1, 2)
    late = numba.njit(lambda crew, place, value: raise_to(crew, place, value))
    for this_round in (1, 2):
        begin_round(crew)
        assert take_share(crew, this_round, 1, 0, 2) == 0
        assert take_share(crew, this_round, 1, 1, 2) == -1
    place = len(crew) - LINE
    assert late(crew, place, 1) == 2  # read before round 2, claimed after it
    assert crew[place] == 2
    assert take_share(crew, 2, 1, 0, 2) == -1


def test_reset_and_step_return_what_the_protocol_says() -> None:
    battle = VecBattle("3m", 2, seed=4, autoreset=False)
    seen = battle.reset()
    assert not wrong_fields(expected_fields(battle.spec, 2), seen)
    after = battle.step(waiting(battle))
    assert after.obs is battle.obs
    assert after.info["battle_won"].shape == (2,)
