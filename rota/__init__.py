"""The face of rota."""
