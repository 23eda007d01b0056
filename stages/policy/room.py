"""A key-value cache with room to grow: sampling writes each step into place instead of copying all steps before it.

Without gradients only: a buffer that is written in place cannot be differentiated through.
"""

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """One layer's keys and values [R, heads, P, width] at the front of buffers with `room` more places."""

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        rows, heads, self.used, width = keys.shape
        self.buffers = tuple(part.new_empty(rows, heads, self.used + room, width) for part in (keys, values))
        for buffer, part in zip(self.buffers, (keys, values), strict=True):
            buffer[:, :, : self.used] = part
        self.keys, self.values = (buffer[:, :, : self.used] for buffer in self.buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Write new states [R, heads, T, width] behind those that are there; return all."""
        end = self.used + key_states.shape[2]
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.used : end] = new
        self.used = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values


@torch.no_grad()
def with_room(cache: DynamicCache, copies: int, room: int) -> DynamicCache:
    """A cache of every row `copies` times, side by side, that takes `room` more tokens without moving."""
    roomy = DynamicCache()
    roomy.layers = [
        RoomyLayer(layer.keys.repeat_interleave(copies, 0), layer.values.repeat_interleave(copies, 0), room)
        for layer in cache.layers
    ]
    return roomy
