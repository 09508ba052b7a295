"""The one way a part of an algorithm is named, configured and built.

A part registers itself with a decorator over its class::

    @MIXERS.register("qmix")
    class QMixer(nn.Module):
        \"\"\"Monotonic mixing of agent values (Rashid et al., 2018).\"\"\"

        class Config(PartConfig):
            mixing_embed_dim: int = Field(32, ge=1, description="width of the mixing layer")

        def __init__(self, config: Config, spec: EnvSpec, *, world_model: WorldModel) -> None: ...

It is built as ``Part(config, spec, ...)`` and sees its own config slice only. The other parts it needs
are its keyword-only parameters, named after their kind; :class:`Assembler` builds each of them once and
hands the same object to all who ask.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .catalogue import shipped_parts
from .errors import (
    MissingDependencyError,
    PhalanxError,
    RegistryError,
    did_you_mean,
    own_words,
)
from .skeletons import skeleton

T = TypeVar("T")


class PartConfig(BaseModel):
    """Base of every config slice: typed, checked, frozen, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else path


AbsolutePath = Annotated[str, AfterValidator(_absolute)]
"""A path that means the same from any working directory; empty stays empty."""

Widths = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
"""Widths of layers one behind the other, at least one."""


class Registry(Generic[T]):
    """Parts of one kind by name.

    Args:
        kind: the config key that chooses a part of this kind, e.g. ``mixer``.
        package: where the parts that ship with the package live, relative to it.
        doc: one line saying what such a part does.
    """

    def __init__(self, kind: str, package: str, doc: str) -> None:
        self.kind, self.package, self.doc = kind, package, doc
        self._parts: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that files the class under ``name``.

        Raises:
            RegistryError: another class has the name, or the class lacks a ``Config`` or a docstring.
        """

        def add(part: type[T]) -> type[T]:
            if not isinstance(name, str) or not name:
                raise RegistryError(
                    f"{self.kind} {name!r} ({_where(part)}) needs a name: text, not empty, as configs "
                    "choose it by"
                )
            config = getattr(part, "Config", None)
            if not (isinstance(config, type) and issubclass(config, PartConfig)):
                raise RegistryError(
                    f"{self.kind} {name!r} ({_where(part)}) needs a class attribute Config "
                    "derived from phalanx.registry.PartConfig"
                )
            if not (part.__doc__ or "").strip():
                raise RegistryError(
                    f"{self.kind} {name!r} ({_where(part)}) needs a docstring: "
                    "its first line is what `phalanx list` shows"
                )
            old = self._parts.get(name)
            # A file loaded twice under two names (as a script and as a module) is the same part.
            if old is not None and _where(old) != _where(part):
                raise RegistryError(
                    f"{self.kind} {name!r} is registered twice: in {_where(old)} and in {_where(part)}. "
                    "Give one of them another name."
                )
            self._parts[name] = part
            return part

        return add

    def get(self, name: str) -> type[T]:
        """The class registered as ``name``.

        Raises:
            RegistryError: nothing has that name; says what is there.
        """
        shipped = name in shipped_parts(self.package)
        if _by_settings and not _loaded and shipped:
            return skeleton(self.package, name)
        if shipped or name in self._parts:
            load_builtin_parts()
        if name not in self._parts:
            names = self.names()
            raise RegistryError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, names)} "
                f"Registered: {', '.join(names)}."
            )
        return self._parts[name]

    def names(self) -> list[str]:
        """Registered names, sorted; those of shipped parts whether or not they are imported yet."""
        return list(self.summaries())

    def summaries(self) -> dict[str, str]:
        """First line of each part's docstring, by name, sorted; nothing is imported for it."""
        known = {
            name: (inspect.getdoc(part) or "").splitlines()[0] for name, part in self._parts.items()
        }
        return dict(sorted((shipped_parts(self.package) | known).items()))

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Pairs of name and class, sorted by name."""
        return iter((name, self.get(name)) for name in self.names())


ENVS: Registry[Any] = Registry("env", "envs", "the task: observations, rewards, action masks")
RUNNERS: Registry[Any] = Registry("runner", "runners", "how experience is collected")
BUFFERS: Registry[Any] = Registry("buffer", "data", "where experience waits for the learner")
LEARNERS: Registry[Any] = Registry("learner", "learners", "the learning rule")
POLICIES: Registry[Any] = Registry("policy", "modules.policies", "how a team acts")
AGENTS: Registry[Any] = Registry("agent", "modules.agents", "network of one agent, over a sequence")
ACTION_SELECTORS: Registry[Any] = Registry(
    "action_selector", "modules.action_selectors", "from action values to actions"
)
MIXERS: Registry[Any] = Registry("mixer", "modules.mixers", "from agent values to the team's value")
CRITICS: Registry[Any] = Registry(
    "critic", "modules.critics", "values that judge a policy's actions"
)
WORLD_MODELS: Registry[Any] = Registry(
    "world_model", "modules.world_models", "learned dynamics, used in training only"
)
BEHAVIOURS: Registry[Any] = Registry(
    "behaviour", "modules.behaviours", "what plays: the policy, or something around it"
)
TOKENIZERS: Registry[Any] = Registry(
    "tokenizer", "modules.tokenizers", "from observations to a few codes, and back"
)

REGISTRIES: dict[str, Registry[Any]] = {
    r.kind: r
    for r in (
        ENVS,
        RUNNERS,
        BUFFERS,
        LEARNERS,
        POLICIES,
        AGENTS,
        ACTION_SELECTORS,
        MIXERS,
        CRITICS,
        WORLD_MODELS,
        BEHAVIOURS,
        TOKENIZERS,
    )
}

# No kind of a run's: what a run is made of does not depend on who started it.
LAUNCHERS: Registry[Any] = Registry(
    "launcher", "sweeps.launchers", "what starts the workers of a sweep"
)
SINKS: Registry[Any] = Registry(
    "sink", "tracking.sinks", "dashboards that get a run's numbers, by the key sinks"
)

ROOT_KINDS = ("env", "runner", "buffer", "learner", "behaviour")
"""Kinds every run has; the others are there when one of these asks for them."""

_loaded = False
_by_settings = False


@contextmanager
def settings_only() -> Iterator[None]:
    """Within, shipped parts that were not imported are known by their settings alone, and stay so.

    That is enough to compose and to judge a config, and takes no torch, see :mod:`.skeletons`.
    """
    global _by_settings
    before, _by_settings = _by_settings, True
    try:
        yield
    finally:
        _by_settings = before


def load_builtin_parts() -> None:
    """Import the modules that ship with the package, so that their parts register."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    root = __name__.rpartition(".")[0]
    for registry in (*REGISTRIES.values(), LAUNCHERS, SINKS):
        package = importlib.import_module(f"{root}.{registry.package}")
        for module in pkgutil.iter_modules(package.__path__):
            name = f"{package.__name__}.{module.name}"
            if not module.ispkg:
                importlib.import_module(name)
            elif any(
                (Path(folder) / module.name / "model.py").exists() for folder in package.__path__
            ):
                # A part that is a folder stands in its module ``model``.
                importlib.import_module(f"{name}.model")


def needs(part: type[Any]) -> tuple[str, ...]:
    """Kinds of the other parts that ``part`` wants: its keyword-only parameters named after a kind."""
    parameters = inspect.signature(part).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in REGISTRIES)


def reachable_kinds(chosen: Mapping[str, str]) -> list[str]:
    """Kinds that take part in a run, given the part chosen for each kind; roots first.

    Raises:
        RegistryError: a part, or every run, needs a kind for which none is chosen.
    """
    found: list[str] = []
    queue = list(ROOT_KINDS)
    while queue:
        kind = queue.pop(0)
        if kind in found:
            continue
        found.append(kind)
        if kind not in chosen:  # only a root; those that others ask for were looked for below
            choices = _choices(kind, REGISTRIES[kind].names())
            raise RegistryError(f"every run needs a {kind}, and none is chosen: add {choices}.")
        asks = needs(REGISTRIES[kind].get(chosen[kind]))
        for other in asks:
            if other not in chosen:
                raise RegistryError(
                    f"{kind}={chosen[kind]} needs a {other}, and none is chosen: add "
                    f"{_choices(other, REGISTRIES[other].names())}."
                )
        queue.extend(asks)
    return found


def misfits(chosen: Mapping[str, str]) -> list[str]:
    """Sentences about chosen parts that do not fit together, each with what would.

    A part's keyword-only parameter says by its annotation what it works with; ``on_policy`` of learner and
    buffer says whether experience comes from the policy as it is.
    """
    found = []
    for kind in reachable_kinds(chosen):
        part = REGISTRIES[kind].get(chosen[kind])
        hints = _hints(part)
        for other in needs(part):
            wanted = hints.get(other)
            if not isinstance(wanted, (type, UnionType)) or getattr(wanted, "_is_protocol", False):
                continue
            registry = REGISTRIES[other]
            if issubclass(registry.get(chosen[other]), wanted):
                continue
            fit = [name for name, candidate in registry.items() if issubclass(candidate, wanted)]
            found.append(
                f"{other}={chosen[other]} does not fit {kind}={chosen[kind]}, which needs a "
                f"{_said(wanted)}: choose {_choices(other, fit)}, or another {kind}."
            )
    return found + _off_policy(chosen) + _unfed(chosen) + _untrained(chosen)


def _off_policy(chosen: Mapping[str, str]) -> list[str]:
    learner = REGISTRIES["learner"].get(chosen["learner"])
    wanted = getattr(learner, "on_policy", None)
    given = getattr(REGISTRIES["buffer"].get(chosen["buffer"]), "on_policy", None)
    if wanted is None or given is None or wanted == given:
        return []
    plays = REGISTRIES["runner"].get(chosen["runner"]).plays
    fit = [
        name
        for name, buffer in REGISTRIES["buffer"].items()
        if getattr(buffer, "on_policy", None) in (None, wanted)
        and getattr(buffer, "fed", plays) == plays
        and all(other in chosen for other in needs(buffer))
    ]
    learns = (
        "learns from what the policy as it is has just done, once"
        if wanted
        else "learns from experience again and again, whoever made it"
    )
    keeps = "keeps older episodes" if wanted else "forgets everything after one update"
    return [
        f"buffer={chosen['buffer']} does not fit learner={chosen['learner']}: the learner {learns}, the "
        f"buffer {keeps}. Choose {_choices('buffer', fit)}, or another learner."
    ]


def _unfed(chosen: Mapping[str, str]) -> list[str]:
    """What a runner plays must go somewhere, and where nothing is played a buffer must have it already."""
    plays = REGISTRIES["runner"].get(chosen["runner"]).plays
    buffer = REGISTRIES["buffer"].get(chosen["buffer"])
    if getattr(buffer, "fed", plays) == plays:
        return []
    fit = [n for n, b in REGISTRIES["buffer"].items() if getattr(b, "fed", plays) == plays]
    others = [n for n, r in REGISTRIES["runner"].items() if r.plays != plays]
    why = (
        "the runner plays episodes, and the buffer takes none: it reads recorded ones"
        if plays
        else "the runner plays nothing, and the buffer would stay empty"
    )
    return [
        f"buffer={chosen['buffer']} does not fit runner={chosen['runner']}: {why}. Choose "
        f"{_choices('runner', others)}, or {_choices('buffer', fit)}."
    ]


def _untrained(chosen: Mapping[str, str]) -> list[str]:
    """A part that another kind's part must train is of no use where that one does not ask for it."""
    found = []
    for kind in reachable_kinds(chosen):
        trainer = getattr(REGISTRIES[kind].get(chosen[kind]), "trained_by", None)
        if trainer is None or kind in needs(REGISTRIES[trainer].get(chosen[trainer])):
            continue
        fit = [name for name, part in REGISTRIES[trainer].items() if kind in needs(part)]
        found.append(
            f"{kind}={chosen[kind]} does not fit {trainer}={chosen[trainer]}: nothing here trains it or "
            f"imagines with it. Choose {_choices(trainer, fit)}, or another {kind}."
        )
    return found


def _choices(kind: str, names: list[str]) -> str:
    return " or ".join(f"{kind}={name}" for name in names) or f"a {kind} of your own"


def _said(wanted: type[Any] | UnionType) -> str:
    if isinstance(wanted, UnionType):
        return " or ".join(_said(one) for one in wanted.__args__)
    return wanted.__name__


def _hints(part: type[Any]) -> dict[str, Any]:
    """Resolved annotations of a part's constructor; none where they cannot be resolved."""
    names = {name: value for base in reversed(part.__mro__) for name, value in vars(base).items()}
    try:
        return typing.get_type_hints(part.__init__, localns=names)
    except Exception:  # names that exist for type checkers only; a plugin's may be anything
        return {}


class Assembler:
    """Builds the parts of one run, each once.

    Args:
        chosen: part name for each kind.
        configs: checked config slice for each kind.
        given: what parts may ask for besides other parts, by parameter name (``spec``, ``seed`` ...),
            and parts that exist already, by kind.
    """

    def __init__(
        self, chosen: Mapping[str, str], configs: Mapping[str, PartConfig], **given: Any
    ) -> None:
        self._chosen, self._configs, self._given = chosen, configs, dict(given)
        self._building: list[str] = []

    def give(self, **given: Any) -> None:
        """Add or replace what parts built from now on may ask for."""
        self._given |= given

    def parts(self, kinds: Iterable[str]) -> dict[str, Any]:
        """Those of these kinds that exist by now."""
        return {kind: self._given[kind] for kind in kinds if kind in self._given}

    def build(self, kind: str) -> Any:
        """The part chosen for ``kind``; built on the first call, with all it needs.

        Raises:
            RegistryError: parts need each other in a circle, or ask for something nobody provides.
            MissingDependencyError: the part's optional package is not installed.
        """
        if kind in self._given:
            return self._given[kind]
        if kind in self._building:
            circle = " -> ".join([*self._building, kind])
            raise RegistryError(f"parts need each other in a circle: {circle}")
        part = REGISTRIES[kind].get(self._chosen[kind])
        self._building.append(kind)
        arguments = {}
        for p in inspect.signature(part).parameters.values():
            if p.name == "config":
                continue
            if p.name in self._given or p.name in REGISTRIES:
                arguments[p.name] = self.build(p.name)
            elif p.default is p.empty:
                raise RegistryError(
                    f"{kind} {self._chosen[kind]!r} ({_where(part)}) asks for {p.name!r}, which is "
                    f"neither a kind of part nor one of {sorted(self._given)}"
                )
        try:
            self._given[kind] = self._construct(kind, part, arguments)
        finally:
            self._building.pop()
        return self._given[kind]

    def _construct(self, kind: str, part: type[Any], arguments: dict[str, Any]) -> Any:
        """The part itself; what its constructor stumbles over becomes a sentence."""
        config = self._configs[kind]
        try:
            return part(config, **arguments)
        except PhalanxError:
            raise
        except (Exception, SystemExit) as error:
            raise RegistryError(
                f"{kind} {self._chosen[kind]!r} could not be built with {config!r}: {own_words(error)}. "
                f"Change these keys, or mend {_where(part)}."
            ) from error


def require(module: str, extra: str, part: str) -> Any:
    """Import an optional ``module`` for ``part``.

    Raises:
        MissingDependencyError: it is not installed; names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{part} needs the package {module!r}, which is not installed ({error}). "
            f"Install it with: pip install -e '.[{extra}]'"
        ) from error


def _where(part: type[Any]) -> str:
    """File and class, the way an error message names a part."""
    try:
        file = str(Path(inspect.getfile(part)).resolve())
    except (TypeError, OSError):
        file = part.__module__
    return f"{file}:{part.__qualname__}"
