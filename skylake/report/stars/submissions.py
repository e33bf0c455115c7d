"""Light curves as databases of variable stars and transits take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skylake.core.flags import SPOILED
from skylake.errors import StarError, UsageError
from skylake.report.stars.aavso_filters import UNFILTERED_CODES, aavso_filter
from skylake.report.stars.left_out import LeftOut, left_out_in_words, left_out_points
from skylake.report.stars.which_star import which_star
from skylake.revision import VERSION

_MJD_ZERO = 2400000.5
_MAG_PER_RELATIVE = 2.5 / np.log(10.0)
_DETECTED_SNR = 5.0
_LONGEST_NAME, _LONGEST_CHECK, _LONGEST_CHART = 30, 20, 20
_AAVSO_COLUMNS = "NAME,DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES"


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What is known of the frame of a measurement.

    Attributes
    ----------
    airmass : float or None
    filter_name : str or None
    catalog : str
        Of the comparison stars; empty if unknown.
    survey : str
        That of the catalog, as :func:`skylake.report.stars.aavso_filters.aavso_filter` takes it.
    is_transformed : bool
        Whether the colour of the star has been taken into account.
    """

    airmass: float | None = None
    filter_name: str | None = None
    catalog: str = ""
    survey: str = ""
    is_transformed: bool = False


_UNKNOWN = FrameFacts()


@dataclass(frozen=True, slots=True)
class Submission:
    """What a database wants to know beside the measurements.

    Attributes
    ----------
    name : str
        Name of the star.
    observer : str
        Code of the observer.
    frames : mapping of int to FrameFacts
        By the identifier of the frame.
    check_name : str
        Constant star that was measured on the same frames; empty for none.
    check_mags : mapping of int to float
        Its magnitudes on frames.
    """

    name: str
    observer: str = ""
    frames: Mapping[int, FrameFacts] = field(default_factory=dict)
    check_name: str = ""
    check_mags: Mapping[int, float] = field(default_factory=dict)

    def frame(self, frame_id: int) -> FrameFacts:
        """Return what is known of a frame."""
        return self.frames.get(frame_id, _UNKNOWN)


def aavso_text(curve: Mapping[str, Any], about: Submission) -> tuple[str, LeftOut]:
    """Return the AAVSO extended file format, version 1.2, and what is left out of it.

    Times are geocentric Julian dates (UTC) of mid-exposure, as the AAVSO wants them. All calibrating stars together
    are the comparison star, ENSEMBLE, and their catalog is the chart. Errors are random and shared ones together.
    Forced measurements without a detection are given as fainter than their limit; flagged points are left out.
    A comment says how many, as in the other formats.

    Parameters
    ----------
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    about : Submission

    Raises
    ------
    UsageError
        If there is no code of the observer.
    StarError
        If there is no name of the star, or a name or band that the format does not allow.
    """
    _require_plain(about)
    if curve.get("measured") == "relative":
        raise StarError(
            f"{about.name}: the AAVSO wants calibrated magnitudes, and these are relative to the stars of the field; "
            "import a catalog that covers it (`skylake catalog import`)"
        )
    pairs = [(point, _aavso_magnitude(point)) for point in _good(curve)]
    measured = [(point, magnitude) for point, magnitude in pairs if magnitude is not None]
    left_out = _left_out(curve, [point for point, _ in measured])
    lines = [
        "#TYPE=EXTENDED",
        f"#OBSCODE={about.observer}",
        f"#SOFTWARE=skylake {VERSION}",
        "#DELIM=,",
        "#DATE=JD",
        "#OBSTYPE=CCD",
        *_comments(f"{about.name}: {which_star(curve)}", left_out),
        f"#{_AAVSO_COLUMNS}",
    ]
    methods = {(one["camera"], one["band"]): one["detrended"] for one in curve.get("detrended", ())}
    for point, magnitude in measured:
        frame = about.frame(point["frame_id"])
        code = aavso_filter(point["band"], frame.filter_name, frame.survey)
        words = [
            about.name,
            f"{point['mjd_mid'] + _MJD_ZERO:.6f}",
            *magnitude,
            code,
            "YES" if frame.is_transformed and code not in UNFILTERED_CODES else "NO",
            "STD,ENSEMBLE,na",
            about.check_name or "na",
            _number(about.check_mags.get(point["frame_id"]), ".3f"),
            _number(frame.airmass, ".3f"),
            "na",
            frame.catalog[:_LONGEST_CHART] or "na",
            _notes(point, frame, code, methods.get((point["camera"], point["band"]))),
        ]
        lines.append(",".join(words))
    return "\n".join(lines) + "\n", left_out


def _comments(title: str, left_out: LeftOut) -> list[str]:
    return [f"# {title}", *([f"# {left_out_in_words(left_out)}"] if left_out else [])]


def _left_out(
    curve: Mapping[str, Any], written: list[Any], otherwise: str = "on frames without an airmass"
) -> LeftOut:
    """Return why points are not written, with those that the curve has lost before."""
    kept = set(map(id, written))
    missing = [point for point in curve["points"] if id(point) not in kept]
    return Counter(curve.get("left_out", {})) + left_out_points(missing, otherwise)


def _notes(point: Mapping[str, Any], frame: FrameFacts, code: str, method: str | None) -> str:
    """Return what the other fields do not say of a measurement."""
    notes = [f"camera {point['camera']}"]
    if frame.catalog:
        notes.insert(0, f"calibrated with all stars of {frame.catalog} on the frame")
    if point["band"] != code:
        notes.append(f"band {point['band']}")
    if method is not None:
        notes.append(f"detrended ({method})")
    return "; ".join(notes)


def _aavso_magnitude(point: Mapping[str, Any]) -> tuple[str, str] | None:
    limit = _limit(point)
    if limit is not None:
        return f"<{limit:.3f}", "na"
    if point["mag"] is None:
        return None
    return f"{point['mag']:.3f}", _number(point["mag_err"], ".3f")


def _limit(point: Mapping[str, Any]) -> float | None:
    """Return the limit of a forced measurement that is no detection; None for what is one."""
    limit = point.get("mag_limit")
    detected = point["flux"] is not None and point["flux"] >= _DETECTED_SNR * point["flux_err"]
    return None if limit is None or detected else float(limit)


def _require_plain(about: Submission) -> None:
    if not about.observer.isalnum():
        raise UsageError("the AAVSO wants the code of the observer; give it, as in --observer ABC")
    if about.name.isdigit():
        raise StarError(
            f"{about.name}: the AAVSO wants a name of the star, not a number of a catalog; give it, as in --name "
            '"RR Lyr", or for many stars in a column name of the file of --stars'
        )
    if "," in about.name or len(about.name) > _LONGEST_NAME:
        raise StarError(
            f"{about.name}: the AAVSO takes names up to {_LONGEST_NAME} letters; give one by --name"
        )
    if "," in about.check_name or len(about.check_name) > _LONGEST_CHECK:
        raise StarError(
            f"{about.check_name}: the AAVSO takes names of check stars up to {_LONGEST_CHECK} letters"
        )


def etd_text(curve: Mapping[str, Any], about: Submission) -> tuple[str, LeftOut]:
    """Return what the Exoplanet Transit Database takes: BJD (TDB), magnitude and random error, separated by blanks.

    The error that all points share is left out: it does not change the depth or time of a transit.

    Raises
    ------
    StarError
        If there are several bands or cameras.
    """
    _require_one_curve(curve)
    points = _magnitudes(curve)
    left_out = _left_out(curve, points)
    title = f"{about.name}: {which_star(curve)}; BJD_TDB mag mag_random_err; skylake {VERSION}"
    lines = _comments(title, left_out)
    lines += [f"{point['bjd_tdb']:.7f} {point['mag']:.5f} {_random_err(point):.5f}" for point in points]
    return "\n".join(lines) + "\n", left_out


def exotic_text(curve: Mapping[str, Any], about: Submission) -> tuple[str, LeftOut]:
    """Return a reduced light curve as EXOTIC reads it: BJD (TDB), flux relative to the median, its error, airmass.

    EXOTIC fits the airmass, so points without one are left out.

    Raises
    ------
    StarError
        If there are several bands or cameras, or no point has an airmass.
    """
    _require_one_curve(curve)
    magnitudes = _magnitudes(curve)
    points = [point for point in magnitudes if _airmass(point, about) is not None]
    if magnitudes and not points:
        raise StarError(
            "EXOTIC fits the airmass, and no frame of the star has one; give site.longitude_deg and "
            "site.latitude_deg in the profile of the camera, and ingest the frames again"
        )
    left_out = _left_out(curve, points)
    title = f"{about.name}: {which_star(curve)}; BJD_TDB,FLUX,FLUX_ERR,AIRMASS; skylake {VERSION}"
    lines = _comments(title, left_out)
    middle = float(np.median([point["mag"] for point in points])) if points else 0.0
    for point in points:
        flux = 10.0 ** (-0.4 * (point["mag"] - middle))
        error = flux * _random_err(point) / _MAG_PER_RELATIVE
        lines.append(f"{point['bjd_tdb']:.7f},{flux:.6f},{error:.6f},{_airmass(point, about):.4f}")
    return "\n".join(lines) + "\n", left_out


def _airmass(point: Mapping[str, Any], about: Submission) -> float | None:
    airmass = about.frame(point["frame_id"]).airmass
    return None if airmass is None or not np.isfinite(airmass) else float(airmass)


def _magnitudes(curve: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points with a magnitude that are not flagged."""
    return [point for point in _good(curve) if point["mag"] is not None]


def _require_one_curve(curve: Mapping[str, Any]) -> None:
    """Refuse magnitudes that differ by more than what the star does."""
    for name in ("band", "camera"):
        found = sorted({str(point[name]) for point in _magnitudes(curve)})
        if len(found) > 1:
            raise StarError(
                f"a transit is one curve, and this star has {len(found)}, of the {name}s {' and '.join(found)}; "
                f"choose one, as in --{name} {found[0]}"
            )


def _random_err(point: Mapping[str, Any]) -> float:
    random = point.get("mag_random_err")
    return float(point["mag_err"] if random is None else random)


def _good(curve: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the points that are not flagged."""
    return [point for point in curve["points"] if not point["flags"] & int(SPOILED)]


def _number(value: float | None, form: str) -> str:
    return "na" if value is None or not np.isfinite(value) else format(value, form)


#: Formats of databases, by the name of the option.
FORMATS: dict[str, Callable[[Mapping[str, Any], Submission], tuple[str, LeftOut]]] = {
    "aavso": aavso_text,
    "etd": etd_text,
    "exotic": exotic_text,
}
