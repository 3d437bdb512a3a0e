"""Which task of an array runs on which worker, and when again elsewhere (spec/11). Pure."""
