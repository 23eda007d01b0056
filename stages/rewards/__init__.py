"""What a slate is worth, from logged feedback."""
