"""What each scripted tactic is worth on each map of the battle engine.

    python benchmarks/battle_bots.py                                    # everything
    python benchmarks/battle_bots.py --maps corridor 3m --profiles liberty
    python benchmarks/battle_bots.py --report                           # only write the table anew

Every row measured goes to ``battle_bots.csv`` and replaces the row of the same map, profile and bot;
``battle_bots.md`` is written from all rows there are. Rows of one map are comparable only if they were
measured on one version of the engine.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import NamedTuple, get_type_hints

from phalanx.envs.battle import map_names
from phalanx.envs.battle.bots import BOTS, bots_for, play
from phalanx.envs.battle.units import PROFILES

FOLDER = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


class Row(NamedTuple):
    """One bot on one map."""

    map_name: str
    profile: str
    bot: str
    battles: int
    won: int
    mean_return: float
    mean_length: float
    mean_kills: float
    mean_losses: float
    timeouts: int


class Claim(NamedTuple):
    """What the game teaches: one tactic does better than another."""

    map_name: str
    better: str
    worse: str
    field: str  # "won" or "mean_kills"
    why: str


CLAIMS = [
    Claim("8m", "focus", "nearest", "won", "focus fire"),
    Claim("8m_vs_9m", "focus", "nearest", "mean_kills", "focus fire"),
    Claim("27m_vs_30m", "volley", "nearest", "mean_kills", "focus fire without overkill"),
    Claim("27m_vs_30m", "volley", "focus", "mean_kills", "no overkill"),
    Claim("3s_vs_3z", "kite", "focus", "won", "kiting"),
    Claim("3s_vs_4z", "kite", "focus", "won", "kiting"),
    Claim("3s_vs_5z", "kite", "focus", "won", "kiting; standing loses"),
    Claim("2m_vs_1z", "alternate", "focus", "won", "one runs, the other shoots"),
    Claim("2s_vs_1sc", "alternate", "focus", "won", "shields come back out of range"),
    Claim("so_many_baneling", "spread", "clump", "won", "splash"),
    Claim("corridor", "wall", "nearest", "won", "a passage held shoulder to shoulder"),
    Claim("2c_vs_64zg", "edge", "low", "mean_kills", "high ground that must be run around"),
    Claim("2c_vs_64zg", "cliff", "low", "won", "few reach who stands out on a cliff"),
    Claim("2c_vs_64zg", "heuristic", "flat", "mean_kills", "colossi cross the cliff"),
    Claim("2c_vs_64zg", "sweep", "nearest", "mean_kills", "beams through the crowd"),
]


def read_rows(path: Path) -> dict[tuple[str, str, str], Row]:
    """Rows measured so far by map, profile and bot."""
    if not path.exists():
        return {}
    kinds = get_type_hints(Row)
    rows = {}
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            row = Row(**{key: kinds[key](text) for key, text in cells.items()})
            rows[row.map_name, row.profile, row.bot] = row
    return rows


def write_rows(path: Path, rows: dict[tuple[str, str, str], Row]) -> None:
    """Write all rows, in the order of maps, profiles and bots."""
    maps, bots = map_names(), list(BOTS)
    order = sorted(rows, key=lambda k: (maps.index(k[0]), PROFILES.index(k[1]), bots.index(k[2])))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows[key] for key in order)


def wilson(won: int, battles: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    share, n = won / battles, battles
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def measure(map_name: str, profile: str, bot: str, battles: int) -> Row:
    """Let a bot fight."""
    record = play(map_name, bot, battles, profile=profile)
    return Row(
        map_name, profile, bot, battles, int(record.won.sum()),
        round(float(record.returns.mean()), 3), round(float(record.lengths.mean()), 2),
        round(float(record.kills.mean()), 3), round(float(record.losses.mean()), 3),
        int(record.timed_out.sum()),
    )  # fmt: skip


def verdict(claim: Claim, rows: dict[tuple[str, str, str], Row], profile: str) -> str:
    """How a claim stands."""
    better = rows.get((claim.map_name, profile, claim.better))
    worse = rows.get((claim.map_name, profile, claim.worse))
    if better is None or worse is None:
        return "not measured"
    if claim.field == "won":
        shares = [row.won / row.battles for row in (better, worse)]
        return f"{'yes' if shares[0] > shares[1] else 'NO'} ({shares[0]:.0%} / {shares[1]:.0%})"
    kills = better.mean_kills, worse.mean_kills
    return f"{'yes' if kills[0] > kills[1] else 'NO'} ({kills[0]:.1f} / {kills[1]:.1f} kills)"


def report(rows: dict[tuple[str, str, str], Row]) -> str:
    """The tables in Markdown."""
    lines = [
        "# Scripted players on the battle engine",
        "",
        "Made by `benchmarks/battle_bots.py` from `battle_bots.csv`. These are figures of the embedded "
        "engine, not of StarCraft II. Bots see every unit and act through the masked actions; they "
        "are written for their one tactic and are no upper bound. Battles differ only by the random "
        "delay of shots, so where all units start alike, a tactic often wins nearly all or nearly "
        "none. Intervals are given below.",
        "",
    ]
    lines += [f"- `{name}`: {bot.summary}" for name, bot in BOTS.items()]
    lines += [
        "",
        "## What wins in the game must pay here",
        "",
        "| map | tactic | against | why | liberty | lotv |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {c.map_name} | {c.better} | {c.worse} | {c.why} | "
        f"{verdict(c, rows, 'liberty')} | {verdict(c, rows, 'lotv')} |"
        for c in CLAIMS
    ]
    lines += [
        "",
        "2c_vs_64zg: SMAC's mask offers a step only where the cell one unit ahead is open to ground units, "
        "and the cliff is two cells deep, so that no colossus can be ordered to step over it. It does "
        "walk over it to attack what is out of reach, which only SMAC's heuristic may order. `edge` "
        "takes the last places that the masks leave open; there the cliff covers the colossi's backs, "
        "and who attacks stands in the beams' way. `cliff` gets one colossus farther: who idles gives "
        "way to a friend. Below, a pair abreast in the very middle of the lane "
        "(y = 8 and 10) won 32 of 32 battles at four places (lotv: 31): its attackers and the walls "
        "leave gaps too narrow for a zergling. Half a unit off it won 34 of 64 (lotv: 9).",
        "",
        "SMAC's heuristic keeps the target it takes at the first step, so that its fortune hangs on the "
        "start places, which the map files do not settle: see `shifted`. On MMM all nine choose the "
        "marauder in the enemy's front, a tenth of a unit nearer than the marines beside it: 125 health, "
        "armor, healed. It falls in step 10; by step 14 the heuristic has lost four of nine, the enemy one. "
        "Were that marauder to start a quarter of a unit farther back, the heuristic would win 8 % of 64 "
        "battles; without medivacs on either side and `shifted`, 34 % of 128. On 3s5z each zealot takes "
        "the stalker that stands in front at the start and runs after it past the enemy's zealots, which "
        "are free to hit. No published table of the heuristic's win rates in the game is known to us.",
        "",
        "On MMM the enemy's medivac flies at the head of its army and draws fire. The other bots leave it "
        "alone; when they did not, `focus` won none of 64 battles. That the game's medivacs march like this "
        "under an attack order is an assumption of the engine.",
        "",
        "Random play wins nothing, but for the maps with banelings. On bane_vs_bane it wins more than any "
        "tactic here: the enemy comes as a crowd, and the agents' banelings, strewn about, burst in it "
        "wherever they fall (of 128 battles it won 59 %, without their bursts none, without the enemy's "
        "70 %); the other bots send all at the nearest or weakest enemy, where presumably bursts overlap. On "
        "so_many_baneling it wins 5 to 9 %, presumably as marines that wander about are caught one by one. "
        "Whether the game is as kind to chance is not known.",
        "",
    ]
    for profile in PROFILES:
        own = [name for name, bot in BOTS.items() if not bot.maps]
        lines += ["", f"## Win rate, profile {profile}", "", f"| map | {' | '.join(own)} | other |"]
        lines.append("| --- |" + " ---: |" * len(own) + " --- |")
        for name in map_names():
            found = {k[2]: row for k, row in rows.items() if k[:2] == (name, profile)}
            if not found:
                continue
            others = [
                f"{bot} {row.won / row.battles:.2f}" for bot, row in found.items() if BOTS[bot].maps
            ]
            cells = [
                f"{found[bot].won / found[bot].battles:.2f}" if bot in found else "not measured"
                for bot in own
            ]
            lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(others)} |")
    lines += [
        "",
        "## All rows",
        "",
        "Win rate with its 95 % interval (Wilson); means over the battles.",
        "",
        "| map | profile | bot | battles | won | 95 % | return | steps | kills | losses | timeouts |",
        "| --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in rows.values():
        low, high = wilson(r.won, r.battles)
        lines.append(
            f"| {r.map_name} | {r.profile} | {r.bot} | {r.battles} | {r.won / r.battles:.3f} "
            f"| {low:.3f} to {high:.3f} | {r.mean_return:.2f} | {r.mean_length:.1f} "
            f"| {r.mean_kills:.2f} | {r.mean_losses:.2f} | {r.timeouts} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, then write CSV and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--maps", nargs="+", default=map_names(), choices=map_names())
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES), choices=PROFILES)
    parser.add_argument("--bots", nargs="+", default=list(BOTS), choices=list(BOTS))
    parser.add_argument("--battles", type=int, help="per row; default: as many as it had, or 64")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args()
    table = FOLDER / "battle_bots.csv"
    rows = read_rows(table)
    for map_name in [] if args.report else args.maps:
        start = time.process_time()
        for profile in args.profiles:
            for bot in bots_for(map_name):
                if bot in args.bots:
                    key = map_name, profile, bot
                    battles = args.battles or (rows[key].battles if key in rows else 64)
                    rows[key] = measure(*key, battles)
        write_rows(table, rows)
        print(f"{map_name}: {time.process_time() - start:.0f} s", flush=True)
    write_rows(table, rows)
    (FOLDER / "battle_bots.md").write_text(report(read_rows(table)), encoding="utf-8")


if __name__ == "__main__":
    main()
