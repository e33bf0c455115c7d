from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from skylake.cli.arguments import (
    cluster_options,
    declination,
    night,
    open_lake,
    picture,
    place_of_workers,
    radius_arcsec,
    right_ascension,
    start_workers,
)
from skylake.errors import ConfigurationError, LakeError
from skylake.lake import Lake
from skylake.settings import Settings

LIMITS = {right_ascension: (-180.0, 360.0), declination: (-90.0, 90.0), radius_arcsec: (0.0, 648000.0)}


@given(st.dates(min_value=datetime.date(1000, 1, 1)))
def test_a_night_is_read_with_and_without_dashes(date: datetime.date) -> None:
    assert (
        night(date.isoformat()) == night(date.isoformat().replace("-", "")) == night(night(date.isoformat()))
    )
    assert night(date.isoformat()) == date.year * 10000 + date.month * 100 + date.day


@pytest.mark.parametrize(
    "text", ["", "2024", "20241301", "2024-02-30", "20230229", "today", "-20241001x", "²0241001"]
)
def test_what_is_no_date_is_no_night(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no night; write it as 20130610"):
        night(text)


@pytest.mark.parametrize("read", LIMITS)
@given(value=st.floats())
def test_numbers_are_taken_within_their_limits_only(read: Callable[[Any], float], value: float) -> None:
    least, largest = LIMITS[read]
    if least <= value <= largest:
        assert read(repr(value)) == read(value) == value
    else:
        with pytest.raises(click.BadParameter, match="is not a number from"):
            read(repr(value))


@pytest.mark.parametrize("read", LIMITS)
@pytest.mark.parametrize("text", ["", "abc", "12:30:00", "5d", "1,5", "nan", "inf", "-inf", "1e999"])
def test_what_is_no_number_is_refused_with_the_unit(read: Callable[[Any], float], text: str) -> None:
    with pytest.raises(
        click.BadParameter, match=r"is not a number from .*; write (degrees|seconds of arc), as in"
    ):
        read(text)


@pytest.mark.parametrize("name", ["a.png", "b c.SVG", "/tmp/y.pdf"])
def test_a_picture_has_a_suffix_of_pictures(name: str) -> None:
    assert picture(name) == Path(name)
    with pytest.raises(click.BadParameter, match=r"names no format of pictures; use \.png, \.svg or \.pdf"):
        picture(f"{name}.txt")


def test_every_place_of_workers_can_be_asked_for() -> None:
    for place in ("local", "inline", "slurm", "tcp://host:8786", "tls://host:8786"):
        assert place_of_workers(place) == place
    for place in ("", "loca", "host:8786", "LOCAL"):
        with pytest.raises(
            click.BadParameter, match=r"there is no cluster .*; use local, inline, slurm or tls://"
        ):
            place_of_workers(place)


def test_workers_come_from_options_or_else_settings(tmp_path: Path) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    with start_workers(lake, None, None) as pool:
        assert pool.count == 1
    (lake.root / "skylake.toml").write_text('cluster = "nowhere"\n')
    with (
        pytest.raises(ConfigurationError, match="cluster must be one of local, inline, slurm"),
        start_workers(Lake(lake.root), None, 2),
    ):
        pass
    (lake.root / "skylake.toml").write_text('cluster = "local"\n')
    with start_workers(Lake(lake.root), "inline", 2) as pool:
        assert pool.count == 1


def test_the_option_overrules_the_environment() -> None:
    @click.command()
    @cluster_options
    def where(cluster: str | None, workers: int | None) -> None:
        click.echo(cluster)

    for words, expected in (([], "inline\n"), (["--cluster", "local"], "local\n")):
        assert CliRunner().invoke(where, words, env={"SKYLAKE_CLUSTER": "inline"}).output == expected
    wrong = CliRunner().invoke(where, [], env={"SKYLAKE_CLUSTER": "nowhere"})
    assert (wrong.exit_code, "there is no cluster 'nowhere'" in wrong.output) == (2, True)


def test_a_lake_is_opened_where_there_is_one(tmp_path: Path) -> None:
    made = Lake.create(tmp_path / "lake")
    assert open_lake(made.root).settings == made.settings
    with pytest.raises(LakeError, match="there is no lake; make one with"):
        open_lake(tmp_path)
