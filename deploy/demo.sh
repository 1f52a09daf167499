#!/bin/sh
# Set up phagostat and run it on a demonstration acquisition; the results land in demo/ (or in the folder given).
set -u
. "$(dirname -- "$0")/setup.sh"
install "" || exit $?

out=${1:-$top/demo}
mkdir -p "$out" || exit 3
if [ ! -f "$out/acquisition.czi" ]; then
    "$venv/bin/phagostat" simulate "$out/.acquisition.czi" --force --scenes 2 --frames 30 --size 1024 --seed 1 || exit $?
    mv "$out/.acquisition.truth" "$out/acquisition.truth" && mv "$out/.acquisition.czi" "$out/acquisition.czi" || exit 3
fi
"$venv/bin/phagostat" run "$out/acquisition.czi" -o "$out/results" || exit $?
echo
echo "The acquisition is $out/acquisition.czi (its truth beside it), its results are in $out/results:"
echo "  acquisition/tables/*.parquet   numbers per frame, aggregate, cell, track and scene (docs/tables.md)"
echo "  acquisition/images.zarr        normalised images, labels of aggregates and cells (any OME-Zarr viewer)"
echo "See how it stands:  $venv/bin/phagostat status $out/results"
echo "Look at it all:     $venv/bin/phagostat report $out/results"
