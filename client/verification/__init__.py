"""Whether a worker's answer is to be believed: replicas, judges, and who was wrong (spec/12)."""
