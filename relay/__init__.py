"""The onion network: keys, links, circuits, streams, and the services that a circuit ends in."""
