"""One line per claim: what we reach, what the peer reaches, their ratio, the target, and whether it is met."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim about a figure; `target` is the largest value of ours that meets it.

    Of what could not be judged here, as for want of another program, `missing` says why; such a claim is neither met
    nor missed. Its target is NaN where that program gives it.
    """

    name: str
    ours: float
    peer: float | None
    target: float
    missing: str | None = None

    @property
    def met(self) -> bool:
        """Whether our figure meets the target."""
        return self.ours <= self.target

    def __str__(self) -> str:
        if self.missing is not None:
            target = "no target" if math.isnan(self.target) else f"at most {self.target:.4g}"
            return f"{self.name}: {self.ours:.4g}, none, none, {target}, not judged ({self.missing})"
        peer = "none" if self.peer is None else f"{self.peer:.4g}"
        ratio = "none" if not self.peer else f"{self.ours / self.peer:.3f}"
        verdict = "met" if self.met else "missed"
        return f"{self.name}: {self.ours:.4g}, {peer}, {ratio}, at most {self.target:.4g}, {verdict}"


def conclude(claims: Sequence[Claim]) -> None:
    """Print the claims, and leave with 1 if one is missed."""
    print("\nclaim: ours, peer, ratio, target, met, missed or not judged")
    for claim in claims:
        print(claim)
    sys.exit(0 if all(claim.met or claim.missing for claim in claims) else 1)
