"""Values, rules and protocols; the standard library only."""
