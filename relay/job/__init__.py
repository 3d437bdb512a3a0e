"""Jobs: what a client and a worker say to each other over a circuit (spec/08)."""
