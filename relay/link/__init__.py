"""Links: cells between two neighbours, over TLS or over memory."""
