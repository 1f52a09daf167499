"""The vocabulary: frozen dataclasses, units and errors. Imports nothing but numpy."""
