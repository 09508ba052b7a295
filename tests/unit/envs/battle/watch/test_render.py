"""Pictures and films: right formats, right length, and what they show."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from phalanx.envs.battle import VecBattle
from phalanx.envs.battle.bots import focus
from phalanx.envs.battle.watch import Recorder, Trace, render
from phalanx.envs.battle.watch.painter import Painter
from phalanx.errors import MissingDependencyError, RenderError

from ..arena import arena, run_out

image = pytest.importorskip("PIL.Image")
ffmpeg = pytest.importorskip("imageio_ffmpeg")


def record(name: str) -> Trace:
    battle = VecBattle(name, 1, seed=1, autoreset=False)
    recorder = Recorder(battle)
    run_out(battle, focus)
    return recorder.finished[0].trace


@pytest.fixture(scope="module")
def trace() -> Trace:
    return record("3m")


def test_gif_shows_all_of_it(trace: Trace, tmp_path: Path) -> None:
    path = render(trace, tmp_path / "new" / "battle.gif", width=320)
    with image.open(path) as film:
        assert film.format == "GIF"
        assert film.size[0] == 320
        lasts = 0
        for frame in range(film.n_frames):
            film.seek(frame)
            lasts += film.info["duration"]
    # 22.4 loops per second, and a second and a half to look at the end.
    assert lasts == pytest.approx(1000 * (trace.loops / 22.4 + 1.5), rel=0.02, abs=100)


def test_mp4_shows_every_loop(trace: Trace, tmp_path: Path) -> None:
    path = render(trace, tmp_path / "battle.mp4", width=320)
    frames, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert frames == trace.loops + 1 + 34
    assert seconds == pytest.approx(frames / 22.4, rel=0.02)


def test_png_shows_a_moment(trace: Trace, tmp_path: Path) -> None:
    pictures = []
    for name, step in (("start.png", 0), ("end.png", trace.steps), ("busy.png", None)):
        with image.open(render(trace, tmp_path / name, step=step)) as picture:
            assert picture.format == "PNG"
            assert picture.size == Painter(trace).size
            pictures.append(np.asarray(picture.convert("RGB")).copy())
        assert (tmp_path / name).stat().st_size < 60_000
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[0] != pictures[2]).any()


def colors_at(trace: Trace, frame: int, unit: int) -> np.ndarray:
    """Pixels of the picture within half a radius of a unit."""
    painter = Painter(trace)
    picture = np.asarray(painter.paint(frame)).astype(int)
    x, y = painter._point(unit, frame, painter._caption)
    r = int(painter._radius(unit) / 4)
    x, y = int(x / 2), int(y / 2)
    return picture[y - r : y + r + 1, x - r : x + r + 1].reshape(-1, 3)


def test_sides_have_their_colours_and_the_dead_fade(trace: Trace) -> None:
    for unit in range(6):
        red, _, blue = np.median(colors_at(trace, 0, unit), axis=0)
        assert (blue > red) == (unit < 3)
    died_at = np.where(trace.health[-1] == 0, (trace.health > 0).sum(0), trace.loops + 1)
    fallen = int(died_at.argmin())
    since = int(died_at[fallen])
    assert since + 25 <= trace.loops  # long enough before the end to see it fade
    saturation = [
        np.ptp(colors_at(trace, frame, fallen), axis=1).mean()
        for frame in (since - 1, since + 8, since + 25)
    ]
    assert saturation[0] > saturation[1] >= saturation[2]


@pytest.mark.parametrize("name", ["MMM2", "1c3s5z"])
def test_every_moment_can_be_drawn(name: str) -> None:
    trace = record(name)
    painter = Painter(trace, 240)
    for frame in range(0, trace.loops + 1, 3):
        assert painter.paint(frame).size == painter.size
    assert all(side % 2 == 0 for side in painter.size)
    assert (trace.shot[max(painter.busiest() - 4, 0) : painter.busiest() + 1] >= 0).any()


def test_healing_is_seen() -> None:
    battle = arena(
        ("Marine", "Medivac"), "Marine", [(10, 16), (8, 16)], [(25, 16)], autoreset=False
    )
    ally, enemy = battle.units(0)
    ally[0, 2] = 20
    battle.place(0, ally, enemy)
    recorder = Recorder(battle)
    battle.place(0, ally, enemy)
    pictures = []
    for action in (1, 6):
        for _ in range(4):
            battle.step([[1, action]])
        current = recorder.current(0)
        assert current is not None
        picture = np.asarray(Painter(current).paint(current.loops)).astype(int)
        greenish = (picture[..., 1] > picture[..., 0] + 40) & (
            picture[..., 1] > picture[..., 2] + 40
        )
        pictures.append(int(greenish.sum()))
    assert pictures[1] > pictures[0] + 100


def test_bad_requests_are_explained(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(
        RenderError, match=r"ending must be \.gif, \.mp4 or \.png\. Did you mean 'gif'"
    ):
        render(trace, tmp_path / "battle.giff")
    with pytest.raises(RenderError, match="step=3 picks the moment of a PNG; a GIF shows them all"):
        render(trace, tmp_path / "battle.gif", step=3)
    with pytest.raises(RenderError, match=f"no step 99; the episode has steps 0 to {trace.steps}"):
        render(trace, tmp_path / "battle.png", step=99)
    with pytest.raises(RenderError, match="160 to 4000 pixels wide, not 5"):
        render(trace, tmp_path / "battle.png", width=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("module", "ending"), [("PIL", "gif"), ("imageio_ffmpeg", "mp4")])
def test_missing_packages_name_the_extra(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, ending: str
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[render\]'"):
        render(trace, tmp_path / f"battle.{ending}")
