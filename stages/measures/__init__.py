"""What is measured of slates: pure functions on integer arrays, without torch.

An item is its number, -1 a slot that holds no item. U users, L slots, N items, C categories.
"""
