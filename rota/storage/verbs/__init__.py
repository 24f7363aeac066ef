"""The cold verbs as portable statements, the same on SQLite and PostgreSQL."""
