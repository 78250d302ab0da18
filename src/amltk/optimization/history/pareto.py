"""Which of many points are not dominated: no other one is as good in all and better in one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

#: With more losses than this, each point is compared with those of the front.
_SWEPT = 3


def front(points: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Return the points that are not dominated, where less is better.

    Up to three losses take the time of sorting. More take a comparison of each point with those of
    the front.
    """
    # A point can only be dominated by one that is sorted before it.
    ordered = sorted(set(points))
    if not ordered:
        return set()
    if len(ordered[0]) <= _SWEPT:
        return _swept(ordered)
    kept: list[tuple[float, ...]] = []
    for point in ordered:
        if not any(all(map(float.__le__, other, point)) for other in kept):
            kept.append(point)
    return set(kept)


def _swept(ordered: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    """Go through sorted points with a staircase of the second and third losses seen so far."""
    kept = set()
    seconds: list[float] = []
    thirds: list[float] = []
    for point in ordered:
        _, second, third = (*point, 0.0, 0.0)[:_SWEPT]
        place = bisect_right(seconds, second)
        if place and thirds[place - 1] <= third:
            continue
        kept.add(point)
        first = bisect_left(seconds, second)
        last = first
        while last < len(thirds) and thirds[last] >= third:
            last += 1
        seconds[first:last], thirds[first:last] = [second], [third]
    return kept
