"""Light curves of stars that no catalog has, and the choices of all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

import skylake
from skylake import cameras
from skylake.errors import LakeError, UsageError
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.lake import Lake
from skylake.reading.reader import LakeReader
from skylake.sky.sky_region import SkyRegion


@pytest.fixture(scope="module")
def transient(demo: Path) -> dict[str, Any]:
    """The star of the demo that the catalog lacks."""
    stars = pq.read_table(demo.parent / "archive" / "truth" / "stars.parquet")
    (found,) = stars.filter(pc.equal(stars["variable_class"], "transient")).to_pylist()
    return dict(found)


def test_a_star_that_no_catalog_has_is_as_bright_as_the_view_says(
    lake: LakeReader, transient: dict[str, Any]
) -> None:
    place = transient["ra_deg"], transient["dec_deg"]
    curve = lake.lightcurve(*place, measured="detected")
    assert (curve.catalog, curve.measured) == ("sources", "detected")
    assert curve.separation_arcsec is not None and curve.separation_arcsec < 1.0
    view = lake.cone("calibrated_sources", *place, 10).pandas().sort_values("mjd_mid")
    points = curve.pandas()
    assert len(points) == len(view) >= 3
    for name in ("frame_id", "source_no", "flags"):
        assert points[name].tolist() == view[name].tolist()
    for name in ("mag", "mag_err", "mag_random_err", "mag_systematic_err"):
        assert points[name].to_numpy() == pytest.approx(view[name].to_numpy(), rel=2e-6)
    assert curve.bands[0]["ref_colour"] is None and curve.bands[0]["n_points"] == len(points)


def test_its_number_leads_to_it(lake: LakeReader, transient: dict[str, Any]) -> None:
    curve = lake.lightcurve(transient["ra_deg"], transient["dec_deg"])
    assert lake.lightcurve(curve.object_id).arrow().equals(curve.arrow())


def test_objects_of_a_camera_lead_to_the_curve_of_their_star(
    lake: LakeReader, transient: dict[str, Any]
) -> None:
    objects = lake.objects().pandas()
    objects = objects[objects["n_good"] >= 3]
    away = np.hypot(
        (objects["ra_deg"] - transient["ra_deg"]) * np.cos(np.radians(transient["dec_deg"])),
        objects["dec_deg"] - transient["dec_deg"],
    )
    new = objects.iloc[away.argmin()]
    assert np.isnan(new["ref_id"]) and away.min() < 2.0 / 3600.0
    own = lake.lightcurve(int(new["object_id"]))
    assert own.object_id == int(new["object_id"])
    at_place = lake.lightcurve(transient["ra_deg"], transient["dec_deg"])
    assert at_place.object_id == own.object_id and at_place.separation_arcsec < 2.0
    assert own.arrow().equals(lake.lightcurve(transient["ra_deg"], transient["dec_deg"]).arrow())
    star = objects[objects["ref_id"].notna()].nlargest(1, "n_good").iloc[0]
    assert lake.lightcurve(int(star["object_id"])).object_id == int(star["ref_id"])


def test_its_magnitudes_are_those_of_truth(lake: LakeReader, demo: Path, transient: dict[str, Any]) -> None:
    place = transient["ra_deg"], transient["dec_deg"]
    curve = lake.lightcurve(*place, measured="detected").pandas()
    folder = demo.parent / "archive" / "truth" / "detections"
    seen = pq.ParquetDataset(folder, filters=[("star_id", "=", transient["star_id"])]).read().to_pandas()
    assert len(curve) <= len(seen)
    # It fades: the faintest and the brightest point are where they should be, with a colour that nobody knows.
    assert np.ptp(curve["mag"]) > 0.3
    assert (curve["mag_systematic_err"] > 0.01).all()


def test_a_star_of_the_catalog_beside_it_keeps_its_own_curve(
    lake: LakeReader, transient: dict[str, Any]
) -> None:
    near = lake.objects(transient["ra_deg"], transient["dec_deg"], 600, matched=True).pandas().iloc[0]
    curve = lake.lightcurve(near.ra_deg, near.dec_deg)
    assert (curve.object_id, curve.catalog) == (near.ref_id, "simcat")


def test_it_is_measured_where_it_was_not_yet_seen_too(lake: LakeReader, transient: dict[str, Any]) -> None:
    place = transient["ra_deg"], transient["dec_deg"]
    forced, detected = lake.lightcurve(*place), lake.lightcurve(*place, measured="detected")
    assert (forced.catalog, forced.measured) == ("detections", "forced")
    assert set(detected.pandas()["frame_id"]) < set(forced.pandas()["frame_id"])


@pytest.mark.parametrize("by_place", [True, False])
def test_what_is_not_measured_as_wished_is_explained_and_the_advice_helps(
    by_place: bool, lake: LakeReader, transient: dict[str, Any]
) -> None:
    """The list of targets has the new star alone: star 2 of the catalog is none."""
    listed, new = lake.lightcurve(2), lake.lightcurve(transient["ra_deg"], transient["dec_deg"])
    star = (listed.ra_deg, listed.dec_deg) if by_place else (2,)
    target = (new.ra_deg, new.dec_deg) if by_place else (new.object_id,)

    def said(of: tuple[Any, ...], **options: Any) -> str:
        with pytest.raises((LakeError, UsageError)) as error:
            lake.lightcurve(*of, **options)
        return str(error.value)

    for flux, words in (
        ("best", "forced, or"),
        ("aper1", "forced, or"),
        ("psf", "forced and --flux psf, or"),
    ):
        sentence = said(star, measured="forced", flux=flux)
        assert sentence.startswith("star 2 of simcat at 197.31")
        assert f"no forced light curve, only one of its detections; leave out --measured {words}" in sentence
        assert len(lake.lightcurve(*star, flux="best" if flux == "psf" else flux)) == len(listed)
    for measured in (None, "detected"):
        sentence = said(star, measured=measured, flux="psf")
        assert (
            "measured of targets only, and there are no such measurements of this star; leave out --flux"
            in sentence
        )
        for flux in ("best", "aper1", "aper2", "aper3"):
            assert len(lake.lightcurve(*star, measured=measured, flux=flux)) == len(listed)
    sentence = said(target, measured="detected", flux="psf")
    assert (
        f"the flux psf of star {new.object_id}" in sentence
        and "leave out --measured detected, or name" in sentence
    )
    assert len(lake.lightcurve(*target, flux="psf", detrend="ensemble")) > 3
    assert lake.lightcurve(*target, measured="detected", flux="aper1").measured == "detected"


@pytest.mark.parametrize("of_catalog", [True, False])
def test_barycentric_times_are_those_of_astropy(
    of_catalog: bool, lake: LakeReader, transient: dict[str, Any]
) -> None:
    curve = lake.lightcurve(2) if of_catalog else lake.lightcurve(transient["ra_deg"], transient["dec_deg"])
    site = cameras.load("sim").base.site
    place = EarthLocation.from_geodetic(site.longitude_deg, site.latitude_deg, site.height_m)
    points = curve.pandas()
    with iers.conf.set_temp("auto_download", False):
        times = Time(points["mjd_mid"].to_numpy(), format="mjd", scale="utc", location=place)
        star = SkyCoord(curve.ra_deg, curve.dec_deg, unit="deg")
        expected = (times.tdb + times.light_travel_time(star)).jd
    assert np.abs(points["bjd_tdb"].to_numpy() - expected).max() * 86400.0 < 0.02


def test_the_version_in_force_may_be_named(lake: LakeReader) -> None:
    curve = lake.lightcurve(2)
    again = lake.lightcurve(2, version=1)
    assert len(again) == len(curve)
    for name in ("mag", "mag_random_err", "bjd_tdb"):
        assert again.pandas()[name].to_numpy() == pytest.approx(curve.pandas()[name].to_numpy(), rel=1e-9)
    with pytest.raises(
        LakeError, match="no calibration of version 4 of the frames that show the star; they have 1"
    ):
        lake.lightcurve(2, version=4)


def test_another_aperture_agrees_within_its_errors(lake: LakeReader) -> None:
    usual, small = (lake.lightcurve(2, flux=flux).pandas() for flux in ("calibrated", "aper1"))
    assert lake.lightcurve(2, flux="aper1").bands[0]["flux_used"] == "aper1"
    apart = (small["mag"] - usual["mag"]).to_numpy()
    assert 0.0 < np.abs(apart).max() < 0.1
    assert np.median(np.abs(apart) / np.hypot(small["mag_err"], usual["mag_err"])) < 2.0


def test_points_are_chosen_by_night_and_time(lake: LakeReader) -> None:
    every = lake.lightcurve(2).pandas()
    nights = lake["frames"].pandas(["frame_id", "night"]).set_index("frame_id").night
    first = every[every.frame_id.map(nights) == 20240407]
    assert 0 < len(first) < len(every)
    for end in (20240407, "20240407", "2024-04-07", datetime(2024, 4, 8, 12), 60408.5):
        assert lake.lightcurve(2, end=end).pandas().frame_id.tolist() == first.frame_id.tolist()
    assert len(lake.lightcurve(2, start=60408.5)) == len(every) - len(first)
    with pytest.raises(UsageError, match="start is 'soon'; give a night"):
        lake.lightcurve(2, start="soon")


def test_bins_and_phases(lake: LakeReader) -> None:
    folded = lake.lightcurve(2, period_d=0.5467, epoch_bjd=2460408.703, bin_d=0.05)
    assert folded.columns[:5] == ("camera", "band", "bjd_tdb", "mjd_mid", "phase")
    assert folded.pandas()["n_points"].sum() == len(lake.lightcurve(2))
    assert folded.units["mag"] == "mag"
    with pytest.raises(UsageError, match="period_d is 0; give days"):
        lake.lightcurve(2, period_d=0)
    with pytest.raises(UsageError, match="a light curve has no option 'bins'; it has radius_arcsec"):
        lake.lightcurve(2, bins=1)  # type: ignore[call-overload]


def test_objects_of_a_cone_are_those_in_force_matched_or_new(lake: LakeReader) -> None:
    rows = lake.objects(197.31655, -19.82025, 1200)
    found = rows.pandas()
    (count,) = lake.sql("SELECT count(*) AS n FROM objects_in_force").arrow()["n"].to_pylist()
    assert len(lake.objects()) == count >= len(found)
    inside = (
        lake["objects"].arrow(["object_id", "status"], cone=(197.31655, -19.82025, 1200 / 3600)).to_pylist()
    )
    assert sorted(found.object_id) == sorted(
        row["object_id"] for row in inside if row["status"] == "qualified"
    )
    assert found.mag_mean.dropna().is_monotonic_increasing and not {"status", "joined_to"} & set(rows.columns)
    assert rows.units["mag_mean"] == "mag" and rows.units["ra_deg"] == "deg"
    star = lake.lightcurve(2)
    (mine,) = (row for row in rows.arrow().to_pylist() if row["ref_id"] == 2)
    assert mine["n_matched"] == star.bands[0]["n_points"]
    assert abs(mine["mag_mean"] - star.bands[0]["mag_median"]) < 0.1 + 3 * mine["mag_scatter"]
    matched, new = (lake.objects(matched=one) for one in (True, False))
    assert len(matched) + len(new) == count and len(new) > 0
    some = lake.objects(197.31655, -19.82025, 1200, mag=(10.0, 12.0), least_detections=3).pandas()
    assert some.mag_mean.between(10.0, 12.0).all() and 0 < len(some) < len(found)


def test_objects_of_a_camera_a_band_and_a_coverage_map(lake: LakeReader, tmp_path: Path) -> None:
    all_rows = lake.objects().arrow()
    camera, band = all_rows["camera"][0].as_py(), all_rows["band"][0].as_py()
    assert len(lake.objects(camera=camera)) == all_rows.num_rows
    of_band = lake.objects(band=band).arrow()
    assert set(of_band["band"].to_pylist()) == {band} and "more_bands" not in of_band.column_names
    moc = tmp_path / "cone.txt"
    moc.write_text(SkyRegion.of_cone(197.31655, -19.82025, 0.3).moc_text)
    within = lake.objects(moc=moc).arrow()["object_id"].to_pylist()
    inside = lake.objects(197.31655, -19.82025, 1080).arrow()["object_id"].to_pylist()
    assert set(inside) <= set(within) and len(within) <= 1.4 * len(inside) < all_rows.num_rows
    for options, words in (
        ({"camera": "none"}, f"no objects of the camera 'none'; it has those of {camera}"),
        ({"band": "Q"}, f"seen in the band 'Q'; their bands are {band}"),
        ({"colour": 1}, "objects have no option 'colour'; they have moc"),
        ({"ra": 10.0}, "a position is ra and dec"),
        *(
            ({"mag": mag}, r"mag is \(brightest, faintest\), as in \(9, 12\)")
            for mag in (9, (12, 9), (9,), "ab", None, (9, math.nan))
        ),
    ):
        with pytest.raises(UsageError, match=words):
            lake.objects(**options)  # type: ignore[arg-type]


def test_a_check_star_is_constant_near_and_as_bright(lake: LakeReader) -> None:
    from skylake.report.curves import curve_of_object
    from skylake.report.stars.constant_star import constant_star_near

    curve = curve_of_object(lake._snapshot, 2)
    found = constant_star_near(lake._snapshot, curve)
    assert found is not None
    # Stars 1 to 3 of the demo vary; star 1 is the one that is most alike in brightness.
    assert found["object_id"] not in (1, 2, 3)
    assert abs(found["bands"][0]["mag_median"] - curve["bands"][0]["mag_median"]) < 2.0
    mags = np.array([point["mag"] for point in found["points"]])
    assert mags.std() < 0.03 and len(mags) >= 0.8 * len(curve["points"])


@pytest.fixture(scope="module")
def with_variables(
    demo: Path, copy_lake: Callable[[Path, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> LakeReader:
    """A copy of the lake with a catalog of variable stars: star 2 under the name V0376 Peg, and one far away."""
    folder = tmp_path_factory.mktemp("variables")
    path = copy_lake(demo, folder / "lake")
    star = skylake.open(path).lightcurve(2)
    rest = "RRAB,,9.0,,V,,,9.5,,V,,,,0.5467,,"
    lines = [f"37,V0376 Peg,0,{star.ra_deg + 0.0005},{star.dec_deg},{rest}", f"38,RR Lyr,0,10.0,80.0,{rest}"]
    (folder / "vsx.csv").write_text("\n".join(lines) + "\n")
    import_catalog(Lake(path), "vsx", "vsx", [folder / "vsx.csv"])
    return skylake.open(path)


@pytest.mark.parametrize("name", ["V0376 Peg", "v376 peg", "V376  PEG"])
def test_names_of_variable_stars_need_no_network(name: str, with_variables: LakeReader) -> None:
    assert with_variables.lightcurve(name).object_id == 2


def test_a_variable_star_that_is_not_there_is_one_sentence(with_variables: LakeReader) -> None:
    with pytest.raises(
        LakeError, match=r"RR Lyr is at 10\.00000 \+80\.00000 by vsx, but there is no light curve"
    ):
        with_variables.lightcurve("RR Lyr")
    with pytest.raises(LakeError, match="there is no light curve of the star SS Cyg"):
        with_variables.lightcurve("SS Cyg")


@pytest.fixture
def sesame(lake: LakeReader, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name service that knows star 2 as ``My Star``."""
    from astropy.coordinates.name_resolve import sesame_url

    star = lake.lightcurve(2)

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = "My" in self.path
            text = f"%J {star.ra_deg} {star.dec_deg} = here\n" if known else "#! nothing found\n"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with sesame_url.set([f"http://127.0.0.1:{server.server_port}/"]):
        yield "My Star"
    server.shutdown()
    server.server_close()
    thread.join()


def test_sesame_is_asked_only_if_that_is_wanted(lake: LakeReader, sesame: str) -> None:
    assert lake.lightcurve(sesame, sesame=True).object_id == 2
    with pytest.raises(LakeError, match="there is no light curve of the star My Star"):
        lake.lightcurve(sesame)
    with pytest.raises(
        LakeError, match=r"nowhere: Sesame gives no position .*; name the star by its position"
    ):
        lake.lightcurve("nowhere", sesame=True)
