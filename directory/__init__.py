"""Who is in the network: descriptors, votes, consensus, authorities."""
