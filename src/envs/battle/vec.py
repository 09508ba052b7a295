"""Many battles stepped together."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import EnvError, UnavailableActionError
from ..protocol import Discrete, EnvSpec, Timestep
from . import engine
from .arrays import empty_film, empty_outputs, empty_state, pack_units
from .crew import DISMISSED, LINE, PATIENCE, PRESENT, begin_round, deal, make_crew, round_over
from .door import flag, integers, numbers, own_map, saved_state, whole
from .generation import (
    build_draw,
    generated_map,
    no_draw,
    read_capabilities,
    read_generated_options,
)
from .layout import (
    COOLDOWN,
    ENERGY,
    EPISODE,
    HEALTH,
    OVER,
    SHIELD,
    STEP,
    State,
    X,
    Y,
    as_dict,
    make_work,
)
from .maps import GENERATED, BattleMap, find_map
from .rules import (
    Options,
    as_record,
    build_features,
    build_rules,
    generated_options,
    read_options,
    slots_of,
)
from .teams import Fielded, camps, kind_numbers, on_map
from .terrain import load_ground, load_terrain
from .units import Slots


class Watcher(Protocol):
    """Looks on while battles are fought, see :meth:`VecBattle.show_to`."""

    @property
    def films(self) -> int:
        """So many battles, the first ones, are filmed loop by loop."""
        ...

    def stepped(self, running: NDArray[np.bool_]) -> None:
        """Battles that were ``running`` (B,) before it have made a step."""
        ...

    def restarted(self, mask: NDArray[np.bool_]) -> None:
        """Battles in ``mask`` (B,) begin an episode."""
        ...

    def jumped(self) -> None:
        """All battles are elsewhere than they were."""
        ...


class VecBattle:
    """B independent battles of one map, stepped by one compiled kernel.

    Axis letters: B battles, N agents, E enemies, A actions, O observation, S state. :meth:`reset` and
    :meth:`step` return what is seen, as :class:`~phalanx.envs.protocol.Env` has it. The same arrays are
    attributes, written in place: copy what must outlive a step.

    Args:
        map_name: one of :func:`map_names`, a :class:`BattleMap` of your own, or SMACv2's
            ``10gen_terran``, ``10gen_protoss``, ``10gen_zerg``.
        num_envs: B.
        seed: with the battle's index and episode number it fixes all randomness.
        profile: unit data, ``"liberty"`` (what SMAC's maps load) or ``"lotv"``.
        autoreset: restart a finished battle within the step that ends it; what was last seen of it is
            in ``final_obs``, ``final_state`` and ``final_avail_actions``. Without, a finished battle
            keeps its last view, pays nothing and ignores its actions until it is reset.
        strict: raise on an unavailable action; otherwise it counts as stop (no-op for the dead).
        threads: over how many threads battles are divided; results do not depend on it.
        first_index: index of the first battle, so that several objects can share one seed.
        random_delay: the -1 to +2 loops that the game adds to each cooldown.
        start_jitter: shift each unit's start position by up to this much along each axis, anew in
            every episode (map units).
        scripted_allies: the enemies' rules run the allies as well and actions are ignored; for
            mirror battles.
        smac_options: SMAC's constructor options, see :class:`Options`; on SMACv2's maps also those
            of :class:`.GeneratedOptions`.

    Attributes:
        obs: (B, N, O) float32. state: (B, S) float32. avail_actions: (B, N, A) uint8.
        reward: (B,) float32. terminated, truncated: (B,) bool; at the limit both are set, as SMAC
            counts it, or only ``truncated`` with ``continuing_episode=True``.
        alive: (B, N) bool. visibility: (B, N, N) bool, who sees whom: both alive, nearer than 9
            (SMACv2: what the unit type and the cone of sight allow).
        info: arrays (B,): ``battle_won, dead_allies, dead_enemies, episode_limit, episode_return,
            episode_length`` of the current or just finished episode.
        actions_taken: (B, N), the actions carried out.
        spec: sizes, as everything downstream is built from.

    Raises:
        EnvError: unknown map, profile or option, or a value out of range.
    """

    def __init__(
        self,
        map_name: str | BattleMap,
        num_envs: int,
        seed: int = 0,
        profile: str = "liberty",
        autoreset: bool = True,
        strict: bool = True,
        *,
        threads: int = 1,
        first_index: int = 0,
        random_delay: bool = True,
        start_jitter: float = 0.0,
        scripted_allies: bool = False,
        **smac_options: Any,
    ) -> None:
        options: Options
        if isinstance(map_name, str) and map_name in GENERATED:
            options = read_generated_options(smac_options)
            capabilities = read_capabilities(map_name, options)
            self.map = generated_map(map_name, capabilities)
        else:
            options, capabilities = read_options(smac_options), None
            self.map = own_map(map_name) if isinstance(map_name, BattleMap) else find_map(map_name)
        self.num_envs = whole("num_envs", num_envs, 1)
        self.seed = whole("seed", seed, 0)
        self.threads = whole("threads", threads, 1)
        self.first_index = whole("first_index", first_index, 0)
        self.autoreset, self.strict = flag("autoreset", autoreset), flag("strict", strict)
        self.options, self.profile = options, profile
        fixed = slots_of(self.map, profile)
        self._draw, types = no_draw(fixed), fixed
        self._kinds = () if capabilities is None else capabilities.types
        self._fielded: dict[int, Fielded] = {}
        if capabilities is not None:
            self._draw = build_draw(self.map, capabilities, generated_options(options), profile)
            types = self._draw.catalog
        # One row for all battles, or, where teams are drawn, one each.
        rows = self.num_envs if self.map.generated else 1
        self._table = np.repeat(fixed[None], rows, axis=0)
        self._stats = self._table[0]
        for name, value in (("random_delay", random_delay), ("scripted_allies", scripted_allies)):
            flag(name, value)
        jitters = isinstance(start_jitter, (int, float)) and not isinstance(start_jitter, bool)
        if not (jitters and 0 <= start_jitter <= 1):
            raise EnvError(f"start_jitter must lie between 0 and 1 map unit, got {start_jitter!r}.")
        self._rules = build_rules(
            self.map, options, fixed, random_delay, scripted_allies, start_jitter, types
        )
        self._features = build_features(
            self.map, options, capabilities is None or capabilities.observe
        )
        starts = [*self.map.ally_start, *self.map.enemy_start]
        self._start = np.repeat(np.array(starts, dtype=np.float64).T[None], rows, axis=0)
        self._tables = (
            self._table,
            as_record(self._rules),
            load_terrain(self.map.terrain),
            as_record(self._features),
        )
        self._ground = load_ground(self.map.terrain)
        n_agents = len(self.map.agents)
        self._battle_state = empty_state(self.num_envs, self._rules, types)
        self._out = empty_outputs(
            self.num_envs, n_agents, self._rules, self._features, self.autoreset
        )
        self._bounds = deal(self.num_envs, self.threads)
        self._crew = make_crew(len(self._bounds) - 1, self.threads)
        self._orders = np.zeros((self.num_envs, n_agents), np.int64)
        self._pool = ThreadPoolExecutor(threads - 1) if self.threads > 1 else None
        self._helpers: dict[int, Future[bool]] = {}
        self._closed = False
        self._work = [make_work(len(self._stats)) for _ in range(self.threads)]
        kinds = sorted(set(self.map.agents))  # one where teams are drawn
        self.spec = EnvSpec(
            n_agents=n_agents,
            obs_dim=self._features.obs_dim,
            state_dim=self._features.state_dim,
            action=Discrete(self._features.n_actions),
            episode_limit=self.map.limit,
            agent_groups=tuple(kinds.index(k) for k in self.map.agents) if len(kinds) > 1 else None,
            has_alive=True,
            has_visibility=True,
            state_is_obs=self._features.obs_as_state,
        )
        out = self._out
        self.obs, self.state, self.avail_actions = out.obs, out.state, out.avail_actions
        self.reward, self.terminated, self.truncated = out.reward, out.terminated, out.truncated
        self.alive, self.visibility = out.alive, out.visibility
        self.actions_taken = out.actions_taken
        self.final_obs, self.final_state = out.final_obs, out.final_state
        self.final_avail_actions = out.final_avail_actions
        self.episode_steps = self._battle_state.battle[:, STEP]
        self.info: dict[str, NDArray[Any]] = {
            "battle_won": out.battle_won,
            "dead_allies": out.dead_allies,
            "dead_enemies": out.dead_enemies,
            "episode_limit": out.timed_out,
            "episode_return": out.episode_return,
            "episode_length": out.episode_length,
        }
        self._seen = Timestep(
            obs=out.obs,
            state=out.state,
            avail_actions=out.avail_actions,
            reward=out.reward,
            terminated=out.terminated,
            truncated=out.truncated,
            alive=out.alive,
            visibility=out.visibility,
            info=self.info,
        )
        self._watcher: Watcher | None = None
        self.reset()

    def reset(self, mask: ArrayLike | None = None) -> Timestep:
        """Begin the next episode of the battles in ``mask`` (B,) bool; of all without one.

        Returns:
            What is seen of all battles.

        Raises:
            EnvError: a mask of another shape or type.
        """
        chosen = self._mask(mask)
        engine.reset_battles(
            chosen, self.seed, self.first_index, self._start, self._work[0], self._draw,
            self._battle_state, self._out, *self._tables,
        )  # fmt: skip
        if self._watcher is not None:
            self._watcher.restarted(chosen)
        return self._seen

    def step(self, actions: ArrayLike) -> Timestep:
        """Let every agent act for one env step (``step_mul`` game loops, 8 in SMAC).

        Args:
            actions: (B, N) integers.

        Returns:
            What is seen of all battles. With ``autoreset`` that of a battle that is over is the start of
            its next one, its reward and ends those of the step.

        Raises:
            EnvError: wrong shape or type; nothing has moved then.
            UnavailableActionError: (strict) an action that is not available; names battle, agent,
                action and what was available. Nothing has moved then either.
        """
        orders = self._actions(actions)
        if self.strict and not self._rules.scripted:
            offender = engine.first_unavailable(
                orders, self._battle_state.battle, self.avail_actions
            )
            if offender >= 0:
                raise UnavailableActionError(
                    self._complaint(orders, *divmod(offender, self.spec.n_agents))
                )
        if self._watcher is None:
            self._step_all(orders)
            return self._seen
        running = self._battle_state.battle[:, OVER] == 0
        self._step_all(orders)
        self._watcher.stepped(running)
        return self._seen

    def _step_all(self, orders: NDArray[np.int64]) -> None:
        if self._closed:
            raise EnvError("these battles were closed; they cannot go on.")
        while not round_over(self._crew, len(self._bounds) - 1):
            self._work_on(0)  # an interrupt cut the last step short
        self._orders[...] = orders
        self._summon()
        begin_round(self._crew)
        while not self._work_on(0):
            time.sleep(0)  # a helper's thread does not get a core

    def _work_on(self, thread: int) -> bool:
        return engine.step_battles(
            self._crew, self._bounds, thread, self.threads, PATIENCE, self.seed, self.first_index,
            self.autoreset, self._orders, self._start, self._work[thread], self._draw,
            self._battle_state, self._out, *self._tables, self._ground,
        )  # fmt: skip

    def _summon(self) -> None:
        """Send for the helpers that have gone to rest."""
        if self._pool is None:
            return
        for thread in range(1, self.threads):
            # Not by its future: that is done only once its thread gets hold of Python.
            if self._crew[PRESENT + LINE * thread] == 0:
                self._crew[PRESENT + LINE * thread] = 1
                self._helpers[thread] = self._pool.submit(self._work_on, thread)

    def _dismiss(self) -> None:
        """Wait until no helper works with the arrays and seeds it was sent for with."""
        self._crew[DISMISSED] = 1
        for helper in self._helpers.values():
            helper.result()
        self._helpers.clear()
        self._crew[DISMISSED] = 0

    def show_to(self, watcher: Watcher | None) -> None:
        """Film battles for ``watcher`` from now on, in place of an earlier one; with None for nobody."""
        self._dismiss()
        films = 0 if watcher is None else watcher.films
        self._out = self._out._replace(film=empty_film(films, self._rules))
        self._watcher = watcher

    @property
    def film(self) -> NDArray[np.float32]:
        """(B up to the last recorded, step_mul, N_FILM, M): the loops of the last step."""
        return self._out.film

    @property
    def battle_state(self) -> State:
        """The engine's own arrays, not copied."""
        n_units = self._table.shape[1]
        state = self._battle_state
        return state._replace(units=state.units[..., :n_units], flags=state.flags[..., :n_units])

    def episode_of(self, battle: int) -> int:
        """Which episode a battle is in, counted from 0."""
        self._check_battle(battle)
        return int(self._battle_state.battle[battle, EPISODE])

    def place(self, battle: int, ally: ArrayLike, enemy: ArrayLike) -> None:
        """Put one battle's units where you want them, with their first orders; for experiments.

        Args:
            battle: which of the B battles.
            ally: (N, 6) x, y, health, shield, energy, weapon cooldown (loops) of each agent.
            enemy: (E, 4) x, y, health, shield. Health 0 is dead.

        Raises:
            EnvError: arrays of another shape, or no such battle.
        """
        self._check_battle(battle)
        n_agents, n_enemies = self.spec.n_agents, len(self.map.enemies)
        allies = numbers("ally", ally, (n_agents, 6))
        enemies = numbers("enemy", enemy, (n_enemies, 4))
        mask = np.arange(self.num_envs) == battle
        fielded = self._fielded_now(battle)
        self._battle_state.battle[battle, EPISODE] -= 1
        self.reset(mask)
        if fielded is not None:
            self._field(battle, fielded)
        pack_units(allies[None], enemies[None], self._battle_state.units[battle : battle + 1])
        self._show(mask)
        if self._watcher is not None:
            self._watcher.restarted(mask)

    def field(
        self, battle: int, kinds: Sequence[str] | None = None, places: ArrayLike | None = None
    ) -> None:
        """Begin one battle's next episode with teams or places that you choose, where they are drawn.

        Args:
            battle: which of the B battles.
            kinds: unit type of everyone (M,), agents first, of those the battle draws from; None: drawn.
            places: (M, 2) x, y where each is created, the nearest free place being taken; None: drawn, or,
                with ``kinds``, two camps that face each other.

        Agents are then numbered in SMAC's order: by type, x and y.

        Raises:
            EnvError: a map with fixed teams, unknown types, not one type or place per unit.
        """
        self._check_battle(battle)
        if not self.map.generated:
            raise EnvError(f"the teams of {self.map.name!r} are fixed; none can be fielded.")
        sizes = self.spec.n_agents, len(self.map.enemies)
        self.reset(np.arange(self.num_envs) == battle)
        if kinds is None and places is None:
            return
        numbers_of = (
            [self._kinds.index(name) for name in self.unit_names(battle)]
            if kinds is None
            else kind_numbers(kinds, self._kinds, sizes)
        )
        fielded = Fielded(
            self.episode_of(battle),
            np.array(numbers_of, np.int64),
            camps(*sizes) if places is None else on_map(places, sum(sizes)),
        )
        self._fielded[battle] = fielded
        self._field(battle, fielded)
        if self._watcher is not None:
            self._watcher.restarted(np.arange(self.num_envs) == battle)

    def _field(self, battle: int, fielded: Fielded) -> None:
        engine.field_battle(
            battle, fielded.kinds, fielded.places, self.seed, self.first_index, self._start,
            self._work[0], self._draw, self._battle_state, self._out, *self._tables,
        )  # fmt: skip

    def _fielded_now(self, battle: int) -> Fielded | None:
        """What was fielded for the episode that a battle is in."""
        fielded = self._fielded.get(battle)
        return fielded if fielded and fielded.episode == self.episode_of(battle) else None

    def _show(self, mask: NDArray[np.bool_]) -> None:
        engine.show_battles(
            mask, self.seed, self.first_index, self._battle_state, self._out, *self._tables
        )

    def units(self, battle: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One battle's units as :meth:`place` takes them: ally (N, 6), enemy (E, 4).

        Without a number those of all battles: (B, N, 6) and (B, E, 4).

        Raises:
            EnvError: no such battle.
        """
        if battle is not None:
            self._check_battle(battle)
        n_agents = self.spec.n_agents
        units = self.battle_state.units[slice(None) if battle is None else battle]
        fields = [X, Y, HEALTH, SHIELD, ENERGY, COOLDOWN]
        records = np.moveaxis(units[..., fields, :], -2, -1)
        records[..., 5] = np.maximum(records[..., 5], 0.0)
        return records[..., :n_agents, :].copy(), records[..., n_agents:, :4].copy()

    @property
    def loops_per_step(self) -> int:
        """Game loops of one env step (``step_mul``)."""
        return self._rules.step_mul

    @property
    def slots(self) -> Slots:
        """Unit data of each unit, allies first: (B, M) records of ``units.SLOT``, read-only."""
        slots = np.broadcast_to(self._table, (self.num_envs, self._table.shape[1]))
        slots.flags.writeable = False
        return slots

    @property
    def first_attack(self) -> int:
        """The action that attacks enemy 0, or heals agent 0."""
        return self._rules.first_attack

    def unit_names(self, battle: int) -> list[str]:
        """Unit type of everyone in one battle (M,), agents first.

        Raises:
            EnvError: no such battle.
        """
        self._check_battle(battle)
        if not self.map.generated:
            return [*self.map.agents, *self.map.enemies]
        columns = {column: name for name, column in self.map.ally_bits}
        return [columns[column] for column in self._table[battle]["type_bit"].tolist()]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit: arrays and integers only.

        Raises:
            EnvError: a battle's teams were chosen by :meth:`field`; a state knows how to draw them only.
        """
        for battle in self._fielded:
            if self._fielded_now(battle) is not None:
                raise EnvError(
                    f"battle {battle} has teams that were fielded by hand; its state can be saved "
                    "from its next episode on."
                )
        outputs = as_dict(self._out)
        for big in ("obs", "state", "visibility", "final_obs", "final_state", "film"):
            del outputs[big]  # follow from the rest, or are only valid until the next step
        return {
            "map": self.map.name,
            "settings": {
                "profile": self.profile,
                "capability_config": repr(getattr(self.options, "capability_config", None)),
                **self._rules._asdict(),
            },
            "seed": self.seed,
            "first_index": self.first_index,
            "battles": as_dict(self.battle_state),
            "outputs": outputs,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            EnvError: no such state, or one of another map, other settings or another number of battles.
        """
        saved_state(saved, self.state_dict())
        self._dismiss()
        self.seed, self.first_index = int(saved["seed"]), int(saved["first_index"])
        for arrays, values in (
            (self.battle_state, saved["battles"]),
            (self._out, saved["outputs"]),
        ):
            for name, value in values.items():
                getattr(arrays, name)[...] = value
        avail = self.avail_actions.copy()  # of a finished battle it shows the no-op only
        everyone = np.ones(self.num_envs, np.bool_)
        if self.map.generated:
            engine.draw_again(
                self.seed, self.first_index, self._start, self._work[0], self._draw,
                self._battle_state, self._table, self._tables[1],
            )  # fmt: skip
        self._show(everyone)
        self.avail_actions[...] = avail
        if self._watcher is not None:
            self._watcher.jumped()

    def close(self) -> None:
        """Let go of the threads, if there are any; no step can follow."""
        self._dismiss()
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()

    def _mask(self, mask: ArrayLike | None) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        array = np.asarray(mask)
        if array.dtype != np.bool_ or array.shape != (self.num_envs,):
            raise EnvError(
                f"reset takes a boolean mask of shape ({self.num_envs},), "
                f"got {array.dtype} of shape {array.shape}."
            )
        return array

    def _actions(self, actions: ArrayLike) -> NDArray[np.int64]:
        wanted = (self.num_envs, self.spec.n_agents)
        return integers("actions", actions, wanted, "battles, agents")

    def _complaint(self, actions: NDArray[np.int64], battle: int, agent: int) -> str:
        available = np.flatnonzero(self.avail_actions[battle, agent]).tolist()
        life = "alive" if self.alive[battle, agent] else "dead"
        return (
            f"battle {battle}, agent {agent} ({self.unit_names(battle)[agent]}, {life}): action "
            f"{actions[battle, agent]} is not available; available are {available}."
        )

    def _check_battle(self, battle: int) -> None:
        if not isinstance(battle, (int, np.integer)) or not 0 <= battle < self.num_envs:
            raise EnvError(f"no battle {battle!r}; there are {self.num_envs}, counted from 0.")


@functools.cache
def prepare() -> None:
    """Compile, or load, what a step takes, before anybody measures how long steps take."""
    battle = VecBattle("3m", 1)
    battle.step(battle.avail_actions.argmax(axis=-1))
    battle.close()
