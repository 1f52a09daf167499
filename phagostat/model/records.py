"""Small records that kernels return and the commit log keeps."""

from __future__ import annotations

from dataclasses import dataclass, field

NAN = float("nan")


@dataclass(frozen=True)
class TranslationEstimate:
    """How far a frame's content lies from the reference's.

    What stands at ``p`` in the reference stands at ``p + shift_yx_px`` in the moving frame (native pixels, y before
    x). A failure has NaN shifts and a ``reason``.

    Parameters
    ----------
    shift_yx_px
        (y, x) shift in native pixels; (nan, nan) on failure.
    standard_error_yx_px
        Estimated standard error per axis in native pixels; NaN where unknown.
    confidence
        0 (none) to 1 (certain), as the method defines it.
    reason
        None on success, else why there is no estimate.
    method
        Name of the method that gave it.
    evidence
        Method-specific figures, such as the number of tiles that agreed.
    """

    shift_yx_px: tuple[float, float]
    standard_error_yx_px: tuple[float, float] = (NAN, NAN)
    confidence: float = NAN
    reason: str | None = None
    method: str = ""
    evidence: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a shift."""
        return self.reason is None

    @classmethod
    def failure(cls, reason: str, *, method: str, **evidence: float) -> TranslationEstimate:
        """An estimate that states why there is none."""
        return cls((NAN, NAN), reason=reason, method=method, confidence=0.0, evidence=evidence)


@dataclass(frozen=True)
class BleachingEstimate:
    """By which factor aggregates have faded against the reference frame (1 = not at all, 0.8 = 20 % darker).

    ``factor`` is NaN, with a ``reason``, where too few aggregates are left to tell.
    """

    factor: float
    n_aggregates: int
    spread: float = NAN
    reason: str | None = None
