"""rota measured through its public API; run as ``python -m benchmarks NAME``."""
