"""No RL: the SFT policy as it is, so that it stands in the tables as one more optimizer.

Its section of params.yaml is `sft`, the shared one that trained it.
"""

Params = None
loss = None  # nothing to descend: rl publishes the warm-up unchanged
