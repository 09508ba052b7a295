"""OG-MARL's vaults come out as whole episodes. Published ones are not here: these are written alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phalanx.data.convert import convert, vault
from phalanx.data.dataset.checks import check
from phalanx.errors import DatasetError

tensorstore = pytest.importorskip("tensorstore")
ENDS = (2, 3, 8)  # last steps of episodes of 3, 1 and 5 steps; the tenth step belongs to none


def steps(continuous: bool = False) -> dict[str, Any]:
    """Ten steps of two agents, (1, 10, ...); each number tells its step."""
    at = np.arange(10.0, dtype=np.float32)
    over = np.isin(at, ENDS)[None, :, None].repeat(2, axis=2)
    cut = over & (at == 8)[None, :, None]
    actions = np.broadcast_to((at % 3)[None, :, None], (1, 10, 2))
    found = {
        "observations": np.broadcast_to(at[None, :, None, None], (1, 10, 2, 3)),
        "actions": actions.astype(np.int32),
        "rewards": np.broadcast_to(at[None, :, None], (1, 10, 2)),
        "terminals": over & ~cut,
        "truncations": cut,
        "infos": {
            "state": np.broadcast_to(at[None, :, None], (1, 10, 4)),
            "legals": np.ones((1, 10, 2, 3), np.float32),
        },
    }
    if continuous:
        del found["infos"]["legals"]
        found["actions"] = np.broadcast_to(at[None, :, None, None] / 5 - 1, (1, 10, 2, 2))
    return found


def write(folder: Path, experience: dict[str, Any]) -> Path:
    """A vault with a store per array, and how far it is filled."""
    folder.mkdir(parents=True)
    base = {"driver": "ocdbt", "base": f"file://{folder}"}

    def leaves(tree: dict[str, Any], prefix: str = "") -> Any:
        for key, part in tree.items():
            if isinstance(part, dict):
                yield from leaves(part, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}.", part

    for name, array in leaves(experience):
        spec = {"driver": "zarr", "kvstore": base | {"path": name}, "metadata": {}}
        spec["metadata"] = {"compressor": {"id": "gzip", "level": 5}}
        shape = (1, 10**13, *array.shape[2:])
        store = tensorstore.open(spec, shape=shape, dtype=array.dtype.name, create=True).result()
        store[:, : array.shape[1]].write(array).result()
    spec = {"driver": "zarr", "kvstore": base | {"path": "vault_index"}, "metadata": {}}
    index = tensorstore.open(spec, shape=(1,), dtype="int32", create=True).result()
    index.write(np.array([10], np.int32)).result()

    def shapes(tree: dict[str, Any]) -> dict[str, Any]:
        return {k: shapes(v) if isinstance(v, dict) else str(v.shape) for k, v in tree.items()}

    about = {"version": 1.2, "structure_shape": shapes(experience)}
    (folder / "metadata.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("block", [64 * 2**20, 1], ids=["at once", "step by step"])
def test_steps_become_episodes(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "_BLOCK", block)
    write(tmp_path / "3m.vlt" / "Good", steps())
    data = convert("vault", tmp_path / "3m.vlt", tmp_path / "out")
    assert (data.lengths.tolist(), data.returns.tolist()) == ([3, 1, 5], [3, 3, 30])
    assert data.episode(0)["obs"][:, 1, 0].tolist() == [0, 1, 2, 2]
    assert data.episode(2)["state"][:, 3].tolist() == [4, 5, 6, 7, 8, 8]
    assert data.episode(2)["actions"][:, 0].tolist() == [1, 2, 0, 1, 2]
    assert data.episode(0)["terminated"].tolist() == [False, False, True]
    assert data.episode(2)["truncated"].tolist() == [False] * 4 + [True]
    assert not data.episode(2)["terminated"].any()
    assert (data.spec.n_actions, data.spec.episode_limit) == (3, 5)
    assert check(tmp_path / "out").faults == []


def test_vectors(tmp_path: Path) -> None:
    data = convert("vault", write(tmp_path / "Good", steps(continuous=True)), tmp_path / "out")
    assert data.episode(1)["actions"][0, 0].tolist() == pytest.approx([-0.4, -0.4])
    assert (data.spec.dimensions, data.spec.mask_dim) == (2, 0)
    assert check(tmp_path / "out").faults == []


def test_what_is_not_the_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is no vault.*There are: none"):
        convert("vault", tmp_path, tmp_path / "out")
    for tier in ("Good", "Poor"):
        write(tmp_path / "3m.vlt" / tier, steps())
    with pytest.raises(DatasetError, match=r"There are: \S+Good, \S+Poor\."):
        convert("vault", tmp_path / "3m.vlt", tmp_path / "out")
    without = steps()
    del without["infos"]["state"]
    with pytest.raises(DatasetError, match=r"lacks infos\.state; it has actions, infos\.legals"):
        convert("vault", write(tmp_path / "less", without), tmp_path / "out")
    half = steps()
    half["rewards"] = half["rewards"] * np.array([1.0, 0.5])
    with pytest.raises(
        DatasetError, match=r"episode 0 of .*at step 1 its agents' rewards are 1, 0.5"
    ):
        convert("vault", write(tmp_path / "half", half), tmp_path / "out")
    (tmp_path / "less" / "metadata.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"metadata\.json cannot be read \(KeyError"):
        convert("vault", tmp_path / "less", tmp_path / "out")
