"""What is simulated as tables: a scenario of frames, and what goes wrong with frames and detections."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from skylake.errors import UsageError
from skylake.simulate import Scenario


@dataclass(frozen=True, slots=True)
class TableParams:
    """What happens in archives that are made as tables, each as a fraction."""

    spurious_fraction: float = 0.03
    """Detections that are no star: cosmic rays, satellites, noise."""
    missing_fraction: float = 0.01
    """Stars that are not found although they are bright enough."""
    trailed_fraction: float = 0.015
    """Frames that are rejected because the telescope moved."""
    failed_fraction: float = 0.01
    """Frames without a valid pixel."""
    field_fraction: float = 0.02
    """Part by which the aperture correction of the first aperture is larger in the corners than at the centre."""


@dataclass(frozen=True, slots=True)
class ArchiveScenario(Scenario):
    """A simulation of tables.

    Attributes
    ----------
    tables : TableParams
        The other attributes are those of a scenario of frames; those of pixels and files have no effect.
    """

    tables: TableParams = field(default_factory=TableParams)

    def __post_init__(self) -> None:
        # A dataclass with slots is made anew, so super() without arguments would not find its class.
        Scenario.__post_init__(self)
        for key, value in asdict(self.tables).items():
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"the simulation cannot be made: tables.{key} lies between 0 and 1")
