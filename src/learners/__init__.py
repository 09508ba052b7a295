"""Learning rules: one file each, from a batch of episodes to a gradient step."""
