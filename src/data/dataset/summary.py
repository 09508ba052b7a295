"""What is in a dataset, in numbers and as a picture."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ...registry import require
from ...tracking.identity import task_name
from .description import histogram
from .reader import Dataset

_BAR = 40


def summary(data: Dataset) -> dict[str, Any]:
    """Returns, lengths, win rate, variety, and where they come from; plain values."""
    description = data.description
    outcomes = {name: values[~np.isnan(values)] for name, values in data.outcomes.items()}
    return {
        "environment": description.environment.get("name", ""),
        "options": dict(description.environment.get("options", {})),
        "engine": description.engine,
        "policies": [{k: v for k, v in p.items() if k != "config"} for p in description.policies],
        "seeds": list(description.seeds),
        "tier": description.tier,
        "parents": list(description.parents),
        "episodes": len(data),
        "steps": data.steps,
        "bytes": data.nbytes,
        "returns": histogram(data.returns),
        "lengths": histogram(data.lengths),
        "outcomes": {name: float(v.mean()) for name, v in outcomes.items() if len(v)},
        "distinct_state_actions": distinct_state_actions(data),
        "checksum": description.checksum,
    }


def distinct_state_actions(data: Dataset) -> float:
    """Share of steps whose pair of state and joint action occurs for the first time.

    1 where no step is like another; small where the same few situations are repeated. States are compared
    as they are kept, bit for bit.
    """
    seen = set()
    for episode in data:
        states, actions = episode["state"], episode["actions"]
        for t in range(len(actions)):
            pair = states[t].tobytes() + actions[t].tobytes()
            seen.add(hashlib.blake2b(pair, digest_size=8).digest())
    return len(seen) / max(data.steps, 1)


def in_a_line(data: Dataset) -> str:
    """Where it is, how much there is, and how good."""
    told = f"{data.folder}: {len(data):,} episodes with {data.steps:,} steps"
    if len(data):
        told += f", mean return {data.returns.mean():.2f}"
    won = data.outcomes.get("battle_won", np.zeros(0))
    won = won[~np.isnan(won)]
    return told + (f", win rate {won.mean():.3f}" if len(won) else "")


def lines(found: dict[str, Any]) -> list[str]:
    """The summary as people read it, with the histogram of returns."""
    told = [
        f"environment  {_task(found) or 'not known'}",
        f"engine       {found['engine'] or '-'}",
        f"acted        {'; '.join(map(policy_in_words, found['policies'])) or 'not known'}",
        f"seeds        {', '.join(map(str, found['seeds'])) or '-'}",
    ]
    if found["tier"]:
        told.append(f"tier         {_tier(found['tier'])}")
    if found["parents"]:
        told.append(f"made of      {', '.join(p['name'] for p in found['parents'])}")
    told += [
        f"episodes     {found['episodes']:,} with {found['steps']:,} steps, {found['bytes'] / 2**20:.1f} MiB",
    ]
    for name, label in (("returns", "return"), ("lengths", "length")):
        if numbers := found[name]:
            told.append(
                f"{label:<13}mean {numbers['mean']:.2f}, standard deviation {numbers['std']:.2f}, from "
                f"{numbers['min']:.2f} to {numbers['max']:.2f}"
            )
    for name, mean in found["outcomes"].items():
        told.append(f"{_outcome(name):<13}{mean:.3f}")
    told.append(
        f"distinct     {found['distinct_state_actions']:.3f} of (state, joint action) pairs"
    )
    return told + _bars(found["returns"])


def _task(found: dict[str, Any]) -> str:
    name: str = found["environment"]
    task = task_name({"env": name, "env_args": found["options"]})
    return name if task == name else f"{name} {task}"


def policy_in_words(policy: dict[str, Any]) -> str:
    """Who acted, when, and how much at random."""
    extra = f", epsilon {policy['epsilon']:g}" if policy.get("epsilon") else ""
    if "by_hand" in policy:
        return f"{policy['name']}, written by hand{extra}"
    at = f"at step {policy['step']:,}" if "step" in policy else "while it was trained"
    return f"{policy.get('name', '?')} {at}{extra} (run {policy.get('run') or '?'})"


def _tier(tier: dict[str, Any]) -> str:
    low = "-inf" if tier["from"] is None else f"{tier['from']:g}"
    high = "" if tier["below"] is None else f", below {tier['below']:g}"
    return f"{tier['name']}: {tier['by']} from {low}{high}; {tier['there']} there were"


def _outcome(name: str) -> str:
    return "win rate" if name == "battle_won" else name


def _bars(numbers: dict[str, Any]) -> list[str]:
    if not numbers:
        return []
    counts, edges = numbers["counts"], numbers["edges"]
    most = max(counts)
    return [
        f"{edge:>10.2f} {'#' * round(_BAR * count / most):<{_BAR}} {count:,}"
        for edge, count in zip(edges, counts, strict=False)
    ]


def draw(found: dict[str, Any], title: str, out: Path) -> Path:
    """The histogram of returns as a PNG.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require("matplotlib", "plot", "a histogram")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    numbers = found["returns"]
    if numbers:
        edges = numbers["edges"]
        axes.stairs(numbers["counts"], edges, fill=True, color="#4477aa")
        axes.axvline(numbers["mean"], color="#cc6677", label=f"mean {numbers['mean']:.2f}")
        axes.legend(frameon=False)
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    axes.set_title(title, fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png")
    return out
