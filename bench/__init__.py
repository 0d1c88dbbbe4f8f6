"""Benchmarks against peers: ``python -m bench gemm step op --against numpy torch``."""
