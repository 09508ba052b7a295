"""Recorded episodes in files: written once, read by runs and by anyone with numpy.

A dataset is a folder. ``dataset.json`` says what it is; each shard beside it is a folder of one ``.npy``
file per field, episodes laid end to end without padding. ``docs/datasets.md`` is the format's one page.

    >>> from phalanx.data.dataset import Dataset  # doctest: +SKIP
    >>> data = Dataset.open("3m-good")  # doctest: +SKIP
    >>> data.returns.mean(), data.episode(0)["obs"].shape  # doctest: +SKIP
    (19.3, (26, 3, 30))
"""

from .reader import Dataset
from .writer import DatasetWriter

__all__ = ["Dataset", "DatasetWriter"]
