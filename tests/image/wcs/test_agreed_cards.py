"""Cards of a WCS that contradict one another: what is taken is right on the sky, and is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from skylake.core.camera import Camera, Optics
from skylake.core.doubts import Doubt
from skylake.core.sphere import separation_deg
from skylake.errors import FrameRejected
from skylake.image.wcs.agreed_cards import agreed_cards
from skylake.image.wcs.header_wcs import header_pointing

SHAPE = (300, 420)
SCALE = 11.0 / 3600.0
X, Y = np.meshgrid(np.linspace(0.0, SHAPE[1] - 1.0, 5), np.linspace(0.0, SHAPE[0] - 1.0, 4))


def turned(angle_deg: float, scale: float = SCALE) -> np.ndarray[Any, Any]:
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    return scale * np.array([[-cosine, sine], [sine, cosine]])


def matrix(name: str, values: np.ndarray[Any, Any]) -> dict[str, float]:
    return {f"{name}{i + 1}_{j + 1}": float(values[i, j]) for i in (0, 1) for j in (0, 1)}


def header(projection: str = "TAN", cd: bool = True, **cards: Any) -> fits.Header:
    """A header of a field at 31 -17, whose y axis is at a position angle of 25 degrees."""
    made = fits.Header()
    made.update(
        {"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": 31.0, "CRVAL2": -17.0}
    )
    made.update({"CRPIX1": SHAPE[1] / 2 + 0.5, "CRPIX2": SHAPE[0] / 2 + 0.5})
    made.update(matrix("CD", turned(25.0)) if cd else {})
    made.update(cards)
    return made


def point(made: fits.Header, **optics: float) -> Any:
    return header_pointing(made, Camera("lab", optics=Optics(**optics)), SHAPE, (0, 0))


def away_arcsec(made: fits.Header, truth: fits.Header) -> float:
    """Return how far the pixels of a header are from where another one puts them, at most."""
    ra, dec = WCS(truth).all_pix2world(X.ravel(), Y.ravel(), 0)
    return float(separation_deg(*point(made).to_sky(X.ravel(), Y.ravel()), ra, dec).max() * 3600.0)


def only(made: fits.Header) -> Doubt:
    (doubt,) = agreed_cards(made)[1]
    for source, value in doubt.stated:
        assert source in doubt.sentence and value in doubt.sentence
    return doubt


def test_cd_is_taken_where_pc_differs() -> None:
    made = header(CDELT1=1.0, CDELT2=1.0, **matrix("PC", turned(61.0)))
    before = made.copy()
    assert away_arcsec(made, header()) < 1e-6 and point(made).rotation_deg == pytest.approx(25.0, abs=1e-3)
    doubt = only(made)
    assert (doubt.quantity, doubt.taken, doubt.reason) == ("wcs", "CD1_1 …", None)
    assert "25.000 deg" in doubt.sentence and "61.000 deg" in doubt.sentence
    assert made == before


def test_matrices_that_agree_or_say_nothing_leave_no_doubt() -> None:
    steps = {"CDELT1": -SCALE, "CDELT2": SCALE}
    same = matrix("PC", turned(25.0) / np.array([[-SCALE], [SCALE]]))
    for cards in (steps | same, {"PC1_1": 1.0, "PC2_2": 1.0}, steps | {"CROTA2": 0.0}):
        made = header(**cards)
        assert agreed_cards(made)[1] == () and away_arcsec(made, header()) < 1e-4
    assert only(header(**steps, PC1_1=1.0)).taken == "CD1_1 …"


def test_a_rotation_beside_pc_is_doubted_where_it_differs() -> None:
    steps = {"CDELT1": -SCALE, "CDELT2": SCALE}
    pc = matrix("PC", turned(25.0) / np.array([[-SCALE], [SCALE]]))
    truth = header(cd=False, **steps, **pc)
    made = header(cd=False, **steps, **pc, CROTA2=70.0)
    assert only(made).taken == "PC1_1 …" and away_arcsec(made, truth) < 1e-4
    # CROTA2 turns the other way than the position angle where east is to the left.
    assert agreed_cards(header(cd=False, **steps, **pc, CROTA2=-25.0))[1] == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("CRVAL1", 41.0), ("CTYPE1", "RA---ZEA"), ("CD1_2", 0.0), ("A_ORDER", 3), ("PV2_1", 0.97)],
)
def test_a_card_that_stands_twice_with_other_values_leaves_no_wcs(name: str, value: Any) -> None:
    made = header()
    made.setdefault("A_ORDER", 2)
    made.setdefault("PV2_1", 1.0)
    made.append((name, made[name]))
    assert not any(doubt.reason for doubt in agreed_cards(made)[1])
    made.append((name, value))
    with pytest.raises(FrameRejected, match="its stars show where it points") as caught:
        point(made)
    doubt = only(made)
    assert (caught.value.reason, doubt.taken) == ("no_wcs", "") and doubt.sentence in str(caught.value)
    assert [source for source, _ in doubt.stated] == [name, name]


@pytest.mark.parametrize("factor", [1.0 / 3600.0, 1e-6, 0.02])
def test_a_scale_that_no_camera_has_is_refused(factor: float) -> None:
    made = header(**matrix("CD", turned(25.0, SCALE * factor)))
    arcsec = f"{SCALE * factor * 3600.0:.4g}"
    if factor * SCALE * 3600.0 >= 0.1:
        assert point(made).pixel_scale_arcsec == pytest.approx(0.22, rel=1e-6)
        return
    with pytest.raises(FrameRejected, match=f"{arcsec} arcsec per pixel.*its stars show where") as caught:
        point(made)
    assert caught.value.reason == "no_wcs"
    # The fix, for a camera that has it.
    assert point(made, pixel_scale_arcsec=SCALE * factor * 3600.0).pixel_scale_arcsec == pytest.approx(
        SCALE * factor * 3600.0, rel=1e-6
    )


def polynomials(**more: float) -> dict[str, float]:
    """Coefficients of SCAMP, which bend the image by some pixels."""
    return {"PV1_0": -0.011, "PV1_1": 0.993, "PV1_2": 0.006, "PV1_4": 3e-3,
            "PV2_0": 0.008, "PV2_1": 1.008, "PV2_2": -0.002, "PV2_4": -1e-3} | more  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"PV1_7": 2e-3, "PV2_9": -2e-3}])
def test_polynomials_of_scamp_beside_tan_are_those_of_tpv(more: dict[str, float]) -> None:
    cards = polynomials(**more)
    assert away_arcsec(header(**cards), header("TPV", **cards)) < 1e-4
    assert point(header(**cards)).pixel_scale_arcsec == pytest.approx(11.0, rel=0.02)
    assert agreed_cards(header(**cards))[1] == (), "as usual as it is, it is no contradiction"
    identity = header(PV1_1=1.0, PV2_1=1.0)
    assert away_arcsec(identity, header()) < 1e-4 and agreed_cards(identity)[1] == ()


def test_the_scale_of_polynomials_without_a_card_is_one() -> None:
    cards = polynomials(PV2_7=1e-3, PV1_1=1.0)
    whole = header("TPV", **cards)
    del cards["PV1_1"]
    assert away_arcsec(header(**cards), whole) < 1e-4


SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 4e-6, "B_1_1": -3e-6}


def test_a_named_sip_counts_more_than_what_scamp_left() -> None:
    made = header("TAN-SIP", **SIP, **polynomials(PV1_7=2e-3))
    assert away_arcsec(made, header("TAN-SIP", **SIP)) < 1e-6
    assert only(made).taken == "SIP" and "CTYPE1 = 'RA---TAN-SIP' names it" in only(made).sentence
    left_over = header("TAN-SIP", **SIP, PV1_1=1.0, PV2_1=1.0, PV2_2=0.0)
    assert away_arcsec(left_over, header("TAN-SIP", **SIP)) < 1e-6 and agreed_cards(left_over)[1] == ()


def test_scamp_counts_more_than_a_sip_that_is_not_named() -> None:
    cards = polynomials(PV1_7=2e-3)
    for projection in ("TAN", "TPV"):
        made = header(projection, **SIP, **cards)
        assert away_arcsec(made, header("TPV", **cards)) < 1e-4
        assert only(made).taken == "SCAMP" and "names no SIP" in only(made).sentence
    zero = dict.fromkeys(("A_2_0", "B_1_1"), 0.0)
    assert agreed_cards(header(**(SIP | zero), **cards))[1] == ()
    # Of SCAMP nothing but the card of no distortion is left, and SIP bends.
    assert away_arcsec(header(**SIP, PV1_1=1.0, PV2_1=1.0), header("TAN-SIP", **SIP)) < 1e-6


def test_parameters_of_the_standard_are_no_polynomials() -> None:
    made = header("TAN", PV1_1=0.0, PV1_2=90.0)
    assert agreed_cards(made)[0] == made and away_arcsec(made, header()) < 1e-4


@pytest.mark.parametrize(("unit", "per_deg"), [("arcsec", 3600.0), ("ARCMIN", 60.0), ("rad", np.pi / 180.0)])
def test_a_wcs_may_be_in_other_units_than_degrees(unit: str, per_deg: float) -> None:
    cards = matrix("CD", turned(25.0) * per_deg)
    made = header(CUNIT1=unit, CUNIT2=unit, **cards)
    made["CRVAL1"], made["CRVAL2"] = 31.0 * per_deg, -17.0 * per_deg
    assert away_arcsec(made, header()) < 1e-4 and agreed_cards(made)[1] == ()
    made["CRVAL2"] = 95.0 * per_deg
    with pytest.raises(FrameRejected, match=r"CRVAL2 = \S+ is no latitude"):
        point(made)
