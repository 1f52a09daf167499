"""Benchmarks that judge the kernels with exact truths, in one run: what ``phagostat bench`` prints."""
