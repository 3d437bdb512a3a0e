"""Start-up of each kind of node: authority, relay, worker, and a user's client."""
