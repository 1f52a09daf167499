"""Errors that say what is wrong, where, which value was found, and what to do about it."""

from __future__ import annotations


class PhagostatError(Exception):
    """A problem that its user can understand and mend.

    Parameters
    ----------
    what
        What is wrong, as the beginning of one sentence without a full stop.
    where
        File, scene, frame or setting that it was found in.
    found
        The value that was found there.
    remedy
        What the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, found: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.found = None if found is None else str(found)
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        """One sentence: where, what, value found, remedy."""
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        if self.found is not None:
            sentence += f" (found: {self.found})"
        if self.remedy:
            sentence += f"; {self.remedy}"
        return sentence

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.found, self.remedy)


def _rebuild(
    kind: type[PhagostatError], what: str, where: str | None, found: str | None, remedy: str | None
) -> PhagostatError:
    return kind(what, where=where, found=found, remedy=remedy)


class SourceError(PhagostatError):
    """The input cannot be opened or is not what it should be."""


class PlaneError(PhagostatError):
    """One plane of a source cannot be read: that frame is recorded as unreadable, the others go on."""


class MetadataError(PhagostatError):
    """The input does not say something that is needed, such as its pixel size."""


class SettingsError(PhagostatError):
    """A setting is unknown or out of its range."""


class StoreError(PhagostatError):
    """The output cannot be used or written."""

    exit_code = 3


class LeaseError(StoreError):
    """Another driver is working on this output."""
