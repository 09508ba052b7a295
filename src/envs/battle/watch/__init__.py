"""Watching battles: recorded as compact traces, drawn as pictures and films."""

from .recorder import Recorder
from .render import render
from .trace import Trace, UnitFacts, load_trace

__all__ = ["Recorder", "Trace", "UnitFacts", "load_trace", "render"]
