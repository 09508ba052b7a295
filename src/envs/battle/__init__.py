"""The embedded battle engine: SMAC's battles without StarCraft II.

It speaks SMAC's interface exactly (observations, state, masks, reward, ends of episodes), takes units,
weapons and maps from the game's data files and simulates the fighting loop by loop. It is a simulator
of its own: what is learnt here is not expected to carry over to the game untrained, and win rates here are
not win rates there. What is approximate:

- where units start around their spawn point, and that later episodes begin like the first;
- when an attack-moving unit drops a chase or, blocked by others, turns to whoever is nearest; how an enemy
  medivac follows its army; and that the zerglings of 2c_vs_64zg always go for the nearest colossus (the
  map's order names the pair of them);
- walls are the map files' cells, diagonal ones cut in half; paths turn at the middle of cells; colossi
  cross cliffs without slowing down;
- collisions: round bodies that slide along each other; no squeezing through friends, no turning time;
- SMACv2's battles: places of units created on one spot, rewards scaled by each episode's own enemies,
  and that enemies who hunt look for the nearest every four loops and take on whom they meet; its
  ``attack``, ``health`` and ``enemy_mask`` are not offered;
- who a colossus' beams hit is decided as they start; missiles always follow their target.
"""

from .capability_wrapper import StarCraftCapabilityEnvWrapper
from .maps import BattleMap, map_info, map_names
from .rules import Options
from .smac import StarCraft2Env
from .snapshot import battle_reward, observe
from .vec import VecBattle

__all__ = [
    "BattleMap",
    "Options",
    "StarCraft2Env",
    "StarCraftCapabilityEnvWrapper",
    "VecBattle",
    "battle_reward",
    "map_info",
    "map_names",
    "observe",
]
