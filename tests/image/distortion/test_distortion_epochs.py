import numpy as np
import pytest

from skylake.image.distortion.distortion_epochs import Epoch
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.distortion.joint_fit import SHARED
from skylake.image.wcs.lens import NAMES, Lens

MODEL = Lens((0.1, 0.2, 0.3), 1300.0, 255.0, 190.0, (0.4, -2.0, 0.0), (1e-3, -2e-3), (2e-4, 1e-4))
EPOCH = Epoch(
    3, 2, 60000.0, 60010.0, 60001.0, 60009.0, 40, (384, 512),
    Distortion(MODEL, np.diag(np.arange(1.0, 8.0)), 0.05, 12, 900),
    0.2, np.nan, "tycho2", "ab" * 32, "0.1", "the first",
)  # fmt: skip


@pytest.mark.parametrize(("offset", "step"), [((0, 0), 1), ((12, 7), 1), ((1, 0), 2), ((30, 40), 3)])
def test_an_epoch_for_file_pixels_puts_stars_where_they_are(offset, step):
    shape = (384 * step + 60, 512 * step + 50)
    there = EPOCH.in_file(offset, step, shape)
    x, y = np.array([0.0, 511.0, 100.5, 300.0]), np.array([0.0, 383.0, 200.25, 10.0])
    vectors = MODEL.to_vectors(x, y)
    found = np.array(there.distortion.model.to_pixels(vectors))
    assert found == pytest.approx(np.array([x * step + offset[0], y * step + offset[1]]), abs=1e-7)
    assert there.shape == shape and there.fits(shape, EPOCH.mirrored)
    assert (there.number, there.version, there.valid_from) == (3, 2, 60000.0)
    # Pixels are smaller there: the errors of the centre, and the scatter, are more of them.
    errors = np.sqrt(np.diag(there.distortion.covariance) / np.diag(EPOCH.distortion.covariance))
    centre = [SHARED.index(NAMES.index(name)) for name in ("x0", "y0")]
    assert errors[centre].tolist() == [step, step] and np.delete(errors, centre).tolist() == [1.0] * 5
    assert there.distortion.scatter_px == pytest.approx(0.05 * step)
