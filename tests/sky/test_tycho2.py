from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import healpix_index, separation_deg, unit_vectors
from skylake.errors import CatalogError
from skylake.schema import arrow_schema
from skylake.sky.catalog_columns import catalog_schema
from skylake.sky.tycho2 import FOLDER, PACKAGE, read_tycho2, tycho2_columns

BYTE_ORDERS = {"<": "04:03:02:01", ">": "01:02:03:04"}
#: Largest error, arcsec, that half a step in each coordinate makes, with some room.
PRECISION = {"u32": 1e-4, "u16": 6.0, "float": 0.02, "double": 1e-9}


def one_column(name: str, rows: np.ndarray, form: str | None = None, **cards: Any) -> bytes:
    """Return a FITS binary table of one column, its rows stored as they are."""
    content = np.ascontiguousarray(rows).tobytes()
    width = len(content) // len(rows) if len(rows) else 0
    header = fits.Header(
        [
            ("XTENSION", "BINTABLE"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", width),
            ("NAXIS2", len(rows)),
            ("PCOUNT", 0),
            ("GCOUNT", 1),
            ("TFIELDS", 1),
            ("TFORM1", form or f"{width}A"),
            ("TTYPE1", name),
            *cards.items(),
        ]
    )
    return header.tostring().encode() + content + b"\0" * (-len(content) % 2880)


def packed(vectors: np.ndarray, kind: str, order: str) -> np.ndarray:
    if kind in ("float", "double"):
        return vectors.astype(order + ("f4" if kind == "float" else "f8"))
    bits = int(kind[1:])
    steps = (2.0**bits - 1) / 2
    return np.round((vectors + 1) * steps).astype(f"{order}u{bits // 8}")


def write_index(
    path: Path,
    stars: np.ndarray,
    order: str = "<",
    kind: str = "u32",
    scale: float = 0.0064,
    tile: tuple[int, int] = (0, -1),
    magnitudes: tuple[str, ...] = ("MAG_VT",),
) -> None:
    """Write stars (ra, dec, magnitude …) as an index file of astrometry.net does, without its patterns."""
    primary = fits.PrimaryHDU().header
    cards = {"ENDIAN": BYTE_ORDERS[order], "SCALE_L": scale, "HPNSIDE": tile[0], "HEALPIX": tile[1]}
    primary.update(cards | {"NSTARS": len(stars), "EXTEND": True})
    tree = {"ENDIAN": BYTE_ORDERS[order], "KDT_NDAT": len(stars), "KDT_NDIM": 3, "KDT_DATA": kind}
    bits = int(kind[1:]) if kind.startswith("u") else 32
    scaling = np.array([-1, -1, -1, 1, 1, 1, (2.0**bits - 1) / 2]).astype(order + "f8")
    vectors = unit_vectors(stars[:, 0], stars[:, 1])
    parts = [
        primary.tostring().encode(),
        one_column("quads", np.zeros((4, 4), order + "u4")),
        one_column("kdtree_header_codes", np.zeros((0, 1), "u1"), KDT_NAME="codes", KDT_NDIM=4),
        one_column("kdtree_data_codes", np.zeros((4, 4), order + "u2")),
        one_column("kdtree_header_stars", np.zeros((0, 1), "u1"), KDT_NAME="stars", **tree),
        one_column("kdtree_range_stars", scaling),
        one_column("kdtree_data_stars", packed(vectors, kind, order)),
        one_column("sweep", np.zeros(len(stars), "u1"), "1B"),
    ]
    # Magnitudes stand in columns of FITS proper, big-endian in every file.
    parts += [one_column(name, stars[:, 2 + k].astype(">f4"), "1E") for k, name in enumerate(magnitudes)]
    path.write_bytes(b"".join(parts))


def sky(n_stars: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    dec = np.degrees(np.arcsin(random.uniform(-1, 1, n_stars)))
    return np.stack([random.uniform(0, 360, n_stars), dec, *random.uniform(1, 14, (2, n_stars))], axis=1)


def stars_of(path: Path, batch_rows: int = 1000) -> pa.Table:
    batches = list(read_tycho2(path, batch_rows))
    assert all(batch.num_rows <= batch_rows for batch in batches)
    return pa.concat_tables(batches)


@given(
    st.integers(1, 60),
    st.integers(0, 99),
    st.sampled_from("<>"),
    st.sampled_from(sorted(PRECISION)),
    st.integers(1, 70),
)
def test_packed_stars_come_back(
    tmp_path_factory: pytest.TempPathFactory, n_stars: int, seed: int, order: str, kind: str, batch_rows: int
) -> None:
    path = tmp_path_factory.mktemp("index") / "index-tycho2-07.fits"
    stars = sky(n_stars, seed)
    write_index(path, stars, order, kind)
    found = stars_of(path, batch_rows)
    assert found.schema.equals(arrow_schema(catalog_schema(("VT",), ())), check_metadata=True)
    assert found.schema == arrow_schema(tycho2_columns(path).schema)
    ra, dec = found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy()
    assert 3600 * separation_deg(ra, dec, stars[:, 0], stars[:, 1]).max() < PRECISION[kind]
    assert np.array_equal(found["mag_VT"].to_numpy(), stars[:, 2].astype(np.float32))
    assert np.array_equal(found["_healpix_29"].to_numpy(), healpix_index(ra, dec))
    assert len(np.unique(found["ref_id"].to_numpy())) == n_stars
    assert found["mag_VT_err"].null_count == found["pm_ra_mas_yr"].null_count == n_stars


def test_stars_do_not_depend_on_byte_order_or_batches(tmp_path: Path) -> None:
    stars = sky(100)
    write_index(tmp_path / "little.fits", stars, "<")
    write_index(tmp_path / "big.fits", stars, ">")
    little = stars_of(tmp_path / "little.fits", 100)
    assert little.equals(stars_of(tmp_path / "big.fits", 7))


def test_poles_and_axes(tmp_path: Path) -> None:
    places = [(0, 90), (0, -90), (0, 0), (90, 0), (180, 0), (270, 0), (359.9999, 0)]
    stars = np.array([(ra, dec, 5.0) for ra, dec in places])
    write_index(tmp_path / "index.fits", stars)
    found = stars_of(tmp_path / "index.fits")
    separations = separation_deg(
        found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy(), stars[:, 0], stars[:, 1]
    )
    assert 3600 * separations.max() < PRECISION["u32"]


def test_more_magnitudes_make_more_bands(tmp_path: Path) -> None:
    stars = sky(10)
    write_index(tmp_path / "index.fits", stars, magnitudes=("MAG_BT", "MAG_VT"))
    found = stars_of(tmp_path / "index.fits")
    assert set(tycho2_columns(tmp_path / "index.fits").magnitudes) == {"VT", "BT"}
    assert np.array_equal(found["mag_BT"].to_numpy(), stars[:, 2].astype(np.float32))
    assert np.array_equal(found["mag_VT"].to_numpy(), stars[:, 3].astype(np.float32))


def test_of_a_folder_the_finest_scale_with_most_stars_is_read(tmp_path: Path) -> None:
    stars = sky(50)
    write_index(tmp_path / "index-tycho2-08.fits", stars, scale=0.009)
    write_index(tmp_path / "index-tycho2-07.littleendian.fits", stars, "<", scale=0.006)
    write_index(tmp_path / "index-tycho2-07.bigendian.fits", stars, ">", scale=0.006)
    write_index(tmp_path / "index-tycho2-05.fits", stars[:20], scale=0.003)
    write_index(tmp_path / "index-4200.fits", sky(80, 2), scale=0.001, magnitudes=("J",))
    assert stars_of(tmp_path).equals(stars_of(tmp_path / "index-tycho2-07.bigendian.fits"))


def test_stars_of_several_tiles_are_counted_once(tmp_path: Path) -> None:
    stars = sky(60)
    for number, rows in enumerate((slice(0, 30), slice(20, 50), slice(40, 60))):
        write_index(tmp_path / f"index-tycho2-07-{number}.fits", stars[rows], tile=(1, number))
    write_index(tmp_path / "whole.fits", stars)
    assert stars_of(tmp_path, 8).equals(stars_of(tmp_path / "whole.fits"))


def test_without_the_package_the_mend_is_told(tmp_path: Path) -> None:
    write_index(tmp_path / "index-4200.fits", sky(5), magnitudes=("J",))
    for path in (tmp_path, tmp_path / "absent", tmp_path / "index-4200.fits"):
        with pytest.raises(CatalogError, match=f"apt-get install {PACKAGE}") as caught:
            next(read_tycho2(path))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("lost", [1, 3000, 20_000])
def test_a_damaged_file_is_told_by_name(lost: int, tmp_path: Path) -> None:
    path = tmp_path / "index-tycho2-07.fits"
    write_index(path, sky(2880))
    path.write_bytes(path.read_bytes()[: -2880 * 4 - lost])
    with pytest.raises(CatalogError, match=r"index-tycho2-07\.fits"):
        list(read_tycho2(path))


def test_tables_that_differ_in_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index-tycho2-07.fits"
    write_index(path, sky(20))
    content = path.read_bytes()
    start = content.rindex(b"NAXIS2")
    path.write_bytes(
        content[:start] + content[start : start + 80].replace(b"20", b"19") + content[start + 80 :]
    )
    with pytest.raises(CatalogError, match="differ in length"):
        list(read_tycho2(path))


@pytest.fixture(scope="module")
def tycho2() -> pa.Table:
    if not list(FOLDER.glob("index-tycho2-07*.fits")):
        pytest.skip(f"the package {PACKAGE} is not installed")
    return pa.concat_tables(read_tycho2())


def test_the_package_holds_the_whole_sky(tycho2: pa.Table) -> None:
    assert tycho2.num_rows == 1_871_011
    assert len(np.unique(tycho2["ref_id"].to_numpy())) == tycho2.num_rows
    magnitudes = tycho2["mag_VT"].to_numpy()
    assert (magnitudes.min(), magnitudes.max()) == (np.float32(0.137), np.float32(15.193))
    counts = np.bincount(tycho2["_healpix_29"].to_numpy() >> 2 * (29 - 3), minlength=768)
    assert counts.min() > 500


def test_the_package_agrees_with_hipparcos_and_tycho(tycho2: pa.Table) -> None:
    folder = os.environ.get("SKYLAKE_REAL_DATA")
    if not folder or not (Path(folder) / "catalogs/bigsky_v11.parquet").is_file():
        pytest.skip("SKYLAKE_REAL_DATA is not set or lacks catalogs/bigsky_v11.parquet")
    from scipy.spatial import cKDTree

    known = pq.read_table(
        Path(folder) / "catalogs/bigsky_v11.parquet", columns=["ra", "dec", "V", "B-V"]
    ).to_pandas()
    known = known[known["V"] < 10]
    tree = cKDTree(unit_vectors(tycho2["ra_deg"].to_numpy(), tycho2["dec_deg"].to_numpy()))
    chord, star = tree.query(unit_vectors(known["ra"], known["dec"]), distance_upper_bound=2.4e-5)
    separation = chord * 206_265
    assert np.mean(separation < 2.0) > 0.99
    # The other catalog is rounded to 0.36 arcsec; that alone makes a median of 0.13.
    assert np.median(separation) < 0.17
    matched = separation < 2.0
    excess = tycho2["mag_VT"].to_numpy()[star[matched]] - known["V"][matched]
    colour = known["B-V"][matched]
    usual = (np.abs(excess) < 0.5) & (colour > -0.2) & (colour < 1.8)
    slope, offset = np.polyfit(colour[usual], excess[usual], 1)
    # V = VT - 0.090 (BT - VT) and B - V = 0.85 (BT - VT): ESA 1997, SP-1200, vol. 1, sec. 1.3.
    assert slope == pytest.approx(0.090 / 0.850, abs=0.02)
    assert abs(offset) < 0.03
