"""What plays: the policy, or something around it."""
