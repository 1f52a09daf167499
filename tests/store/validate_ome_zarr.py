"""Run in an environment of its own (pydantic 2): validate OME-Zarr 0.5 groups, given as KIND=PATH, one line each."""

import sys

import zarr
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

KINDS = {kind.__name__: kind for kind in (BioFormats2Raw, Image, ImageLabel, Labels)}

for argument in sys.argv[1:]:
    name, _, path = argument.partition("=")
    try:
        KINDS[name].from_zarr(zarr.open_group(path, mode="r"))
        print("valid")
    except Exception as error:
        print(f"invalid {type(error).__name__}: {str(error)[:500]!r}")
