"""A whole network of real processes on this machine's loopback addresses."""
