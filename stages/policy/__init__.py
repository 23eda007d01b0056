"""The language model as a policy: load, score, sample, search."""
