"""Candidate retrievers: which items a context's pool is drawn from. A module of this folder offers `candidates`."""
