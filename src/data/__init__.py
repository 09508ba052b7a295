"""The typed batch that every learner reads, and the places where episodes wait."""
