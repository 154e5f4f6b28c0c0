"""A progress bar for loops of steps, with the loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class progress:  # noqa: N801 - reads as a function, as `range` does
    """Iterate with a progress bar that shows the loss; needs `pip install pullback[progress]`.

    Args:
        steps: the number of steps, or an iterable.
        every: the number of steps from one display of the loss to the next; each display takes a request.

    >>> from pullback import Variable, connect
    >>> with connect("local"):
    ...     w = Variable(1.0)
    ...     steps = progress(20, disable=True)
    ...     for _ in steps:
    ...         loss = w * w
    ...         steps.show(loss)

    Raises:
        ImportError: the extra is not installed.
    """

    def __init__(self, steps: int | Iterable[Any], *, every: int = 10, **options: Any) -> None:
        try:
            from tqdm import tqdm  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError('a progress bar needs the extra "progress": pip install "pullback[progress]"') from error
        self._bar = tqdm(steps if isinstance(steps, Iterable) else range(steps), **options)
        self._every = max(1, every)
        self._step = 0

    def __iter__(self) -> Iterator[Any]:
        for step, item in enumerate(self._bar):
            self._step = step
            yield item

    def show(self, loss: Any = None, **more: Any) -> None:
        """Display a loss, and other values by name, once every `every` steps."""
        if self._step % self._every == 0 or self._step + 1 == self._bar.total:
            shown = more if loss is None else {"loss": loss, **more}
            self._bar.set_postfix({name: f"{value:.6g}" for name, value in shown.items()})
