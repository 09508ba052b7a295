"""Many runs from one file: a table of them in a shared directory, and workers that fill it."""
