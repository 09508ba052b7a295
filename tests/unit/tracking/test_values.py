import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.tracking.logger import Logger
from phalanx.tracking.plain import mongo_keys, plain, plain_scalar


@pytest.mark.parametrize(
    "value",
    [
        3.5,
        np.float32(3.5),
        np.array(3.5),
        np.array([3.5]),
        torch.tensor(3.5),
        torch.tensor([[3.5]]),
    ],
)
def test_one_number_of_any_library_becomes_a_plain_one(value):
    assert type(plain_scalar(value)) is float
    assert plain_scalar(value) == 3.5


def test_non_finite_numbers_are_kept():
    assert math.isnan(plain_scalar(torch.tensor(float("nan"))))
    assert plain_scalar(np.float64("-inf")) == -math.inf


def test_several_numbers_are_refused():
    with pytest.raises(TypeError, match="one number"):
        plain_scalar(np.zeros(3))


def test_nested_values_become_plain():
    value = OrderedDict(
        [(1, (np.int64(2), {"p": Path("a/b")})), ("t", torch.ones(2)), ("big", 2**70)]
    )
    assert plain(value) == {"1": [2, {"p": "a/b"}], "t": [1.0, 1.0], "big": str(2**70)}


def test_keys_are_changed_for_the_database_only_where_they_must():
    assert mongo_keys({"a.b": [{"$c": 1}], "d": 2}) == {"a,b": [{"@c": 1}], "d": 2}


def test_logger_sends_each_scalar_once_and_keeps_the_latest():
    sent = []
    logger = Logger(lambda name, value, step: sent.append((name, value, step)))
    logger.log_many({"return_mean": np.float32(1.5), "won": torch.tensor(1)}, 10, prefix="test_")
    logger.log("test_won", 0, 20)
    assert sent == [("test_return_mean", 1.5, 10), ("test_won", 1, 10), ("test_won", 0, 20)]
    assert all(type(value) in (int, float) for _, value, _ in sent)
    assert logger.latest() == {"test_return_mean": 1.5, "test_won": 0}
