"""OME-Zarr layout, commit log and integrity of an output."""
