"""Sessions that outlive their streams (spec/08 §3.1)."""
