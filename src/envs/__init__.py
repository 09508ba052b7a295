"""Environments: the batched protocol, adapters to other libraries, and the battle engine."""
