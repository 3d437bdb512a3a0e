"""What a user does: guards, paths, circuits, the directory cache, jobs."""
