"""How well frames that are out of focus are told from sharp ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phagostat.simulate.truth import Table
from phagostat.study.figures import Floats, ratio

SHARP_DEFOCUS_PX = 0.5
BLURRED_DEFOCUS_PX = 2.0
BLUR_COLUMNS = ("usable", "focus")
"""Columns of the frames table that this rests on."""


@dataclass(frozen=True)
class BlurScore:
    """Verdicts on focus of one scene. Frames whose pixels do not exist are none of these.

    Parameters
    ----------
    blurred_frames
        Frames with a true defocus of at least 2 px.
    blurred_accepted
        Those of them that are used.
    blurred_accepted_share
        Their share.
    sharp_rejected
        Frames with a true defocus of at most 0.5 px that are called blurred.
    sharp_rejected_share
        Their share.
    sharp_unused_share
        Share of those frames that are not used for whatever reason.
    between_frames
        Frames in between.
    between_accepted_share
        Share of them that are used: reported, neither is an error.
    """

    blurred_frames: int
    blurred_accepted: int
    blurred_accepted_share: float
    sharp_rejected: int
    sharp_rejected_share: float
    sharp_unused_share: float
    between_frames: int
    between_accepted_share: float


def score_blur(frames: Table, *, defocus_px: Floats, normal: NDArray[np.bool_]) -> BlurScore:
    """Compare a scene's verdicts on focus with the truth.

    Parameters
    ----------
    frames
        Rows of the scene's frames, in order.
    defocus_px
        True defocus of each, analysis px.
    normal
        Which of them have pixels that show something.
    """
    used = frames["usable"].astype(bool)
    blurred = normal & (defocus_px >= BLURRED_DEFOCUS_PX)
    sharp = normal & (defocus_px <= SHARP_DEFOCUS_PX)
    between = normal & ~blurred & ~sharp
    rejected = sharp & (frames["focus"] == "blurred")
    n_blurred, n_sharp = int(blurred.sum()), int(sharp.sum())
    return BlurScore(
        blurred_frames=n_blurred,
        blurred_accepted=int((blurred & used).sum()),
        blurred_accepted_share=ratio(int((blurred & used).sum()), n_blurred),
        sharp_rejected=int(rejected.sum()),
        sharp_rejected_share=ratio(int(rejected.sum()), n_sharp),
        sharp_unused_share=ratio(int((sharp & ~used).sum()), n_sharp),
        between_frames=int(between.sum()),
        between_accepted_share=ratio(int((between & used).sum()), int(between.sum())),
    )
