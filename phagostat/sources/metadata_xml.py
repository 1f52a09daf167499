"""Metadata XML parsed safely: no entities, no external references."""

from __future__ import annotations

import math
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException


def parse_xml(raw: bytes) -> Element | None:
    """Parse metadata XML safely (no entities, no external references); None where it does not parse."""
    try:
        root: Element = SafeTree.fromstring(raw.strip(b"\0 \r\n\t"))
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None
    return root


def parse_number(text: str | None) -> float | None:
    """Parse a finite number; None for anything else."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
