"""Commits, snapshots, versions of tables and the ledger."""
