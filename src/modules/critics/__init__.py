"""Networks that value what a team sees, to judge its actions by."""
