"""Recording runs and looking at them.

For notebooks: :func:`runs` and :func:`points` give pandas tables of what was recorded.
"""

from .frames import points, runs

__all__ = ["points", "runs"]
