"""Identifiers are API: the same input has the same name for ever, on every machine."""

from __future__ import annotations

import hashlib
import os
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skylake.core.ids import config_sha256, content_id, frame_id, text_id

plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_identifiers_never_change() -> None:
    """Kept lakes hold these numbers: a change here is a change of the format."""
    assert frame_id("skycam-z", 0, b"SIMPLE  =") == 5152218480610728901
    assert frame_id("sim", "SCI", "/data/gone.fits") == 3184424732690399172
    assert text_id("4049-1234-1") == 5038838524125726844
    assert content_id("ab", "c") == 3891557792126652582
    tree = {"b": [1, 2.5, None, True], "a": {"y": "é", "x": ()}}
    assert config_sha256(tree) == "cf446a24a926cc70d5b047861cec64a348c4e2d8b2ba1165026b39d0d8ff764a"


@given(st.lists(st.text() | st.binary(), min_size=1, max_size=4))
def test_an_identifier_is_the_first_63_bits_of_a_sha256(pieces: list[str | bytes]) -> None:
    joined = b"\0".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    bits = f"{int(hashlib.sha256(joined).hexdigest(), 16):0256b}"
    assert content_id(*pieces) == int(bits[:63], 2)
    assert 0 <= content_id(*pieces) < 2**63


@given(st.tuples(plain, plain, st.binary()), st.tuples(plain, plain, st.binary()))
@example(("ab", "c", b""), ("a", "bc", b""))
@example(("a", "", b"\0b"), ("a", "\x01", b"b"))
def test_different_pieces_have_different_identifiers(
    one: tuple[str, str, bytes], other: tuple[str, str, bytes]
) -> None:
    assert (content_id(*one) == content_id(*other)) == (one == other)


def test_a_frame_is_known_by_camera_extension_and_content() -> None:
    one = frame_id("a", 1, b"x")
    assert one == frame_id("a", "1", b"x")
    assert len({one, frame_id("b", 1, b"x"), frame_id("a", 2, b"x"), frame_id("a", 1, b"y")}) == 4


def test_a_path_that_is_no_text_has_an_identifier() -> None:
    """File names are bytes; those of old disks may be Latin-1."""
    path = os.fsdecode(b"/data/N\xe4chte/1.fits")
    assert frame_id("a", 0, path) == frame_id("a", 0, b"/data/N\xe4chte/1.fits")
    assert frame_id("a", 0, path) != frame_id("a", 0, os.fsdecode(b"/data/N\xe5chte/1.fits"))


def shuffled(tree: Any, rng: random.Random) -> Any:
    if isinstance(tree, dict):
        keys = list(tree)
        rng.shuffle(keys)
        return {key: shuffled(tree[key], rng) for key in keys}
    return [shuffled(item, rng) for item in tree] if isinstance(tree, list) else tree


@given(st.dictionaries(st.text(), trees, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_configuration(tree: dict[str, Any], rng: random.Random) -> None:
    assert config_sha256(shuffled(tree, rng)) == config_sha256(tree)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": "1"}, {"a": 1}),
        ({"a": None}, {}),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ({"a": 0.1}, {"a": 0.1 + 1e-17 + 2e-17}),
    ],
)
def test_configurations_that_differ_have_different_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (config_sha256(one) == config_sha256(other)) == (one == other)


def test_tuples_and_lists_are_one_configuration() -> None:
    assert config_sha256({"a": (1, 2)}) == config_sha256({"a": [1, 2]})
