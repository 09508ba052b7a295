"""From action values to actions."""
