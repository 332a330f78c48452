"""Lists side by side, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli import output
from services.cli.commands.lists import title_of
from services.cli.story.claims import Claim
from services.cli.story.newcomers import NewcomerCheck
from services.cli.story.stranger import Step, StrangerStory
from services.cli.story.tastes import TasteCheck

_TITLE_CHARS = 26


def print_stranger(story: StrangerStory, console: Console) -> None:
    """Chapter one: the lists side by side, what moved, why, and how fast."""
    console.print(Rule("A stranger", align="left"))
    console.print(_side_by_side(story))
    _print_step("liked", story.liked, console)
    _print_step("clicked, then disliked", story.disliked, console)
    near = ", ".join(title_of(n.item) for n in story.neighbours[:3])
    console.print(
        output.escaped(
            f"The disliked item's {len(story.neighbours)} nearest ({near}, …) went from mean rank "
            f"{story.neighbours_before:.0f} to {story.neighbours_after:.0f} in the whole catalogue."
        )
    )


def print_sources(response: pb.RecommendResponse, console: Console) -> None:
    """Which sources fed a list, and what each reason was."""
    console.print(Rule("Who fed the list", align="left"))
    counts = Counter(item.source for item in response.items)
    examples = {item.source: item for item in reversed(response.items)}
    rows = [
        (source, count, title_of(examples[source].item), examples[source].reason)
        for source, count in counts.most_common()
    ]
    columns = ("source", output.Column("items", numeric=True), "for example", "why")
    console.print(output.table(f"A list of {len(response.items)}", columns, rows))


def print_taste(check: TasteCheck, console: Console) -> None:
    """Chapter two: one new item, two people."""
    console.print(Rule("A new item, from its text alone", align="left"))
    kinds = ", ".join(check.item.categories)
    console.print(
        output.escaped(
            f"“{check.item.title}” ({kinds}) can be ranked {check.taken_up_ms:,.0f} ms after it was stored."
        )
    )
    rows = [
        (
            word,
            person.user_id,
            f"{person.share:.0%}",
            f"{person.rank:,} of {person.ranked:,}",
            f"{person.percentile:.1%}",
        )
        for word, person in (("fits", check.fitting), ("does not fit", check.other))
    ]
    columns = (
        "the taste",
        "person (never trained on)",
        output.Column(f"likes of {check.category}", numeric=True),
        output.Column("rank", numeric=True),
        output.Column("from the top", numeric=True),
    )
    console.print(output.table("", columns, rows))


def print_newcomers(check: NewcomerCheck, console: Console) -> None:
    """Chapter three: a hundred new items, everybody."""
    console.print(Rule(f"{check.items} new items, {check.people} people", align="left"))
    rows = [
        (
            "people who came to like an item like it",
            f"{check.fitting_pairs:,}",
            f"{check.fitting_median:.1%}",
        ),
        ("other people", f"{check.other_pairs:,}", f"{check.other_median:.1%}"),
    ]
    columns = (
        "for",
        output.Column("pairs", numeric=True),
        output.Column("median from the top", numeric=True),
    )
    console.print(output.table("", columns, rows))


def print_claims(claims: Sequence[Claim], console: Console) -> None:
    console.print(Rule("What was claimed", align="left"))
    rows = [("yes" if c.holds else "NO", c.text, c.figures) for c in claims]
    console.print(output.table("", ("holds", "claim", "seen"), rows))


def _print_step(word: str, step: Step, console: Console) -> None:
    titles = ", ".join(title_of(item.item) for item in step.did)
    console.print(
        output.escaped(
            f"{word}: {titles} → the changed list came {step.changed_ms:.0f} ms after the feedback was sent "
            f"(adapted on {step.shown.shots_used} events, model {step.shown.model.version})"
        )
    )


def _side_by_side(story: StrangerStory) -> Table:
    """The three lists; beside each item how it moved against the list before, and why it is there."""
    first, second, third = (step.shown for step in (story.first, story.liked, story.disliked))
    rows = [
        (
            one.position + 1,
            _short(one),
            _short(two),
            _moved(two, first),
            _short(three),
            _moved(three, second),
            three.reason,
        )
        for one, two, three in zip(first.items, second.items, third.items, strict=True)
    ]
    columns = (
        output.Column("#", numeric=True),
        "before anything is known",
        f"after {len(story.liked.did)} likes",
        "moved",
        "after a dislike",
        "moved",
        "why",
    )
    return output.table("", columns, rows)


def _short(item: pb.RecommendedItem) -> str:
    title = title_of(item.item)
    return title if len(title) <= _TITLE_CHARS else title[: _TITLE_CHARS - 1] + "…"


def _moved(item: pb.RecommendedItem, before: pb.RecommendResponse) -> str:
    was = next((other.position for other in before.items if other.item_id == item.item_id), None)
    return "new" if was is None else _arrow(was - item.position)


def _arrow(places: int) -> str:
    return "=" if places == 0 else f"↑{places}" if places > 0 else f"↓{-places}"
