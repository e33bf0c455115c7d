"""The advice of an error fits what the system answered."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from skylake.errors import LakeError, advice_on, cannot_be_written
from skylake.lake import Lake


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free space on its disk"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "fix its permissions"),
        (errno.EROFS, "mount its disk for writing"),
        (errno.ENXIO, "fix its permissions or free space"),
    ],
)
def test_the_fix_fits_what_the_system_answers(number: int, mend: str) -> None:
    told = str(cannot_be_written("/lake", OSError(number, "in some language")))
    assert told.startswith(f"/lake: the lake cannot be written ({os.strerror(number)}); ")
    assert mend in told and ("permissions" in told) == ("permissions" in mend)


def test_an_error_of_ours_has_its_fix_already() -> None:
    assert advice_on(LakeError("full; free space")) is None


def test_a_lake_whose_staging_cannot_be_made_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.create(tmp_path / "lake")

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    told = r"cannot be written \(No space left.*\); free space on its disk and run again"
    with pytest.raises(LakeError, match=told), lake.stage("test"):
        pass
