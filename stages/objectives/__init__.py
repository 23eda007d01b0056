"""What RL descends: one module per optimizer, found by its name in params.yaml; `terms` is what they share.

An optimizer's module declares `Params` (its section), `advantages(rewards, weights, params)` and
`loss(slates, advantage, params)`. This file imports none of them, so that a cell depends on its own optimizer only.
"""
