"""MARIE's world model: a causal transformer over each agent's tokens, and an aggregation over agents."""
