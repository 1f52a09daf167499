"""Where things lie in an output: images, commits, rows and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
"""Version of the output's layout; another one is refused."""


@dataclass(frozen=True)
class Layout:
    """Paths of one acquisition's output.

    Parameters
    ----------
    images
        Root of the OME-Zarr hierarchy.
    books
        Folder of everything else: manifest, commits, rows, tables, lease, journal.
    """

    images: Path
    books: Path

    @classmethod
    def analysis(cls, root: Path) -> Layout:
        """Layout of an analysed acquisition: ``root/images.zarr`` and the books beside it."""
        return cls(images=root / "images.zarr", books=root)

    @classmethod
    def conversion(cls, root: Path) -> Layout:
        """Layout of a converted acquisition: ``root`` is the OME-Zarr hierarchy, the books lie hidden inside it."""
        return cls(images=root, books=root / ".phagostat")

    @property
    def root(self) -> Path:
        """The folder that holds all of it."""
        return self.images if self.books.parent == self.images else self.books

    @property
    def manifest(self) -> Path:
        """What this output is: format, source, settings."""
        return self.books / "output.json"

    @property
    def commits(self) -> Path:
        """The commit log."""
        return self.books / "commits"

    @property
    def rows(self) -> Path:
        """Row files, one a committed range."""
        return self.books / "rows"

    @property
    def tables(self) -> Path:
        """Final tables, written at seal."""
        return self.books / "tables"

    @property
    def report(self) -> Path:
        """The report, where it was not written elsewhere."""
        return self.books / "report.html"

    @property
    def seal(self) -> Path:
        """Present when the output is complete and every chunk was checked."""
        return self.books / "seal.json"

    @property
    def lease(self) -> Path:
        """Names the driver at work."""
        return self.books / "driver.lease"

    @property
    def journal(self) -> Path:
        """Timings, hosts and clock times: outside every digest."""
        return self.books / "journal.jsonl"
