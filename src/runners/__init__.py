"""How experience is collected."""
