"""Phalanx: cooperative multi-agent reinforcement learning from registered parts."""

__version__ = "0.1.0"
