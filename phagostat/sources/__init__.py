"""Readers of acquisitions, all behind the :class:`~phagostat.sources.protocol.Source` protocol."""
