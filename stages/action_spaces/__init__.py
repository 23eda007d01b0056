"""How a slate is written: the tokens of an item, the prompt of a context, what may come next."""
