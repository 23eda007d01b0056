"""Candidate retrievers: which items a context's pool is drawn from. A module of this folder offers `candidates`, and a
`Scorer` for lists of items that are no context of the log.
"""
