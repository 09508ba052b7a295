"""From observations to a few tokens of a finite vocabulary, and back."""
