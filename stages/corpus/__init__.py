"""Readers, one module per source, and what turns their logs into one corpus."""
