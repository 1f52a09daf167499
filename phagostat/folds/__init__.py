"""What crosses frames: ordered state over small per-frame records, replayed from the commit log, without any pixel."""
