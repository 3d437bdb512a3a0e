"""A user's or a node's credit: seed words, tokens, and what is under way (spec/09 §8)."""
