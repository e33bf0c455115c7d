"""The camera as a value: filters, gates, apertures, and the hash of what changes results."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from typing import Any

import pytest

from skylake.cameras import load, names
from skylake.core.camera import Apertures, Camera, Detector, FilterBand, Gate, Site

SHIPPED = [load(name).base for name in names()]
#: What a person may rewrite without any number of a lake becoming another.
LABELS = {"description", "site.name"}


def filters(**known: tuple[str, ...]) -> Camera:
    return Camera("x", filters={name: FilterBand(name, aliases=aliases) for name, aliases in known.items()})


def band(camera: Camera, name: str | None) -> str | None:
    found = camera.filter_band(name)
    return found.band if found else None


def test_filters_are_found_by_name_alias_and_whatever_the_case() -> None:
    camera = filters(V=("johnson v", "bessell-v"), clear=("open",))
    for name in ("V", "v", " V ", "Johnson V", "BESSELL-V"):
        assert band(camera, name) == "V"
    assert band(camera, "OPEN") == "clear"
    for name in ("", "  ", None, "VV", "johnson"):
        assert band(camera, name) is None


def test_the_case_counts_where_two_filters_differ_by_it_alone() -> None:
    """R of Johnson and Cousins and r of SDSS are 0.2 mag and a photometric system apart."""
    for camera in (filters(R=("rc",), r=("rp",)), filters(r=("rp",), R=("rc",))):
        assert [band(camera, name) for name in ("R", "r", "RC", "Rp")] == ["R", "r", "R", "r"]


def test_the_own_name_of_a_filter_comes_before_an_alias_of_another() -> None:
    for camera in (filters(i=("ip", "Sloan"), ip=()), filters(ip=(), i=("ip", "Sloan"))):
        assert [band(camera, name) for name in ("ip", "IP", "i", "sloan")] == ["ip", "ip", "i", "i"]


def test_a_name_that_could_be_two_filters_is_unknown() -> None:
    camera = filters(one=("Kp",), two=("kP",))
    assert [band(camera, name) for name in ("Kp", "kP", "KP", "kp")] == ["one", "two", None, None]
    assert band(filters(one=("x",), two=("x",)), "x") is None


@pytest.mark.parametrize("camera", SHIPPED, ids=lambda camera: camera.name)
def test_every_shipped_filter_is_found_under_its_own_name(camera: Camera) -> None:
    for name, wanted in camera.filters.items():
        for known in (name, *wanted.aliases):
            assert camera.filter_band(known) is wanted


def test_the_generic_camera_separates_both_filter_systems() -> None:
    generic = load("generic").base
    for name in "BVRIgri":
        assert band(generic, name) == name
    assert [band(generic, name) for name in ("Rc", "r'", "Ic", "i'", "ip", "Cousins R")] == list("RrIiiR")


def test_a_gate_lets_pass_what_lies_within_and_what_is_unknown() -> None:
    gate = Gate(min=-1.0, max=2.0)
    assert [gate.passes(value) for value in (-1.1, -1.0, 0.0, 2.0, 2.1)] == [False, True, True, True, False]
    assert gate.passes(None) and gate.passes(float("nan"))
    assert Gate(min=0.0).passes(float("inf")) and not Gate(max=0.0).passes(float("inf"))
    assert not Gate(min=0.0).passes(-1e-300)


def test_the_radius_of_calibrations_is_that_of_their_flux() -> None:
    radii = (2.0, 3.0, 4.5)
    wanted = {"aper1": 2.0, "aper2": 3.0, "aper3": 4.5, "kron": 4.5}
    assert {flux: Apertures(radii, flux=flux).calibrated_radius_px for flux in wanted} == wanted  # type: ignore[arg-type]


def test_the_shape_is_height_and_width_where_both_are_known() -> None:
    assert Camera("x", detector=Detector(width_px=300, height_px=200)).image_shape == (200, 300)
    assert Camera("x", detector=Detector(width_px=300)).image_shape is None


def test_a_site_is_known_by_longitude_and_latitude_be_they_zero() -> None:
    assert Site(longitude_deg=0.0, latitude_deg=0.0).known
    assert not Site(longitude_deg=1.0).known and not Site(latitude_deg=1.0).known


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of a nested dataclass that is not itself one."""
    if not dataclasses.is_dataclass(value):
        return [(path, value)]
    return [
        leaf
        for field in dataclasses.fields(value)
        for leaf in leaves(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    ]


def with_leaf(value: Any, path: str, new: Any) -> Any:
    name, _, rest = path.partition(".")
    inner = with_leaf(getattr(value, name), rest, new) if rest else new
    return dataclasses.replace(value, **{name: inner})


def another(value: Any) -> Any:
    """A value that differs from the given one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, "more")
    if isinstance(value, dict):
        return {**value, "more": Gate(max=1.0)}
    return "other"


CAMERA = SHIPPED[names().index("skycam-z")]


@pytest.mark.parametrize("path", [path for path, _ in leaves(CAMERA)])
def test_the_hash_changes_with_every_value_that_matters(path: str) -> None:
    value = dict(leaves(CAMERA))[path]
    changed = with_leaf(CAMERA, path, another(value))
    assert changed != CAMERA
    assert (changed.sha256 == CAMERA.sha256) == (path in LABELS)


def test_the_hash_follows_the_inner_values_of_filters_and_gates() -> None:
    for name in typing.get_type_hints(FilterBand):
        old = CAMERA.filters["clear"]
        new = dataclasses.replace(old, **{name: another(getattr(old, name))})
        assert dataclasses.replace(CAMERA, filters={"clear": new}).sha256 != CAMERA.sha256
    gates = {**CAMERA.gates, "fwhm_px": dataclasses.replace(CAMERA.gates["fwhm_px"], action="warn")}
    assert dataclasses.replace(CAMERA, gates=gates).sha256 != CAMERA.sha256


def test_the_hash_is_that_of_the_values_not_of_the_object() -> None:
    copy = pickle.loads(pickle.dumps(CAMERA))
    assert copy == CAMERA and copy.sha256 == CAMERA.sha256 == load("skycam-z").base.sha256
    other_order = dict(reversed(CAMERA.gates.items()))
    assert dataclasses.replace(CAMERA, gates=other_order).sha256 == CAMERA.sha256


def test_unnamed_readout_cards_leave_the_configuration() -> None:
    assert "readout" not in CAMERA.configuration["header"]
    header = dataclasses.replace(CAMERA.header, readout=("SPEED",))
    assert dataclasses.replace(CAMERA, header=header).configuration["header"]["readout"] == ("SPEED",)
