"""phagostat: numbers that can be trusted from time-lapses of cells eating fluorescent aggregates."""
