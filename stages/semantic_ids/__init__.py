"""Item text to Semantic IDs: embedding, residual quantisation, one id per item."""
