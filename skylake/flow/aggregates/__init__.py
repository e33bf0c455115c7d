"""Aggregates: tables that are computed from other tables, all planned, made and committed by one engine."""

from skylake.flow.aggregates.run import AGGREGATES, AggregateReport, aggregate
from skylake.flow.aggregates.stale_parts import Outdated, outdated, uncalibrated
from skylake.flow.aggregates.users import user_aggregates

__all__ = [
    "AGGREGATES",
    "AggregateReport",
    "Outdated",
    "aggregate",
    "outdated",
    "uncalibrated",
    "user_aggregates",
]
