"""The step table: what is computed, from what, and by which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from phagostat.model.acquisition import Acquisition
from phagostat.settings import Settings, settings_digest
from phagostat.store.digests import value_digest


class Scope(StrEnum):
    """What one result of a step belongs to, and which other frames it may read.

    ``FRAME``: a frame, from that frame alone. ``FOLD``: a frame, replayed in frame order from records of committed
    results by whoever plans; never committed. ``WINDOW``: a frame, from results of that frame and of some that follow.
    ``MOVIE``: a scene, from the results of all its frames. ``SCENE``: a scene, from its first frames, before any other
    step. ``ACQUISITION``: all scenes together.
    """

    FRAME = "frame"
    FOLD = "fold"
    WINDOW = "window"
    MOVIE = "movie"
    SCENE = "scene"
    ACQUISITION = "acquisition"


PER_FRAME = frozenset({Scope.FRAME, Scope.FOLD, Scope.WINDOW})
"""Scopes with a result for every frame."""

FROZEN = frozenset({Scope.SCENE, Scope.ACQUISITION})
"""Scopes whose results are frozen early: frames wait for them."""


@dataclass(frozen=True)
class Step:
    """One kind of result.

    Parameters
    ----------
    name
        As it stands in the commit log.
    version
        Raised when the same inputs and settings give other results.
    scope
        What a result belongs to.
    needs
        Steps whose results it reads.
    settings
        Names of the settings that it reads, given all settings: what a rule that is not chosen would read is left out.
    facts
        Facts of the acquisition that it reads: ``roles``, ``reduction``, ``pixel_size_um``, ``times``.
    ahead
        For a ``WINDOW``: how many frames after its own a result reads, given all settings.
    group
        Steps of a whole movie with one group are computed together, since they share most of their work.
    """

    name: str
    version: int
    scope: Scope
    needs: tuple[str, ...] = ()
    settings: Callable[[Settings], tuple[str, ...]] = lambda _: ()
    facts: tuple[str, ...] = ("roles",)
    ahead: Callable[[Settings], int] = lambda _: 0
    group: str | None = None


def _measure_settings(settings: Settings) -> tuple[str, ...]:
    if settings.sharpness.method == "laplacian":  # of the normalised frame, as published
        return (
            "sharpness",
            "registration",
            "normalisation.aggregates_low_percentile",
            "normalisation.aggregates_high_percentile",
        )
    return "sharpness", "registration"


def _aggregate_settings(settings: Settings) -> tuple[str, ...]:
    names = ("aggregates.threshold_rule", "aggregates.min_area_um2", "aggregates.max_area_um2")
    if settings.aggregates.threshold_rule == "normalised":
        return (
            *names,
            "aggregates.threshold_fraction",
            "normalisation.aggregates_low_percentile",
            "normalisation.aggregates_high_percentile",
        )
    return names


def _threshold_settings(settings: Settings) -> tuple[str, ...]:
    if settings.aggregates.threshold_rule == "normalised":
        return ("aggregates.threshold_rule",)
    return ("aggregates.threshold_rule", "aggregates.threshold_percentile", "aggregates.threshold_fraction")


def _segmentation_settings(settings: Settings) -> tuple[str, ...]:
    names = ("cells.min_probability", "cells.markers", "coherence")
    return (*names, "cells.max_neck", "cells.min_cell_area_um2") if settings.cells.markers == "shape" else names


CELL_NORMALISATION = (
    "normalisation.cells_low_percentile",
    "normalisation.cells_high_percentile",
    "normalisation.cells_rule",
    "normalisation.cells_grey_mean",
    "normalisation.cells_grey_sd",
    "normalisation.flat_field_sigma_um",
)
"""Settings of the normalised cell channel."""

ANALYSIS_STEPS: tuple[Step, ...] = (
    Step("reference", 6, Scope.SCENE, settings=lambda _: ("reference",), facts=("roles", "reduction")),
    Step("threshold", 1, Scope.ACQUISITION, needs=("reference",), settings=_threshold_settings),
    Step(
        "images",
        1,
        Scope.FRAME,
        needs=("reference",),
        settings=lambda _: ("normalisation",),
        facts=("roles", "reduction", "pixel_size_um"),
    ),
    Step(
        "measures",
        7,
        Scope.FRAME,
        needs=("reference",),
        settings=_measure_settings,
        facts=("roles", "reduction"),
    ),
    Step(
        "aggregates",
        3,
        Scope.FRAME,
        needs=("reference", "threshold", "measures"),
        settings=_aggregate_settings,
        facts=("roles", "reduction", "pixel_size_um"),
    ),
    Step(
        "probability",
        4,
        Scope.FRAME,
        needs=("reference",),
        settings=lambda _: ("cells.route", *CELL_NORMALISATION),
        facts=("roles", "reduction", "pixel_size_um"),
    ),
    Step(
        "territories",
        5,
        Scope.FRAME,
        needs=("reference", "threshold", "measures", "aggregates"),
        settings=lambda _: ("aggregates.min_area_um2", "aggregates.threshold_rule"),
        facts=("roles", "reduction", "pixel_size_um"),
    ),
    Step(
        "overlaps",
        3,
        Scope.FRAME,
        needs=("reference", "threshold", "measures", "aggregates"),
        settings=lambda _: ("aggregates.threshold_rule",),
        facts=("roles", "reduction", "pixel_size_um"),
    ),
    Step(
        "verdicts",
        2,
        Scope.FOLD,
        needs=("reference", "measures", "territories"),
        settings=lambda _: ("blur",),
        facts=("times",),
    ),
    Step("usable", 1, Scope.FOLD, needs=("measures", "verdicts")),
    Step(
        "cells",
        3,
        Scope.WINDOW,
        needs=("probability", "usable"),
        settings=_segmentation_settings,
        facts=("roles", "reduction", "pixel_size_um"),
        ahead=lambda settings: settings.coherence.window_frames - 1,
    ),
    Step(
        "tracks",
        1,
        Scope.MOVIE,
        needs=("cells",),
        settings=lambda _: (
            "tracking.max_lost_frames",
            "tracking.probability_not_assigned",
            "tracking.search_radius_um",
            "tracking.max_cells_at_once",
        ),
        facts=("pixel_size_um", "times"),
    ),
    Step(
        "track_features",
        2,
        Scope.MOVIE,
        needs=("cells", "tracks"),
        settings=lambda _: ("tracking.min_duration_min", "tracking.lag_min"),
        facts=("times",),
    ),
    *(
        Step(
            name,
            8,
            Scope.MOVIE,
            needs=("reference", "aggregates", "territories", "overlaps", "usable"),
            settings=lambda _: ("ledger",),
            facts=("pixel_size_um", "reduction", "times"),
            group="ledger",
        )
        for name in ("eaten", "fates")
    ),
)
"""What ``run`` computes."""

_NEED_AGGREGATES = frozenset({"threshold", "aggregates", "territories", "overlaps", "eaten", "fates"})

_OF_CELLS: Mapping[str, Mapping[str, Any]] = {
    "images": {"settings": lambda _: CELL_NORMALISATION},
    "measures": {"needs": (), "settings": lambda _: ()},
    "verdicts": {"needs": ("measures",), "settings": lambda _: ()},
}
"""What these steps read where there is no aggregate channel: no sharpness, no shift."""

CELL_STEPS: tuple[Step, ...] = tuple(
    replace(step, **_OF_CELLS.get(step.name, {})) for step in ANALYSIS_STEPS if step.name not in _NEED_AGGREGATES
)
"""What ``run`` computes of an acquisition without an aggregate channel."""

PAPER_STEPS: tuple[Step, ...] = tuple(
    replace(step, needs=("reference", "measures")) if step.name == "verdicts" else step for step in ANALYSIS_STEPS
)
"""What ``run`` computes where the published blur rule is asked for: it asks for no aggregates."""

CONVERSION_STEPS: tuple[Step, ...] = (Step("planes", 1, Scope.FRAME, facts=()),)
"""What ``convert`` computes."""


def analysis_steps(acquisition: Acquisition, settings: Settings) -> tuple[Step, ...]:
    """The step table of an acquisition: what needs aggregates is left out where no channel shows them."""
    if not acquisition.has_aggregates:
        return CELL_STEPS
    return PAPER_STEPS if settings.blur.rule == "paper" else ANALYSIS_STEPS


def step_tokens(steps: tuple[Step, ...], settings: Settings, acquisition: Acquisition | None) -> Mapping[str, str]:
    """For each step a digest of its name, version, and the settings and facts that it reads.

    ``acquisition`` is None for a conversion, whose steps read no facts but the source's planes.
    """
    facts: dict[str, object] = {"z": settings.acquisition.z}
    if settings.acquisition.axes is not None:
        facts["axes"] = settings.acquisition.axes
    of_planes = tuple(facts)  # what decides what a plane of the source is
    if acquisition is not None:
        facts |= {
            "roles": {role.value: channel for role, channel in sorted(acquisition.roles.items())},
            "reduction": acquisition.reduction,
            "pixel_size_um": acquisition.pixel_size_um,
            "times": [scene.times_s for scene in acquisition.scenes],
        }
    return {
        step.name: value_digest(
            [
                step.name,
                step.version,
                settings_digest(settings, step.settings(settings)),
                {name: facts[name] for name in (*of_planes, *step.facts)},
            ]
        )
        for step in steps
    }
