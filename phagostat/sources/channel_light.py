"""Whether a channel shows fluorescence or transmitted light, by what its metadata say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from phagostat.sources.metadata_xml import parse_number

_TRANSMITTED: Final = re.compile(
    r"(?i)phase|\bph\d?\b|\bphc|phaco|bright\s*-?field|\bbf\b|\bdic\b|differential|transmi|\btl\b|\bt[\s_-]?pmt|\besid\b"
    r"|oblique|varel|plas\b|\bpgc\b"
)
_FLUORESCENT: Final = re.compile(
    r"(?i)fluor|dapi|hoechst|[eyrcbm]?gfp|\b[eymtsrcb]{0,2}[ycrb]fp|cherry|tomato|ds-?red|venus|citrine|cerulean"
    r"|\baf[\s_-]?\d{3}|alexa|\bcy[\s_-]?\d|fitc|tritc|texas|atto|syto|rhod|\bdi[io]\b|cell\s*mask|mito|draq|phrodo"
    r"|aggregat|puncta|propidium|calcein"
)
_TRANSMITTED_CONTRAST: Final = frozenset({"phase", "phasecontrast", "brightfield", "dic", "differentialinterference"})


def is_fluorescent(*, name: str, facts: Mapping[str, str]) -> bool | None:
    """Tell whether a channel shows fluorescence; None where its metadata do not say or contradict each other.

    Parameters
    ----------
    name
        The channel's name.
    facts
        Values of the metadata fields ``ContrastMethod``, ``Fluor``, ``DyeName``, ``EmissionWavelength``,
        ``IlluminationType``, where present.

    Notes
    -----
    A dye called "TL Phase" or a channel called "T-PMT" is transmitted light, whatever the other fields say: the
    acquisition software fills those with its defaults. Next in weight is the contrast method, then dye and emission,
    then the name, last the illumination.
    """
    # underscores are letters to a regular expression, and "Ch2_PhC" is a common kind of name
    label = name.replace("_", " ")
    dye = " ".join(facts.get(key, "") for key in ("Fluor", "DyeName")).replace("_", " ")
    contrast = facts.get("ContrastMethod", "").lower().replace(" ", "")
    if _TRANSMITTED.search(label) or _TRANSMITTED.search(dye):
        named_fluorescent = _FLUORESCENT.search(label) is not None
        return None if named_fluorescent and contrast == "fluorescence" else False
    if contrast == "fluorescence":
        return True
    if any(contrast.startswith(method) for method in _TRANSMITTED_CONTRAST):
        return False
    emission = parse_number(facts.get("EmissionWavelength"))
    if (emission is not None and emission > 0) or _FLUORESCENT.search(dye) or _FLUORESCENT.search(label):
        return True
    illumination = facts.get("IlluminationType", "").lower()
    if illumination in ("transmitted", "oblique"):
        return False
    return None
