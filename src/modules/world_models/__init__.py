"""Learned dynamics of the environment, used in training only."""
