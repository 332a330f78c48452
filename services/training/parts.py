"""How many people are scored at a time."""

# Numbers of an array of scores at most: 64 MB each, and there are a few of them.
MOST_SCORES = 2**24


def people_at_once(scores_each: int, most: int) -> int:
    """So few that their scores fit into memory: 1 to `most`."""
    return max(1, min(most, MOST_SCORES // max(scores_each, 1)))
