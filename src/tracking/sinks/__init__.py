"""Dashboards that get a run's numbers besides the folder and MongoDB."""
