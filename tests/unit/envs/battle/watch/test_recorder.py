"""Recording: exact, whole episodes, and without any effect on the battles."""

from __future__ import annotations

import numpy as np
import pytest

from phalanx.envs.battle import BattleMap, VecBattle
from phalanx.envs.battle.bots import focus
from phalanx.envs.battle.layout import ATTACK, HEAL, MOVE
from phalanx.envs.battle.watch import Recorder
from phalanx.errors import EnvError

from ..arena import arena, random_actions, run_out, waiting

STATE = ("units", "flags", "battle", "queue", "last_action", "chosen", "returned")


@pytest.mark.parametrize("name", ["MMM2", "1c3s5z"])
@pytest.mark.parametrize("threads", [1, 2])
def test_recording_changes_nothing(name: str, threads: int) -> None:
    watched, alone = VecBattle(name, 3, seed=2, threads=threads), VecBattle(name, 3, seed=2)
    Recorder(watched, [1])
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = random_actions(alone, rng)
        watched.step(actions)
        alone.step(actions)
        for field in ("obs", "state", "reward", "terminated", "final_obs"):
            np.testing.assert_array_equal(getattr(watched, field), getattr(alone, field))
    for field in STATE:
        np.testing.assert_array_equal(
            getattr(watched.battle_state, field), getattr(alone.battle_state, field)
        )
    watched.close()


def test_nothing_is_filmed_unless_asked() -> None:
    battle = VecBattle("3m", 4)
    assert battle.film.size == 0
    Recorder(battle, [1])
    assert battle.film.shape[:2] == (2, 8)
    battle.show_to(None)
    assert battle.film.size == 0
    assert "film" not in battle.state_dict()["outputs"]


def test_frames_are_the_battle() -> None:
    battle = VecBattle("MMM", 1, seed=4, autoreset=False)
    recorder = Recorder(battle)
    places, actions = [battle.units(0)], []
    while not (battle.terminated | battle.truncated).all():
        actions.append(focus(battle)[0])
        battle.step([actions[-1]])
        places.append(battle.units(0))
    ((index, trace),) = recorder.finished
    assert index == 0
    assert trace.steps == len(actions) == battle.info["episode_length"][0]
    assert trace.loops == 8 * trace.steps
    for step, (ally, enemy) in enumerate(places):
        frame = 8 * step
        table = np.stack([trace.x, trace.y, trace.health, trace.shield], axis=-1)[frame]
        np.testing.assert_array_equal(table, np.concatenate([ally[:, :4], enemy]).astype("f4"))
        np.testing.assert_array_equal(trace.energy[frame, :10], ally[:, 4].astype("f4"))
    np.testing.assert_array_equal(trace.actions, actions)
    assert trace.reward.sum() == pytest.approx(float(battle.info["episode_return"][0]), abs=1e-4)
    assert trace.result == ("won" if battle.info["battle_won"][0] else "lost")
    assert (trace.map_name, trace.profile, trace.seed) == ("MMM", "liberty", 4)
    assert (trace.battle, trace.episode, trace.limit, trace.step_mul) == (0, 0, 150, 8)
    assert [u.type for u in trace.units] == [*battle.map.agents, *battle.map.enemies]
    assert trace.options["obs_last_action"] is False


def test_shots_are_the_ones_fired() -> None:
    duel = arena("Marine", "Marine", [(10, 16)], [(14, 16)], autoreset=False)
    recorder = Recorder(duel)
    while not duel.terminated[0]:
        duel.step([[6]])
    trace = recorder.finished[0].trace
    fired = np.flatnonzero(trace.shot[:, 0] >= 0)
    assert (trace.shot[fired, 0] == 1).all()
    losses = -np.diff(trace.health[:, 1])
    assert fired.tolist() == (np.flatnonzero(losses > 0) + 1).tolist()  # hits land at once
    assert set(np.diff(fired).tolist()) == {13, 14}  # a period of 13.77 loops
    assert (trace.order[1:-1, 0] == ATTACK).all()


def test_orders_and_targets() -> None:
    battle = VecBattle("MMM", 1, seed=0, autoreset=False)
    recorder = Recorder(battle)
    medic, marine = 9, 2
    actions = waiting(battle)
    actions[0, medic], actions[0, marine] = 6 + marine, 4
    battle.step(actions)
    trace = recorder.current(0)
    assert trace is not None
    assert (trace.order[-1, medic], trace.target[-1, medic]) == (HEAL, marine)
    assert (trace.order[-1, marine], trace.target[-1, marine]) == (MOVE, -1)
    assert trace.result == "unfinished"


def test_only_chosen_battles_and_whole_episodes() -> None:
    battle = VecBattle("3m", 4, seed=0)
    battle.step(waiting(battle))
    recorder = Recorder(battle, [2, 0])  # not the episodes under way
    began = {int(battle.episode_of(b)) + 1 for b in range(4)}
    for _ in range(110):
        battle.step(focus(battle))
    assert {filmed.battle for filmed in recorder.finished} == {0, 2}
    assert {filmed.trace.episode for filmed in recorder.finished} <= {*began, 2, 3, 4}
    for filmed in recorder.finished:
        trace = filmed.trace
        np.testing.assert_array_equal(trace.health[0], 45)
        assert trace.battle == filmed.battle
        assert (trace.health[-1] > 0).sum() < 6
    order = [f.battle for f in recorder.finished]
    assert len(order) >= 4


def test_first_episodes_only() -> None:
    battle = VecBattle("3m", 4, seed=0)
    recorder = Recorder(battle, episodes=2)
    for _ in range(70):
        battle.step(focus(battle))
    assert len(recorder.finished) == 2
    assert battle.film.size == 0


def test_results() -> None:
    for policy, expected in ((waiting, "lost"), (focus, "won")):
        battle = VecBattle("3m", 1, seed=1, autoreset=False)
        recorder = Recorder(battle)
        run_out(battle, policy)
        result = recorder.finished[0].trace.result
        assert result == ("won" if battle.info["battle_won"][0] else "lost")
        assert policy is focus or result == expected
    hidden = BattleMap(
        "hidden", ("Marine",), ("Marine",), ((2.0, 16.0),), ((30.0, 16.0),), 5, enemy_goal=None
    )
    battle = VecBattle(hidden, 1, autoreset=False)
    recorder = Recorder(battle)
    run_out(battle, waiting)
    assert recorder.finished[0].trace.result == "timeout"
    assert recorder.current(0) is None
    battle.reset()
    begun = recorder.current(0)
    assert begun is not None
    assert (begun.result, begun.steps, begun.episode) == ("unfinished", 0, 1)


def test_jumping_elsewhere_drops_what_was_under_way() -> None:
    battle = VecBattle("3m", 2, seed=0)
    saved = VecBattle("3m", 2, seed=8)
    saved.step(waiting(saved))
    recorder = Recorder(battle)
    battle.load_state_dict(saved.state_dict())
    assert recorder.current(0) is None
    battle.step(waiting(battle))
    assert recorder.current(0) is None


def test_bad_requests() -> None:
    battle = VecBattle("3m", 2)
    with pytest.raises(EnvError, match="no battle 2; there are 2, counted from 0"):
        Recorder(battle, [2])
    with pytest.raises(EnvError, match="episodes must be a whole number of at least 1, got 0"):
        Recorder(battle, episodes=0)
