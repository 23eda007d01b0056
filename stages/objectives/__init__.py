"""What RL descends: one module per optimizer, found by its name in params.yaml; `terms` is what they share.

An optimizer's module declares `Params` (its section), `advantages(rewards, weights, params, divide_by_std)` and
`loss(slates, advantage, params)`, and imports no other one: a cell depends on its own optimizer only, which is also why
this file imports none. `SEPARABLE = False` says that a loss is no mean over slates, so that a batch may not be split.
"""
