"""Write docs/tables.md from the columns that the engine writes: ``python docs/make_tables.py``."""

from __future__ import annotations

from pathlib import Path

from phagostat.engine.columns import TABLES

HEAD = """# Tables

Parquet files in `results/<acquisition>/tables/`, written when an output is complete. Rows are sorted by their keys.
A missing number is NaN or null, never 0. Frames whose `verdict` is not `ok` have no shift, and nothing is measured
from them that needs one.

```sh
phagostat simulate movie.czi --scenes 1 --frames 6 --size 256
phagostat run movie.czi -o results
python -c "import pandas; print(pandas.read_parquet('results/movie/tables/frames.parquet').describe())"
```
"""

ABOUT = {
    "acquisition": "One row.",
    "frames": "One row a scene and frame.",
    "aggregates": "One row an aggregate and frame, for every frame whose aggregates were measured.",
    "cells": "One row a cell and frame, for every usable frame.",
    "tracks": "One row a track of a cell.",
    "eaten": "One row a scene and frame that the ledger of aggregates uses.",
    "fates": "One row an aggregate of a scene's reference frame.",
    "scenes": "One row a scene.",
}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, columns in TABLES.items():
        parts.append(f"\n## {name}\n\n{ABOUT[name]}\n\n| column | type | unit | meaning |\n|---|---|---|---|\n")
        parts += [f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning} |\n" for c in columns]
    return "".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("tables.md").write_text(page(), "utf-8")
