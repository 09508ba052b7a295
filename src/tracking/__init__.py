"""Recording of runs: on disk first, MongoDB as a mirror, and ways to look at them."""
