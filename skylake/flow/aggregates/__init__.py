"""Aggregates: tables that sum up others, planned, made and committed by one engine."""

from skylake.flow.aggregates.outdated import Outdated, outdated, uncalibrated
from skylake.flow.aggregates.run import AGGREGATES, AggregateReport, aggregate

__all__ = ["AGGREGATES", "AggregateReport", "Outdated", "aggregate", "outdated", "uncalibrated"]
