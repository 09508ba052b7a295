"""What starts the workers of a sweep: this machine, a cluster."""
