"""Read, check and resolve camera profiles."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from skylake import logs
from skylake.cameras.chips import chip_blocks, of_chip
from skylake.cameras.profile_rules import rules_of_profile
from skylake.cameras.unused_keys import refuse_unused
from skylake.core.batch import is_plain_name
from skylake.core.camera import Camera
from skylake.core.ids import config_sha256
from skylake.declared import build, read_toml
from skylake.errors import ConfigurationError, UnknownProfile, reason_of

_log = logs.get(__name__)

_FOLDER = Path(__file__).parent
_PERIOD_KEYS = {"from", "until", "comment"}


@dataclass(frozen=True, slots=True)
class Period:
    """A dated block: the camera as it was from one instant to another (MJD, UTC)."""

    start: float
    end: float
    camera: Camera


@dataclass(frozen=True, slots=True)
class Profile:
    """A camera through its life.

    Attributes
    ----------
    base : Camera
        The camera outside every dated block.
    periods : tuple of Period
        Dated blocks in order; where two overlap the later one in the file wins.
    source : str
        Where the profile was read from.
    file_sha256 : str
        SHA-256 of the file when it was read; empty if it was not read from a file.
    """

    base: Camera
    periods: tuple[Period, ...]
    source: str
    file_sha256: str = ""

    @property
    def name(self) -> str:
        """Name of the camera."""
        return self.base.name

    def at(self, mjd: float | None) -> Camera:
        """Return the camera as it was at an instant (MJD, UTC); None returns the base."""
        camera = self.base
        if mjd is not None:
            for period in self.periods:
                if period.start <= mjd < period.end:
                    camera = period.camera
        return camera

    @property
    def call_name(self) -> str:
        """The name for ``--camera``: that of a profile that comes with skylake, or the path of its file."""
        path, colon, chip = self.source.rpartition(".toml")
        is_shipped = Path(path).parent == _FOLDER
        return f"{Path(path).name}{chip}" if is_shipped else f"{path}{colon}{chip}"

    @property
    def configuration(self) -> dict[str, Any]:
        """The profile with all its periods; cameras by their SHA-256, skies of files by that of the file."""
        skies = _sky_checksums([self.base, *(period.camera for period in self.periods)])
        return _cameras(self.base, self.periods) | ({"sky_files": skies} if skies else {})

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The profile, and the cameras that it names."""
        cameras = [self.base, *(period.camera for period in self.periods)]
        return [self.configuration, *(camera.configuration for camera in cameras)]

    @property
    def sha256(self) -> str:
        """SHA-256 of :attr:`configuration`."""
        return config_sha256(self.configuration)


def names() -> list[str]:
    """Return the names of the profiles that come with skylake."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name_or_path: str | Path) -> Profile:
    """Load a profile by the name of a shipped one or the path of a TOML file.

    One chip of a mosaic is named after a colon: ``prime.toml:C1``.

    Raises
    ------
    UnknownProfile
        If there is no such profile.
    ConfigurationError
        If it is one of several chips and none is named, or it holds an unknown key or an invalid value; the error
        names the file and the key.
    """
    chips = load_chips(name_or_path)
    if len(chips) > 1:
        raise ConfigurationError(
            f"{name_or_path}: this is a camera of {len(chips)} chips, of which this command takes one; name it as "
            f"{name_or_path}:{chips[0].base.place.chip}"
        )
    return chips[0]


def load_chips(name_or_path: str | Path) -> tuple[Profile, ...]:
    """Load the profiles of all chips of a camera, in their order; of most cameras there is one.

    Raises
    ------
    UnknownProfile, ConfigurationError
        As :func:`load`.
    """
    name, wanted = str(name_or_path), ""
    if not Path(name).is_file():
        whole, _, chip = name.rpartition(":")
        name, wanted = (whole, chip) if whole else (name, "")
    path = _find(name)
    data = _resolve_like(path, ())
    chips = chip_blocks(data, str(path))
    if not chips and wanted:
        raise ConfigurationError(f"{path}: it has no [[chip]], so there is no chip {wanted!r}")
    if wanted and wanted not in chips:
        raise ConfigurationError(f"{path}: there is no chip {wanted!r}; there are {', '.join(chips)}")
    profiles = tuple(_built(path, data, chip) for chip in chips or [""] if wanted in ("", chip))
    refuse_unused(_own_data(path), data, str(path))
    return profiles


def absolute_source(profile: Profile) -> str:
    """Return the absolute path that a profile was read from; unchanged if it is not a file."""
    return str(Path(profile.source).absolute()) if ".toml" in profile.source else profile.source


def of_source(profile: Profile) -> Profile | None:
    """Read the file of a profile again; None if it is gone, or is now of another camera.

    A lake, and the file that it names, may belong to another user: a file that others can write is not read.

    Raises
    ------
    ConfigurationError
        If the file is no profile.
    """
    file, _, chip = profile.source.rpartition(".toml")
    path = Path(f"{file}.toml")
    if not (path.is_absolute() and os.access(path, os.R_OK) and path.is_file()):
        return None
    if not _is_trusted(path):
        _warn_of(path, profile.name)
        return None
    if chip.removeprefix(":") not in (chip_blocks(_resolve_like(path, ()), str(path)) or [""]):
        return None
    current = load(profile.source)
    return current if current.name == profile.name else None


def _is_trusted(path: Path) -> bool:
    """Return whether only the caller and root can write a file; a profile that comes with skylake is as the code is.

    Where each user has a group of their own, files are writable by that group as a rule.
    """
    state = path.stat()
    others = 0o002 if state.st_gid == os.getegid() else 0o022
    return path.parent == _FOLDER or (state.st_uid in (os.geteuid(), 0) and not state.st_mode & others)


@cache
def _warn_of(path: Path, camera: str) -> None:
    """Report once that a file is not read."""
    _log.warning(
        "%s: others than you can write this profile, so the one that the lake has kept of %s stays in force; name the "
        "file with --profile or --camera to use it, or make it yours alone (`chown`, `chmod go-w`)",
        path,
        camera,
    )


def _built(path: Path, data: dict[str, Any], chip: str) -> Profile:
    """Return the profile of a camera, or of one of its chips."""
    base = _build(of_chip(data, {}, chip, _merge), path)
    periods = []
    for number, block in enumerate(data.get("period", []), start=1):
        where = f"[[period]] number {number}"
        start, end = _bounds(block, path, where)
        changes = {key: value for key, value in block.items() if key not in _PERIOD_KEYS}
        if "catalog" in changes:
            raise ConfigurationError(
                f"{path}: {where}: catalog: it is that of all periods; move it out of this one"
            )
        periods.append(Period(start, end, _build(of_chip(data, changes, chip, _merge), path, where)))
    digest = config_sha256(_cameras(base, periods))
    return Profile(base, tuple(periods), f"{path}:{chip}" if chip else str(path), digest)


def _cameras(base: Camera, periods: Sequence[Period]) -> dict[str, Any]:
    """Return a camera and its periods, cameras by their SHA-256."""
    return {
        "base": base.sha256,
        "periods": [(period.start, period.end, period.camera.sha256) for period in periods],
    }


def _find(name: str) -> Path:
    shipped = _FOLDER / f"{name}.toml"
    if is_plain_name(name) and shipped.is_file():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name:
        raise UnknownProfile(f"{name}: there is no such camera profile file")
    near = difflib.get_close_matches(name, names(), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names are {', '.join(names())}"
    raise UnknownProfile(f"there is no camera profile {name!r}; {hint} (or give the path of a .toml file)")


def _resolve_like(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigurationError(f"{path}: the key 'like' leads back to the same profile; remove it")
    data = _own_data(path)
    parent = data.pop("like", None)
    if parent is None:
        return data
    beside = path.parent / str(parent)
    try:
        parent_path = beside if beside.suffix == ".toml" and beside.is_file() else _find(str(parent))
    except (ConfigurationError, UnknownProfile) as error:
        raise ConfigurationError(f"{path}: like: {error}") from error
    return _merge(_resolve_like(parent_path, (*seen, path)), data)


def _own_data(path: Path) -> dict[str, Any]:
    """Return what a file says itself."""
    try:
        return read_toml(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: the profile cannot be read ({reason_of(error)})") from error


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        if key == "gates" and isinstance(old, dict) and isinstance(value, dict):
            merged[key] = {name: merged[key][name] for name in _order_of_gates(list(old), list(value))}
        if key == "detector" and isinstance(old, dict) and isinstance(value, dict):
            merged[key] |= _lower_linearity(old, value)
    return merged


def _lower_linearity(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, float]:
    """Return the linearity limit, lowered to the saturation that a profile sets below that of its parent."""
    linear, full = old.get("linearity_adu"), new.get("saturation_adu")
    if "linearity_adu" in new or not isinstance(linear, int | float) or not isinstance(full, int | float):
        return {}
    return {"linearity_adu": full} if full < linear else {}


def _order_of_gates(old: list[str], new: list[str]) -> list[str]:
    """Return the order in which gates are judged; the first that rejects gives the cause.

    Gates that a file names are in its order: new ones come before all gates of its parent profile, or right after the
    parent gate that it names before them. A gate whose limits it changes keeps its place: a limit on the number of
    sources should not be reported before clouds.
    """
    changed = [name for name in new if name in old]
    followers: dict[str | None, list[str]] = {}
    before: str | None = None
    for name in new:
        if name in old:
            before = name
        else:
            followers.setdefault(before, []).append(name)
    left = iter(changed)
    arranged = [next(left) if name in changed else name for name in old]
    order = list(followers.get(None, []))
    for name in arranged:
        order += [name, *followers.get(name, [])]
    return order


def _bounds(block: Mapping[str, Any], path: Path, where: str) -> tuple[float, float]:
    if "from" not in block and "until" not in block:
        raise ConfigurationError(f"{path}: {where} has neither 'from' nor 'until'; give at least one date")
    start = _mjd(block.get("from"), -1e9, path, where)
    end = _mjd(block.get("until"), 1e9, path, where)
    if end <= start:
        raise ConfigurationError(f"{path}: {where} ends before it begins; fix 'from' and 'until'")
    return start, end


def _mjd(value: Any, default: float, path: Path, where: str) -> float:
    if value is None:
        return default
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        seconds = (value.replace(tzinfo=None) - datetime(1858, 11, 17)).total_seconds()
        offset = value.utcoffset()
        return (seconds - (offset.total_seconds() if offset else 0.0)) / 86400.0
    if isinstance(value, date):
        return float((value - date(1858, 11, 17)).days)
    raise ConfigurationError(f"{path}: {where}: 'from' and 'until' are dates such as 2013-02-01")


def _build(data: Mapping[str, Any], path: Path, where: str = "") -> Camera:
    place = f"{path}: {where}" if where else str(path)
    camera = build(Camera, data, place)
    _check(camera, place)
    return camera


def _check(camera: Camera, place: str) -> None:
    """Refuse values that are well formed but make no sense."""
    for wrong, key, advice in rules_of_profile(camera):
        if wrong:
            raise ConfigurationError(f"{place}: {key}: {advice}")


def with_rotation(profile: Profile, angle_deg: float) -> Profile:
    """Return a profile in which the focal plane has a position angle, whatever cards say."""

    def turned(camera: Camera) -> Camera:
        return replace(camera, astrometry=replace(camera.astrometry, rotation_deg=angle_deg))

    periods = tuple(replace(period, camera=turned(period.camera)) for period in profile.periods)
    return replace(profile, base=turned(profile.base), periods=periods)


def _sky_checksums(cameras: Iterable[Camera]) -> dict[str, str]:
    """Return the SHA-256 of each file that ``reduction.sky.file`` of cameras names; empty for one that is missing."""
    names = {camera.reduction.sky.file for camera in cameras}
    return {name: _sky_checksum(Path(name)) for name in sorted(name for name in names if name is not None)}


def _sky_checksum(path: Path) -> str:
    try:
        known = path.stat()
        return _file_sha256(str(path), known.st_mtime_ns, known.st_size)
    except OSError:
        # Frames that need it report that.
        return ""


@lru_cache(maxsize=16)
def _file_sha256(path: str, changed: int, size: int) -> str:
    """Return the SHA-256 of a file as it was at some time."""
    with Path(path).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
