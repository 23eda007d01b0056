"""Candidate retrievers: which items a pool is drawn from. A module that offers one has it as `Retriever`."""
