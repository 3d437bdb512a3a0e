"""What a client keeps of its jobs, so that none is lost and none delivered twice (spec/11)."""
