"""The schema, as numbered additive steps in an own ledger."""
