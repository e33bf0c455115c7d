from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.simulate.variables import (
    ECLIPSE_DURATION,
    SECONDARY_DEPTH,
    TRANSIT_DURATION,
    Kind,
    magnitude_change,
)

PHASES = np.linspace(0.0, 1.0, 5001)
PERIODIC = [Kind.SINUSOID, Kind.ECLIPSING, Kind.RR_LYRAE, Kind.TRANSIT]


@pytest.mark.parametrize("kind", PERIODIC)
@given(st.floats(0.1, 5.0), st.floats(0.01, 1.5), st.floats(2.4e6, 2.5e6), st.integers(-300, 300))
def test_amplitude_and_period_are_those_stated(
    kind: Kind, period: float, amplitude: float, epoch: float, cycles: int
) -> None:
    time = epoch + period * PHASES
    change = magnitude_change(kind, period, amplitude, epoch, time)
    assert np.ptp(change) == pytest.approx(amplitude, rel=0.01)
    later = magnitude_change(kind, period, amplitude, epoch, time + cycles * period)
    # A double holds a Julian Date to 40 microseconds.
    np.testing.assert_allclose(later, change, atol=amplitude * 1e-6 / period + 1e-9)


@pytest.mark.parametrize("kind", [Kind.SINUSOID, Kind.RR_LYRAE])
def test_the_catalog_magnitude_is_the_mean(kind: Kind) -> None:
    change = magnitude_change(kind, 0.7, 0.8, 0.0, 0.7 * PHASES[:-1])
    assert change.mean() == pytest.approx(0.0, abs=1e-9)
    assert np.argmin(change) in (0, 1, 4999)


def test_eclipsing_stars_are_catalogued_out_of_eclipse() -> None:
    change = magnitude_change(Kind.ECLIPSING, 1.0, 0.5, 0.0, PHASES)
    half = ECLIPSE_DURATION / 2.0
    outside = (np.abs(PHASES - 0.5) > half) & (half < PHASES) & (1.0 - half > PHASES)
    assert not change[outside].any()
    assert (change[~outside][1:-1] >= 0.0).all()
    assert change[0] == 0.5 and change[2500] == pytest.approx(0.5 * SECONDARY_DEPTH)


def test_a_transit_lasts_as_long_as_stated() -> None:
    change = magnitude_change(Kind.TRANSIT, 1.0, 0.03, 0.0, PHASES)
    assert (change > 0.0).mean() == pytest.approx(TRANSIT_DURATION, abs=1e-3)
    assert change[0] == 0.03


def test_a_transient_comes_peaks_and_goes() -> None:
    time = np.linspace(-2.0, 6.0, 801)
    flux = 10.0 ** (-0.4 * magnitude_change(Kind.TRANSIENT, 1.0, np.nan, 0.0, time))
    assert not flux[time < -1.0 / 3.0].any()
    assert time[np.argmax(flux)] == pytest.approx(0.0, abs=0.011) and flux.max() == pytest.approx(1.0)
    assert (np.diff(flux[time > 0.0]) < 0.0).all()
    assert flux[time == 3.0][0] == pytest.approx(np.exp(-3.0))


def test_constant_stars_are_constant() -> None:
    assert not magnitude_change(Kind.CONSTANT, np.nan, np.nan, np.nan, PHASES).any()


def test_each_star_follows_its_own_law() -> None:
    kinds = np.array([Kind.CONSTANT, *PERIODIC])
    period, amplitude, epoch = np.full(5, 0.8), np.arange(5) + 0.1, np.linspace(0.0, 0.3, 5)
    together = magnitude_change(kinds, period, amplitude, epoch, 12.34)
    alone = [magnitude_change(*row, 12.34) for row in zip(kinds, period, amplitude, epoch, strict=True)]
    np.testing.assert_array_equal(together, alone)
