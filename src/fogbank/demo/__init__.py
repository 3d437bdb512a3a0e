"""The demo: a picture rendered in tiles by workers of a network on this machine."""
