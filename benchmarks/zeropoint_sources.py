"""Whether zeropoints from forced photometry of catalog stars are better than those from detections.

Needs: skylake alone. Takes about 6 minutes on one core, 2 minutes with --quick.

Simulated frames of 1024 x 1024, each of a field of its own: of 1,000 stars that can be seen, and crowded ones of 6,000
(14,000 stars of the catalog). Catalog stars are the targets of forced photometry, however faint. The same fit gets
detections (`matches`, with the light of neighbours as the catalog knows it) and forced fluxes at the places of the
catalog (hybrid, plain and those of the fit of the point spread function); stars to S/N 20, 10 and 5.

Forced fluxes do not depend on what was detected, and could use fainter stars. What it is worth is their distance from
the true zeropoint: its mean, its scatter, and pulls.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from claims import Claim, conclude

from skylake import cameras
from skylake.calibration.match_selection import Band
from skylake.calibration.zeropoints import zeropoints_table
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.lake import Lake, Snapshot
from skylake.settings import Settings
from skylake.simulate import AtmosphereParams, Scenario, ScheduleParams, StarParams, simulate
from skylake.sky.catalog_columns import CatalogColumns

COLUMNS = CatalogColumns(
    ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec",
    magnitudes={"V": "V"}, magnitude_errors={"V": "V_err"}, colours={"B-V": "B-V"},
)  # fmt: skip
#: Largest errors of stars that take part, and the forced fluxes, with the apertures whose corrections they have.
ERRORS = (0.05, 0.1, 0.2)
FLUXES = ("hybrid2", "aper2", "psf")


def main() -> None:
    """Simulate both fields and print tables and claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="16 frames of each field instead of 60")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    claims: list[Claim] = []
    for name, stars in (("1,000 stars", 1000), ("6,000 stars", 6000)):
        with tempfile.TemporaryDirectory(prefix="skylake-benchmark-") as folder:
            claims += compared(Path(folder), name, stars, 16 if options.quick else 60, options.seed)
    conclude(claims)


def compared(root: Path, name: str, stars: int, n_frames: int, seed: int) -> list[Claim]:
    """Compare zeropoints from both with the truth."""
    scenario = Scenario(
        nights=1,
        frames_per_night=n_frames,
        seed=seed,
        stars=StarParams(per_frame=stars),
        schedule=ScheduleParams(fields=n_frames, target_fraction=0.0),
        atmosphere=AtmosphereParams(cloudy_fraction=0.1),
    )
    made = simulate(scenario, root / "archive", 1)
    lake, profile = Lake.create(root / "lake", Settings(cluster="inline")), cameras.load("sim")
    import_catalog(lake, "simcat", "table", [made.catalog], COLUMNS)
    images = [root / "archive" / "frames"]
    ingest(lake, profile, images, Inline())
    make_targets(lake, "sim", TargetOptions(catalog="simcat"), Inline())
    ingest(lake, profile, images, Inline(), IngestOptions(redo=True))
    calibrate(lake, Inline(), choice=Choice(method=Method.FRAME))
    snapshot, camera = lake.snapshot(), profile.base
    frames, matches = snapshot.read("frames"), snapshot.read("matches")
    truth = _truth(frames, made.truth_frames)
    sources = {"detections": matches}
    sources |= {f"forced, {flux}": _as_matches(snapshot, made.catalog, flux) for flux in FLUXES}
    print(f"\n{name}, {n_frames} frames, mmag")
    print(f"{'':32s} {'bias':>8s} {'scatter':>8s} {'pull':>6s} {'width':>6s} {'stars':>6s}")
    found = {}
    for source, rows in sources.items():
        for error in ERRORS:
            limits = replace(camera.calibration, max_mag_err=error)
            band = Band(camera.filters["V"], camera.apertures.flux, limits)
            table = zeropoints_table(frames, rows, {"V": band}, "simcat", 1)
            table = table.filter(pc.is_valid(table["zp"]))
            off = table["zp"].to_numpy() - [truth[one] for one in table["frame_id"].to_pylist()]
            pull = off / table["zp_err"].to_numpy()
            found[source, error] = 1e3 * abs(off.mean()), 1e3 * off.std()
            print(
                f"{source:18s} error < {error:4.2f} {1e3 * off.mean():+8.2f} {1e3 * off.std():8.2f} "
                f"{pull.mean():+6.2f} {pull.std():6.2f} {np.median(table['n_used'].to_numpy()):6.0f}"
            )
    rms = {key: float(np.hypot(*one)) for key, one in found.items()}
    ours, peer = rms["detections", ERRORS[0]], min(rms[f"forced, {flux}", ERRORS[0]] for flux in FLUXES)
    return [
        Claim(f"{name}: rms error of zeropoints [mmag], detections and the best forced flux", ours, peer, 6.0)
    ]


def _truth(frames: pa.Table, file: Path) -> dict[int, float]:
    """Return the true zeropoint of each frame."""
    rows = pq.read_table(file)
    by_file = dict(zip(rows["file"].to_pylist(), rows["zp"].to_pylist(), strict=True))
    ids = zip(frames["frame_id"].to_pylist(), frames["file"].to_pylist(), strict=True)
    return {number: next(zp for one, zp in by_file.items() if name.endswith(one)) for number, name in ids}


def _as_matches(snapshot: Snapshot, catalog: Path, flux: str) -> pa.Table:
    """Return forced measurements of catalog stars as rows of matches, so that the same fit takes them."""
    forced, targets = snapshot.read("forced_sources"), snapshot.read("targets")
    listed = targets["ref_id"].take(pc.index_in(forced["star_id"], targets["star_id"]))
    known = pc.is_valid(listed)
    forced, listed = forced.filter(known), listed.filter(known)
    stars = pq.read_table(catalog)
    stars = stars.take(pc.index_in(listed, stars["id"].cast(listed.type)))
    frames = snapshot.read("frames", ["frame_id", "apcor_aper2"])
    place = pc.index_in(forced["frame_id"], frames["frame_id"])
    # A flux of the fit is a total one, which the correction of the frame would make another time.
    total = frames["apcor_aper2"].take(place).to_numpy()
    relative = forced["apcor_rel_aper2"].to_numpy() if flux != "psf" else 1.0 / total
    n = forced.num_rows
    columns = {
        "flux_aper2": forced[f"flux_{flux}"].to_numpy(),
        "flux_aper2_err": forced[f"flux_{flux}_err"].to_numpy(),
        "apcor_rel_aper2": relative,
        "ref_mag": stars["V"].to_numpy(),
        "ref_mag_err": stars["V_err"].to_numpy(),
        "ref_colour": stars["B-V"].to_numpy(),
        "altitude_deg": np.full(n, np.nan),
    }
    nothing = ("ref_colour_err", "ref_crowding", "ref_crowding_err", "ref_sky_light", "crowding")
    columns |= {name: np.zeros(n) for name in nothing}
    arrays = {
        name: pa.array(np.asarray(values, np.float32), from_pandas=True) for name, values in columns.items()
    }
    kept = {name: forced[name] for name in ("frame_id", "flags", "x_px", "y_px")}
    return pa.table({**kept, "ref_id": listed, **arrays, "is_variable": pa.nulls(n, pa.bool_())})


if __name__ == "__main__":
    main()
