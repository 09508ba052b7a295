"""From the values of single agents to the value of the team."""
