from dataclasses import replace

import numpy as np
import pytest

from skylake.errors import LakeError
from skylake.image.allsky.geometry_epochs import Geometry
from skylake.image.wcs.lens import Lens
from skylake.lake.cameras.stored_geometries import geometries_file, read_geometries, write_geometries
from skylake.lake.layout import Layout


def geometry(first):
    lens = Lens.from_parameters(np.arange(13) / 7.0 + 0.1, "equisolid", True)
    covariance = np.diag(np.arange(13) * 1e-7)
    return Geometry(lens, (1040, 1392), first, first + 0.4, 12, 9000, 0.34, 0.35, covariance)


def test_geometries_come_back_as_they_were_written(tmp_path):
    layout = Layout(tmp_path)
    assert read_geometries(layout, "fisheye") == ()
    epochs = replace(geometry(58000.1), retired=True), replace(geometry(58100.2), number=2, version=3)
    write_geometries(layout, "fisheye", epochs[:1])
    write_geometries(layout, "fisheye", epochs)
    held = read_geometries(layout, "fisheye")
    assert held == epochs
    for one, other in zip(held, epochs, strict=True):
        assert np.array_equal(one.covariance, other.covariance) and one.name == other.name
    assert read_geometries(layout, "another") == ()
    assert [path.name for path in geometries_file(layout, "fisheye").parent.iterdir()] == [
        "fisheye.geometries.parquet"
    ]


def test_a_damaged_file_is_named(tmp_path):
    layout = Layout(tmp_path)
    write_geometries(layout, "fisheye", [geometry(58000.1)])
    geometries_file(layout, "fisheye").write_bytes(b"PAR1")
    with pytest.raises(LakeError, match=r"fisheye\.geometries\.parquet.*camera learn"):
        read_geometries(layout, "fisheye")
