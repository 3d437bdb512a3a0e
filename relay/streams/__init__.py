"""Streams: ordered bytes between a circuit's origin and its last hop."""
