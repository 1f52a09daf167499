"""Groups of parameters, each with its unit, default and source.

The pydantic v1 interface is used because btrack 0.6 requires ``pydantic < 2``; ``pydantic.v1`` exists in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.v1 import BaseModel, Extra, Field, root_validator

_PAPER = "Ounissi et al. 2024, PhagoStat"

DEFAULT_SOURCE = "phagostat: corrected profile"
"""Where a default comes from that names no other source."""
_CODE = "published code"


class Group(BaseModel):
    """Settings are values: no unknown names, no change after creation."""

    class Config:
        """How pydantic keeps them."""

        extra = Extra.forbid
        frozen = True
        validate_all = True
        allow_inf_nan = False


def _require_below(values: Mapping[str, Any], low: str, high: str) -> None:
    if values[high] is not None and values[low] >= values[high]:
        raise ValueError(f"{low} ({values[low]}) must be below {high} ({values[high]})")


class AcquisitionSettings(Group):
    """What the file does not say, or says wrongly."""

    aggregates: int | None = Field(
        default=None,
        ge=0,
        unit="channel",
        description="channel of the fluorescent aggregates; unset: from the metadata",
    )
    cells: int | None = Field(
        default=None, ge=0, unit="channel", description="channel of the phase-contrast cells; unset: from the metadata"
    )
    pixel_size_um: float | None = Field(
        default=None, gt=0, unit="um", description="size of a camera pixel in the sample; unset: from the metadata"
    )
    interval_s: float | None = Field(
        default=None, gt=0, unit="s", description="time between frames; unset: from the metadata's acquisition times"
    )
    z: int | Literal["max"] = Field(
        default="max", unit="plane", description="plane of a Z stack, from 0, or 'max' for its maximum projection"
    )
    axes: str | None = Field(
        default=None,
        description="order of a TIFF's pages, slowest first, such as TYX or TC2YX: letters of T, C and Z, one of them "
        "without its length, then YX; unset: as the file says",
    )
    min_frames: int = Field(
        default=2, ge=1, unit="frames", description="an acquisition whose longest scene is shorter is refused"
    )
    analysis_pixel_size_um: float = Field(
        default=0.206,
        gt=0,
        unit="um",
        description="images, labels and probabilities are area-averaged by the integer factor nearest to this",
        source=f"{_PAPER}: 1024 x 1024 at 0.206 um",
    )


class ReferenceSettings(Group):
    """The frame of a scene that its others are compared with."""

    rule: Literal["sharpest", "first"] = Field(
        default="sharpest",
        description="'sharpest': the first usable frame about as sharp as the sharpest of the first candidates (the "
        "next ones, if none is usable); 'first': the first frame, whatever it is",
        source=f"{DEFAULT_SOURCE}; paper: first",
    )
    candidates: int = Field(default=5, ge=1, unit="frames", description="how many frames are looked at together")
    patience_frames: int = Field(
        default=35,
        ge=1,
        unit="frames",
        description="how far to look for a sharper frame while the best one may be out of focus",
        source=f"{DEFAULT_SOURCE}; longer than a blur at the start of a movie",
    )


class NormalisationSettings(Group):
    """From camera counts to 8 bit."""

    aggregates_low_percentile: float = Field(
        default=0.5,
        ge=0,
        le=100,
        unit="%",
        description="percentile of the reference frame that becomes 0",
        source=_PAPER,
    )
    aggregates_high_percentile: float = Field(
        default=99.5,
        ge=0,
        le=100,
        unit="%",
        description="percentile of the reference frame that becomes 255",
        source=_PAPER,
    )
    cells_low_percentile: float = Field(
        default=0.1,
        ge=0,
        le=100,
        unit="%",
        description="percentile of the cell channel clipped at the low end",
        source=f"{DEFAULT_SOURCE}; paper: 0, which hangs on one dead pixel",
    )
    cells_high_percentile: float = Field(
        default=99.9,
        ge=0,
        le=100,
        unit="%",
        description="percentile of the cell channel clipped at the high end",
        source=f"{DEFAULT_SOURCE}; paper: 100, which hangs on one hot pixel",
    )
    cells_rule: Literal["reference", "frame"] = Field(
        default="reference",
        description="where the cell channel's lookup table comes from: the scene's reference frame, frozen, or each "
        "frame for itself",
        source=f"{DEFAULT_SOURCE}; paper: frame",
    )
    cells_grey_mean: float = Field(
        default=115.0,
        gt=0,
        lt=255,
        unit="grey",
        description="mean of the Gaussian that cell greys are matched to",
        source="mean of the published cell image",
    )
    cells_grey_sd: float = Field(
        default=34.0,
        gt=0,
        lt=128,
        unit="grey",
        description="sd of the Gaussian that cell greys are matched to",
        source="sd of the published cell image",
    )
    flat_field_sigma_um: float = Field(
        default=50.0,
        ge=0,
        unit="um",
        description="sigma of the wide Gaussian that illumination is taken from; 0: none",
        source=f"{DEFAULT_SOURCE}; paper: none",
    )

    @root_validator(skip_on_failure=True)
    def _ordered(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805 - pydantic's way
        _require_below(values, "aggregates_low_percentile", "aggregates_high_percentile")
        _require_below(values, "cells_low_percentile", "cells_high_percentile")
        return values


class SharpnessSettings(Group):
    """How sharp a frame is."""

    method: Literal["scaled", "laplacian"] = Field(
        default="scaled",
        description="'scaled': divided by the squared intensity scale, camera noise subtracted; 'laplacian': plain "
        "variance of the Laplacian",
        source=f"{DEFAULT_SOURCE}; paper: laplacian",
    )


class RegistrationSettings(Group):
    """How far a frame lies from the scene's reference."""

    method: Literal["tiles", "cecc", "phase"] = Field(
        default="tiles",
        description="'tiles': coarse correlation, then bright tiles that vote; 'cecc': the published cascade; "
        "'phase': phase correlation",
        source=f"{DEFAULT_SOURCE}; paper: cecc",
    )
    search_radius_px: float = Field(
        default=400.0,
        gt=0,
        unit="px (native)",
        description="largest shift along an axis that is looked for",
        source=_PAPER,
    )


class AggregateSettings(Group):
    """What counts as an aggregate."""

    threshold_rule: Literal["acquisition", "normalised"] = Field(
        default="acquisition",
        description="'acquisition': one threshold in background-subtracted camera counts, frames corrected for "
        "bleaching; 'normalised': half of each scene's own 8-bit range",
        source=f"{DEFAULT_SOURCE}; paper: normalised",
    )
    threshold_percentile: float = Field(
        default=99.5,
        gt=0,
        lt=100,
        unit="%",
        description="percentile of the pooled reference frames' counts",
        source=_PAPER,
    )
    threshold_fraction: float = Field(
        default=0.5, gt=0, lt=1, description="share of that percentile that an aggregate must exceed", source=_PAPER
    )
    min_area_um2: float = Field(
        default=0.42,
        ge=0,
        unit="um2",
        description="smaller ones are noise",
        source="published code: more than 10 px2 of 0.206 um",
    )
    max_area_um2: float | None = Field(
        default=None,
        gt=0,
        unit="um2",
        description="larger ones are left out; unset: no limit",
        source="published code: 101.8 um2 (2400 px2 of 0.206 um); paper: none",
    )

    @root_validator(skip_on_failure=True)
    def _ordered(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805 - pydantic's way
        _require_below(values, "min_area_um2", "max_area_um2")
        return values


class BlurSettings(Group):
    """Which frames are out of focus."""

    rule: Literal["corrected", "paper"] = Field(
        default="corrected",
        description="'corrected': sharpness against accepted frames, confirmed by lost aggregates; 'paper': a relative "
        "drop between consecutive frames",
        source=f"{DEFAULT_SOURCE}; paper: paper",
    )
    suspect_ratio: float = Field(
        default=0.7,
        gt=0,
        lt=1,
        description="corrected: suspect below this share of the last accepted frames' sharpness",
    )
    certain_ratio: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="corrected: blurred below this share, without further evidence; at most suspect_ratio",
    )
    matched_ratio: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="corrected: a suspect frame is blurred if it shows less than this share of the reference "
        "aggregates that accepted frames show",
    )
    baseline_frames: int = Field(
        default=5, ge=1, unit="frames", description="corrected: the baseline is the median of as many accepted frames"
    )
    ramp_window_min: float = Field(
        default=30.0, ge=0, unit="min", description="corrected: how far back the best accepted frame is looked for"
    )
    max_drop: float = Field(
        default=0.01, ge=0, lt=1, description="paper: largest relative drop that is not blur", source=_PAPER
    )
    search_frames: int = Field(
        default=14, ge=1, unit="frames", description="paper: longest episode", source=f"{_PAPER}: B = 14"
    )

    @root_validator(skip_on_failure=True)
    def _ordered(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805 - pydantic's way
        if values["certain_ratio"] > values["suspect_ratio"]:
            raise ValueError(
                f"certain_ratio ({values['certain_ratio']}) must not exceed suspect_ratio ({values['suspect_ratio']})"
            )
        return values


class QualitySettings(Group):
    """What a scene must keep to, to be counted."""

    max_shift_px: float = Field(
        default=50.0,
        gt=0,
        unit="px (native)",
        description="largest shift along an axis of its usable frames",
        source="published criterion",
    )
    max_blurred_percent: float = Field(
        default=5.0,
        ge=0,
        le=100,
        unit="%",
        description="largest share of blurred frames among those that were acquired",
        source="published criterion",
    )
    max_unusable_percent: float = Field(
        default=25.0,
        ge=0,
        le=100,
        unit="%",
        description="largest share of frames that cannot be used for any reason, missing ones included; 100: not asked",
        source="ours: the two published criteria accept a scene of which hardly a frame could be registered",
    )


class CellSettings(Group):
    """Where cells are."""

    route: Literal["texture"] = Field(
        default="texture",
        description="how the cell probability is found; 'texture': roughness and darkness of the phase-contrast image, "
        "without trained weights",
    )
    min_probability: float = Field(
        default=0.5, ge=0, lt=1, description="the foreground's pixels exceed it", source=_PAPER
    )
    markers: Literal["shape", "coherent"] = Field(
        default="shape",
        description="what cells grow from; 'coherent': regions whose mean probability over a window exceeds that of "
        "seeds; 'shape': bodies of the foreground, parted at necks of that mean and of width",
        source=f"{DEFAULT_SOURCE}; paper: coherent",
    )
    max_neck: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="two bodies are two cells if the neck between them is lower than this fraction of the lesser one "
        "(markers: shape)",
    )
    min_cell_area_um2: float = Field(
        default=80.0,
        ge=0,
        unit="um2",
        description="no cell is split into smaller parts, nor into parts of less than 500 pixels (markers: shape)",
    )


class CoherenceSettings(Group):
    """Which cells hold over time (TTCM)."""

    window_frames: int = Field(
        default=3,
        ge=1,
        le=257,
        unit="frames",
        description="length of the window; three frames lose less of fast cells than the published five",
        source="measured: docs/coherence.md; paper: 5",
    )
    seed_probability: float = Field(
        default=0.9, gt=0, lt=1, description="a seed's pixels have a mean probability above it", source=_PAPER
    )
    min_seed_area_um2: float = Field(
        default=42.4,
        ge=0,
        unit="um2",
        description="smallest seed of a cell",
        source=f"{_CODE}: 1000 px2 of 0.206 um",
    )


class TrackingSettings(Group):
    """Which cell of one frame is which of the next (btrack)."""

    max_lost_frames: int = Field(
        default=10,
        ge=0,
        unit="frames",
        description="a track ends after more frames in a row without its cell",
        source=_CODE,
    )
    probability_not_assigned: float = Field(
        default=1e-5,
        gt=0,
        lt=1,
        description="prior probability that a cell is not found in the next frame",
        source=_CODE,
    )
    search_radius_um: float = Field(
        default=20.6,
        gt=0,
        unit="um",
        description="longest step between two frames",
        source=f"{_CODE}: 100 px of 0.206 um",
    )
    max_cells_at_once: int = Field(
        default=50_000,
        ge=1000,
        unit="cells",
        description="a scene with more cells, over all its frames, is tracked in equal stretches of time",
    )
    min_duration_min: float = Field(
        default=100.0, ge=0, unit="min", description="shorter tracks are listed and not kept", source=_PAPER
    )
    lag_min: float = Field(
        default=10.0, gt=0, unit="min", description="lag at which speed and mean squared displacement are taken"
    )


class LedgerSettings(Group):
    """What became of the aggregates of the reference frame."""

    gate_um: float = Field(
        default=1.44,
        gt=0,
        unit="um",
        description="an aggregate is followed to a place at most this far from its last usable position",
        source=f"{_CODE}: 7 px of 0.206 um",
    )
    max_scale_error: float = Field(
        default=0.04,
        gt=0,
        description="a frame whose untouched aggregates have areas further than this from the reference's is not used",
    )
    patience_frames: int = Field(
        default=3, ge=1, unit="frames", description="absent in fewer usable frames is no event"
    )
    gone_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="an aggregate of which a smaller share of its area is left is gone"
    )
    whole_fraction: float = Field(
        default=0.85, gt=0, lt=1, description="one of which at least this share is left is whole"
    )
    return_frames: int = Field(
        default=5, ge=1, unit="frames", description="one that is back for as many frames had not been eaten before"
    )

    @root_validator(skip_on_failure=True)
    def _ordered(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805 - pydantic's way
        _require_below(values, "gone_fraction", "whole_fraction")
        return values


class ExecutionSettings(Group):
    """How the work is done; never changes a result and is part of no digest."""

    workers: int | None = Field(default=None, ge=1, description="worker processes; unset: one a core")
    block_frames: int = Field(default=8, ge=1, unit="frames", description="frames computed and committed together")
    block_bytes: int = Field(
        default=96 * 2**20,
        ge=2**20,
        unit="bytes",
        description="raw pixels that a block may hold; fewer frames if larger",
    )
    in_flight_per_worker: int = Field(default=2, ge=1, unit="blocks", description="blocks handed out ahead of time")
    fsync: bool = Field(
        default=False, description="force every chunk to disk before its commit (slower; survives a power cut)"
    )
