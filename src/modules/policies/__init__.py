"""How a team acts, step by step, and how it is unrolled over episodes."""
