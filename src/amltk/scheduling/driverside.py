"""What belongs to the driver and cannot be sent to a worker, and says so."""

from __future__ import annotations

from typing import Any, NoReturn, Self, SupportsIndex


class DriverSide:
    """Base of what a function takes along by mistake that is to be sent to a worker."""

    def __copy__(self) -> Self:
        """Return one with the same attributes, as ``copy.copy`` does for objects of any kind."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: It says how a function may have come to hold this.
        """
        kind = type(self).__qualname__
        message = (
            f"a {kind} stays in the driver and cannot be pickled; the function that is sent holds it, "
            f"as an attribute of the object whose method it is, in a closure, or as a global that it "
            f"uses: give the function the plain values that it needs instead"
        )
        raise TypeError(message)

    def __getstate__(self) -> Any:
        """Refuse likewise where somebody pickles by hand."""
        self.__reduce_ex__(0)
