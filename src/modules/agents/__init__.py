"""Networks of one agent, over whole sequences."""
