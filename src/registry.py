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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from .errors import MissingDependencyError, RegistryError, did_you_mean

T = TypeVar("T")


class PartConfig(BaseModel):
    """Base of every config slice: typed, checked, frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


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
        load_builtin_parts()
        if name not in self._parts:
            raise RegistryError(
                f"unknown {self.kind} {name!r}.{did_you_mean(name, self._parts)} "
                f"Registered: {', '.join(self.names())}."
            )
        return self._parts[name]

    def names(self) -> list[str]:
        """Registered names, sorted."""
        load_builtin_parts()
        return sorted(self._parts)

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
    )
}

ROOT_KINDS = ("env", "runner", "buffer", "learner")
"""Kinds every run has; the others are there when one of these asks for them."""

_loaded = False


def load_builtin_parts() -> None:
    """Import the modules that ship with the package, so that their parts register."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    root = __name__.rpartition(".")[0]
    for registry in REGISTRIES.values():
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
    """Kinds that take part in a run, given the part chosen for each kind; roots first."""
    found: list[str] = []
    queue = list(ROOT_KINDS)
    while queue:
        kind = queue.pop(0)
        if kind in found:
            continue
        found.append(kind)
        queue.extend(needs(REGISTRIES[kind].get(chosen[kind])))
    return found


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
            self._given[kind] = part(self._configs[kind], **arguments)
        finally:
            self._building.pop()
        return self._given[kind]


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
            f"Install it with: pip install 'phalanx[{extra}]'"
        ) from error


def _where(part: type[Any]) -> str:
    """File and class, the way an error message names a part."""
    try:
        file = str(Path(inspect.getfile(part)).resolve())
    except (TypeError, OSError):
        file = part.__module__
    return f"{file}:{part.__qualname__}"
