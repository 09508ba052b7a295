"""From YAML files and command-line words to checked, frozen config slices."""

from .compose import Composed, compose, compose_stored, plugins_of
from .schema import RunConfig
from .sources import words_of

__all__ = [
    "Composed",
    "RunConfig",
    "compose",
    "compose_stored",
    "plugins_of",
    "words_of",
]
