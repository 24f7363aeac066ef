"""Repositories, Sync and node life; the only room that speaks SQL."""
