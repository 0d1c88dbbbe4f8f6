"""Backends: each takes a plan's graphs and runs them on its device."""
