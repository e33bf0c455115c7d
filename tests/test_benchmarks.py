"""The figures that zeropoints, forced photometry and detection are held to, on simulated and on real frames.

Only figures of quality are tested; how long something takes is left to `make bench`.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import chain
import history
import numpy as np
import pytest
import throughput
from solvers import peers

from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.source_list import StarList
from skylake.lake.maintenance.compaction_plan import FAN_IN, joining

ROOT = Path(__file__).parent.parent


def claims(*options: str, script: str = "zeropoints") -> dict[str, str]:
    """Run a benchmark and return the verdict on each claim."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / f"{script}.py"), *options]
    # The figures are the same wherever the work is done.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SKYLAKE_CLUSTER": "inline"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    lines = done.stdout.partition("\nclaim: ")[2].splitlines()[1:]
    verdicts = {line.rpartition(": ")[0]: line.rpartition(", ")[2] for line in lines}
    assert verdicts and done.returncode == ("missed" in verdicts.values()), done.stdout + done.stderr
    return verdicts


@pytest.mark.slow
def test_zeropoints_of_simulated_frames_have_honest_errors() -> None:
    found = claims("--quick", "--only", "simulated")
    assert found == dict.fromkeys(
        [
            "absolute mean of the pulls",
            "width of the pulls, distance from 1",
            "largest pull of a clear frame",
            "rms error of a zeropoint [mmag]",
        ],
        "met",
    )


@pytest.mark.slow
def test_a_new_field_leaves_other_nights_as_they_are() -> None:
    found = claims("--quick", script="new_fields")
    assert found["other nights calibrated again after 60 nights"] == "met"


@pytest.mark.slow
def test_a_season_solved_as_a_whole_has_honest_errors() -> None:
    found = claims("--quick", script="global_solution")
    quality = {
        name: verdict for name, verdict in found.items() if "seconds" not in name and "time" not in name
    }
    assert len(quality) == 10
    assert quality == dict.fromkeys(quality, "met")


@pytest.mark.slow
@pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
def test_real_frames_reach_the_figures_known_of_them() -> None:
    found = claims("--only", "real")
    assert len(found) == 8
    assert found == dict.fromkeys(found, "met")


@pytest.mark.slow
def test_forced_photometry_of_a_crowded_field_is_right() -> None:
    found = claims("--quick", "--only", "simulated", script="forced")
    fluxes = {name: verdict for name, verdict in found.items() if not name.startswith("CPU")}
    assert len(fluxes) == 18
    assert fluxes == dict.fromkeys(fluxes, "met")


@pytest.mark.slow
@pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
def test_stars_of_real_frames_repeat() -> None:
    found = claims("--only", "real", script="forced")
    assert len(found) == 4
    assert found == dict.fromkeys(found, "met")


@pytest.mark.slow
def test_faint_stars_are_found_and_little_else() -> None:
    options = ("--only", "quality", "--size", "1024", "--frames", "2")
    found = claims(*options, script="detection")
    assert found == dict.fromkeys(["missed at S/N 6 to 8 [%]", "false detections per Mpix"], "met")


@pytest.mark.slow
def test_stars_of_an_independent_renderer_have_honest_errors() -> None:
    found = claims("--quick", script="independent")
    # What Source Extractor finds is the limit of one of them for each renderer, where it is installed.
    judged = {name: verdict for name, verdict in found.items() if "missed at" not in name}
    assert len(found) == 20 and len(judged) == 18
    assert judged == dict.fromkeys(judged, "met")
    beside = {verdict for name, verdict in found.items() if name not in judged}
    assert beside <= (
        {"met"}
        if shutil.which("source-extractor")
        else {"not judged (neither Source Extractor nor photutils is there)"}
    )


@pytest.mark.slow
def test_lenses_are_recovered_and_written_as_they_are() -> None:
    found = claims("--quick", "--only", "simulated", script="astrometry_lens")
    # wcs-xy2rd is asked where it is installed.
    places = {
        name: verdict
        for name, verdict in found.items()
        if not (name.startswith("CPU") or verdict == "not judged (wcs-xy2rd is not installed)")
    }
    assert len(places) >= 15
    assert places == dict.fromkeys(places, "met")


@pytest.mark.slow
@pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
def test_real_frames_are_refined_to_a_quarter_of_a_pixel() -> None:
    found = claims("--only", "real", script="astrometry_lens")
    places = {name: verdict for name, verdict in found.items() if not name.startswith("CPU")}
    assert len(places) == 4
    assert places == dict.fromkeys(places, "met")


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_name_what_is_there(script: Path) -> None:
    """They run seldom, so a name that has changed would be found late."""
    missing = [
        f"line {line}: {module}.{name}"
        for line, module, name in names_of_skylake(ast.parse(script.read_text(encoding="utf-8")))
        if not is_there(module, name)
    ]
    assert missing == []


def names_of_skylake(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield line, module and name of what a script imports from skylake, and of what it takes from such modules."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name.partition(".")[0] == "skylake":
                    yield node.lineno, *one.name.rpartition(".")[::2]
                    modules[one.asname or one.name] = one.name if one.asname else one.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "skylake":
            for one in node.names:
                yield node.lineno, node.module or "", one.name
                modules[one.asname or one.name] = f"{node.module}.{one.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            whole = modules[node.value.id]
            if isinstance(node.ctx, ast.Load) and is_module(whole):
                yield node.lineno, whole, node.attr


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_there(module: str, name: str) -> bool:
    if not module:
        return is_module(name)
    return is_module(module) and (
        hasattr(importlib.import_module(module), name) or is_module(f"{module}.{name}")
    )


def test_a_name_that_has_changed_would_be_found() -> None:
    lines = ["from skylake.core import gone", "from skylake.core.flags import GONE"]
    script = "\n".join([*lines, "from skylake import cameras", "cameras.lod('sim')"])
    names = [(module, name) for _, module, name in names_of_skylake(ast.parse(script))]
    assert names == [
        ("skylake.core", "gone"),
        ("skylake.core.flags", "GONE"),
        ("skylake", "cameras"),
        ("skylake.cameras", "lod"),
    ]
    assert [is_there(*one) for one in names] == [False, False, True, False]


def test_the_stages_whose_time_is_reported_are_there() -> None:
    for module, name in (chain.STAGES | throughput.FURTHER).values():
        assert callable(getattr(module, name))
    assert all(callable(getattr(throughput.ingesting, name)) for name in throughput.STAGES.values())


def bundles_of_nightly_runs(n_nights: int) -> tuple[list[int], int]:
    """Return the sizes of bundles after so many nightly runs, and the number of nights that wait."""
    sizes: list[int] = []
    n_fresh = 0
    for _ in range(n_nights):
        n_fresh += 1
        if n_fresh == FAN_IN[0]:
            taken = joining(n_fresh, sizes)
            merged = n_fresh + sum(sizes[index] for index in taken)
            sizes = [size for index, size in enumerate(sizes) if index not in taken] + [merged]
            n_fresh = 0
    return sizes, n_fresh


def n_files(n_nights: int) -> int:
    sizes, n_fresh = bundles_of_nightly_runs(n_nights)
    return len(sizes) + n_fresh


@pytest.mark.parametrize("quick", [False, True])
def test_the_history_is_read_from_as_many_files_as_nightly_runs_leave_at_most(quick: bool) -> None:
    n_nights = history.scenario(quick).nights
    groups = [len(group) for group in history.groups_of(range(n_nights))]
    sizes, n_fresh = bundles_of_nightly_runs(n_nights)
    assert groups == [*sorted(sizes, reverse=True), n_fresh]
    assert n_files(n_nights) == max(map(n_files, range(16 if quick else 400)))


def test_a_peer_with_files_of_other_scales_has_not_solved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The package says so by a TypeError."""
    pytest.importorskip("astrometry")
    solvers = peers(Path("/usr/share/astrometry"))
    if "astrometry (PyPI)" not in solvers:
        pytest.skip("there are no index files (Debian's astrometry-data-tycho2)")
    random = np.random.default_rng(1)
    x, y, flux = random.uniform(0.0, 1000.0, (3, 30))
    sources = StarList(x, y, flux, np.full(30, np.nan), (1000, 1000))
    capsys.readouterr()
    seconds, to_sky = solvers["astrometry (PyPI)"](sources, SolveParams(scale_low=1e5, scale_high=2e5))
    assert to_sky is None and 0.0 <= seconds < 60.0
    assert "not solved: index files do not overlap" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_nightly_runs_lose_no_frame_and_repeat_none() -> None:
    found = claims("--nightly", "16", "--kills", "2", script="faults")
    assert found == dict.fromkeys(
        ["nights that are not as after an undisturbed run", "frames begun again for each kill"], "met"
    )


@pytest.mark.slow
def test_detrended_curves_keep_their_signals_and_chances_are_what_they_say() -> None:
    found = claims("--quick", script="detrending")
    quality = {name: verdict for name, verdict in found.items() if "CPU" not in name}
    assert len(quality) == 7
    assert quality == dict.fromkeys(quality, "met")


@pytest.mark.slow
def test_detections_are_in_the_right_object_and_a_night_costs_the_same_however_many_there_were() -> None:
    found = claims("--quick", script="objects")
    quality = {name: verdict for name, verdict in found.items() if "seconds" not in name}
    assert len(quality) == 10
    assert set(quality.values()) == {"met"}


@pytest.mark.slow
def test_periods_are_found_as_astropy_finds_them() -> None:
    found = claims("--quick", script="periods")
    quality = {name: verdict for name, verdict in found.items() if "[ms]" not in name}
    assert len(quality) == 8
    assert quality == dict.fromkeys(quality, "met")


@pytest.mark.slow
def test_the_light_curve_of_one_star_of_many_has_all_its_points() -> None:
    found = claims("--quick", script="history")
    quality = {name: verdict for name, verdict in found.items() if "[s]" not in name}
    assert len(quality) == 14
    assert set(quality.values()) == {"met"}
