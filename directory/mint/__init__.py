"""Credit's side of the authorities: keys, series, locks (spec/09)."""
