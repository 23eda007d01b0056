"""Hbar of Eq. 6: the moving average that a slate's diversity is held against."""


class RunningMean:
    """Exponential moving average, started at the first value (the paper gives neither start nor rate)."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.value: float | None = None

    def start(self, value: float) -> float:
        """The average so far; `value` where there is none yet."""
        if self.value is None:
            self.value = value
        return self.value

    def update(self, value: float) -> None:
        """Move towards `value`."""
        self.value = self.start(value) + self.rate * (value - self.start(value))
