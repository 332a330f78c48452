"""`warmstart keys create|list|revoke`: who may call, in the file that servers follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli import options, output
from services.cli.cluster.layout import KEYS_FILE
from services.cli.cluster.lock import make_data_dir
from services.cli.failures import CommandError
from shared.auth.callers import MAX_DOMAINS, Quota, Scope, credential_domain_rule
from shared.auth.key_file import MAX_NOTE_BYTES, MAX_RATE, as_dict, change_keys, read_keys
from shared.auth.keys import StaticKey, new_key, revoked
from shared.limits import text_rule

CREATE_EXAMPLES = options.examples(
    "warmstart keys create --scope recommend --scope feedback --note 'the shop'",
    "warmstart keys create --scope recommend --domain shop --expires 90d --rate 100 --burst 200",
    "warmstart keys create --scope admin --domain '*' --json",
)
LIST_EXAMPLES = options.examples("warmstart keys list", "warmstart keys list --json")
REVOKE_EXAMPLES = options.examples("warmstart keys revoke 3f9ac01d77be")
_AGE = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}

File = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="File of keys (AUTH_KEYS of the servers); by default keys.json in the data directory.",
        dir_okay=False,
        rich_help_panel="Where",
    ),
]


def create(
    scope: Annotated[
        list[Scope],
        typer.Option(
            help="What it may do; may be given several times. recommend: lists. feedback: what people do and "
            "are. catalogue: items. admin: export and erase people, train, promote."
        ),
    ],
    domain: Annotated[
        list[str], typer.Option(help="Where; may be given several times. * is every domain.")
    ] = [options.DOMAIN],  # noqa: B006 - typer's own; it is not changed
    expires: Annotated[str, typer.Option(metavar="AGE", help="12h, 90d, 52w, or never.")] = "never",
    rate: Annotated[
        float | None,
        typer.Option(
            help=f"Calls a second, in the long run: 0 to {MAX_RATE:,.0f}; 0 is no limit. By default as the "
            "servers are told (QUOTA_RATE).",
            show_default=False,
        ),
    ] = None,
    burst: Annotated[
        float | None,
        typer.Option(
            help="Calls that may be saved up, at least 1; by default those of one second.",
            show_default=False,
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="For people: whose it is.")] = "",
    as_json: options.Json = False,
    file: File = None,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make a key and print it, this once: the file keeps a hash of it. Servers take it up within a second."""
    now = _now()
    kept, key = new_key(
        scopes=scope,
        domains=_domains(domain),
        created=now,
        expires=_expiry(expires, now),
        quota=_quota(rate, burst),
        note=_note(note),
    )
    path = _path(file, data_dir)
    change_keys(path, lambda keys: (*keys, kept))
    if as_json:
        output.print_json({"key": key, **_shown(kept, now)})
        return
    console = output.stderr()
    console.print(output.escaped(f"key {kept.key_id} in {path}; it is shown only now:"), soft_wrap=True)
    print(key)


def list_(
    as_json: options.Json = False, file: File = None, data_dir: options.DataDir = options.DATA_DIR
) -> None:
    """The keys of the file, oldest first; what opens the doors is not in it."""
    now = _now()
    keys = _existing(_path(file, data_dir))
    if as_json:
        output.print_json([_shown(key, now) for key in keys])
        return
    columns = (
        output.Column("id", wrap=False),
        "state",
        "scopes",
        "domains",
        "calls a second",
        "created (UTC)",
        "expires (UTC)",
        "note",
    )
    output.stdout().print(output.table("Keys", columns, [_row(key, now) for key in keys]))


def revoke(
    key_id: Annotated[str, typer.Argument(help="A key's id, from `warmstart keys list`.")],
    as_json: options.Json = False,
    file: File = None,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Have a key refused from now on. Servers notice within a second; it cannot be taken back."""
    path, now = _path(file, data_dir), _now()
    _existing(path)
    found: list[StaticKey] = []

    def change(keys: tuple[StaticKey, ...]) -> Sequence[StaticKey]:
        changed = [revoked(key, now) if key.key_id == key_id else key for key in keys]
        found.extend(key for key in changed if key.key_id == key_id)
        if not found:
            raise CommandError(
                f"key_id must be one of {path}, got {key_id[:40]!r}: `warmstart keys list` shows them"
            )
        return changed

    change_keys(path, change)
    if as_json:
        output.print_json(_shown(found[0], now))
    else:
        output.stdout().print(f"revoked: {key_id}")


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _path(file: Path | None, data_dir: Path) -> Path:
    if file is not None:
        return file
    make_data_dir(data_dir)
    return data_dir / KEYS_FILE


def _existing(path: Path) -> tuple[StaticKey, ...]:
    if not path.is_file():
        raise CommandError(f"{path} is not there: make a key with `warmstart keys create`, or name --file")
    return read_keys(path)


def _domains(given: Sequence[str]) -> list[str]:
    for domain in given:
        if rule := credential_domain_rule(domain):
            raise typer.BadParameter(f"--domain {rule}, got {domain!r}")
    if len(given) > MAX_DOMAINS:
        raise typer.BadParameter(f"--domain must be given at most {MAX_DOMAINS} times, got {len(given)}")
    return list(given)


def _expiry(age: str, now: datetime) -> datetime | None:
    if age == "never":
        return None
    found = _AGE.fullmatch(age)
    if found is None:
        raise typer.BadParameter(f"--expires must be like 12h, 90d or 52w, or never, got {age!r}")
    return now + timedelta(minutes=int(found[1]) * _MINUTES[found[2]])


def _quota(rate: float | None, burst: float | None) -> Quota | None:
    if rate is None:
        if burst is not None:
            raise typer.BadParameter(f"--burst must stand beside --rate, got {burst:g} alone")
        return None
    for option, value, least in (("--rate", rate, 0), ("--burst", burst, 1)):
        if value is not None and not least <= value <= MAX_RATE:  # NaN is not, either
            raise typer.BadParameter(
                f"{option} must be a number of {least} to {MAX_RATE:,.0f}, got {value:g}"
            )
    return Quota(rate, rate if burst is None else burst)


def _note(note: str) -> str:
    if rule := text_rule(note, MAX_NOTE_BYTES):
        raise typer.BadParameter(f"--note {rule}, got {note[:40]!r}")
    return note


def _shown(key: StaticKey, now: datetime) -> dict[str, Any]:
    """As the file holds it, without the hash."""
    return {"state": key.state(now), **{n: v for n, v in as_dict(key).items() if n != "sha256"}}


def _row(key: StaticKey, now: datetime) -> tuple[str, ...]:
    quota = (
        "as servers are told" if key.quota is None else f"{key.quota.rate:g}, {key.quota.at_once:g} at once"
    )
    return (
        key.key_id,
        key.state(now),
        ", ".join(sorted(key.scopes)),
        ", ".join(sorted(key.domains)),
        "no limit" if key.quota is not None and key.quota.unlimited else quota,
        f"{key.created:%Y-%m-%d %H:%M}",
        "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}",
        key.note,
    )
