"""Circuits: the origin's end, the hops, and the switch that moves cells between links."""
