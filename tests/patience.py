"""How long tests wait for what must come: for events, never for clocks."""

HANGS = 300
"""Seconds; what takes longer never ends, however busy the machine is."""
