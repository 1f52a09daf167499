"""Arrays in, arrays or records out: no settings, no files."""
