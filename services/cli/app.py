"""The commands, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import typer

from services.cli import output, tls
from services.cli.commands import (
    bench,
    certificates,
    cluster,
    demo,
    importing,
    items,
    keys,
    lists,
    models,
    store,
    story,
    training,
    trainings,
    users,
)
from services.cli.failures import explain
from services.cli.logs import logs_on_stderr
from services.cli.once import OnceTyper
from services.cli.training.resuming import ResumableCommand
from shared.errors import WarmstartError

_HELP = "Warmstart: recommends well to people it has just met."


def build() -> typer.Typer:
    """The command line."""
    app = OnceTyper(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.callback()(tls.options)
    app.command("certificates", epilog=certificates.EXAMPLES)(certificates.certificates)
    app.command("up", epilog=cluster.UP_EXAMPLES)(cluster.up)
    app.command("down", epilog=cluster.DOWN_EXAMPLES)(cluster.down)
    app.command("import", epilog=importing.EXAMPLES)(importing.import_)
    app.command("train", cls=ResumableCommand, epilog=training.TRAIN_EXAMPLES)(training.train)
    app.command("evaluate", cls=ResumableCommand, epilog=training.EVALUATE_EXAMPLES)(training.evaluate)
    app.command("recommend", epilog=lists.RECOMMEND_EXAMPLES)(lists.recommend)
    app.command("similar", epilog=lists.SIMILAR_EXAMPLES)(lists.similar)
    app.command("feedback", epilog=lists.FEEDBACK_EXAMPLES)(lists.feedback)
    app.add_typer(_items(), name="items")
    app.add_typer(_users(), name="users")
    app.add_typer(_trainings(), name="trainings")
    app.add_typer(_models(), name="models")
    app.add_typer(_keys(), name="keys")
    app.add_typer(_store(), name="store")
    app.command("bench", epilog=bench.EXAMPLES)(bench.bench)
    app.command("story", epilog=story.EXAMPLES)(story.story)
    app.command("demo", epilog=demo.EXAMPLES)(demo.demo)
    return app


def _items() -> typer.Typer:
    app = OnceTyper(help="The catalogue.", no_args_is_help=True)
    app.command("list", epilog=items.LIST_EXAMPLES)(items.list_)
    app.command("get", epilog=items.GET_EXAMPLES)(items.get)
    app.command("add", epilog=items.ADD_EXAMPLES)(items.add)
    app.command("delete", epilog=items.DELETE_EXAMPLES)(items.delete)
    return app


def _users() -> typer.Typer:
    app = OnceTyper(help="People, their data and their relations.", no_args_is_help=True)
    app.command("export", epilog=users.EXPORT_EXAMPLES)(users.export)
    app.command("pseudonym", epilog=users.PSEUDONYM_EXAMPLES)(users.pseudonym)
    app.command("delete", epilog=users.DELETE_EXAMPLES)(users.delete)
    app.command("merge", epilog=users.MERGE_EXAMPLES)(users.merge)
    app.command("relate", epilog=users.RELATE_EXAMPLES)(users.relate)
    return app


def _trainings() -> typer.Typer:
    app = OnceTyper(help="Trainings of the training service.", no_args_is_help=True)
    app.command("list", epilog=trainings.LIST_EXAMPLES)(trainings.list_)
    app.command("watch", epilog=trainings.WATCH_EXAMPLES)(trainings.watch)
    app.command("stop", epilog=trainings.STOP_EXAMPLES)(trainings.stop)
    return app


def _models() -> typer.Typer:
    app = OnceTyper(help="Published models.", no_args_is_help=True)
    app.command("list", epilog=models.LIST_EXAMPLES)(models.list_)
    app.command("show", epilog=models.SHOW_EXAMPLES)(models.show)
    app.command("promote", epilog=models.PROMOTE_EXAMPLES)(models.promote)
    app.command("rollback", epilog=models.ROLLBACK_EXAMPLES)(models.rollback)
    app.command("sign", epilog=models.SIGN_EXAMPLES)(models.sign)
    return app


def _keys() -> typer.Typer:
    app = OnceTyper(
        help="Who may call: keys that the gateway and the training service accept.", no_args_is_help=True
    )
    app.command("create", epilog=keys.CREATE_EXAMPLES)(keys.create)
    app.command("list", epilog=keys.LIST_EXAMPLES)(keys.list_)
    app.command("revoke", epilog=keys.REVOKE_EXAMPLES)(keys.revoke)
    return app


def _store() -> typer.Typer:
    app = OnceTyper(help="Backup and restore of the local cluster's store.", no_args_is_help=True)
    app.command("backup", epilog=store.BACKUP_EXAMPLES)(store.backup)
    app.command("restore", epilog=store.RESTORE_EXAMPLES)(store.restore)
    app.command("erasures", epilog=store.ERASURES_EXAMPLES)(store.erasures)
    app.command("show", epilog=store.SHOW_EXAMPLES)(store.show)
    return app


@logs_on_stderr()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. 0 = done, 1 = failed (the message says what to do next), 2 = wrong usage,
    130 = interrupted."""
    try:
        build()(args=list(arguments) if arguments is not None else None, prog_name="warmstart")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except WarmstartError as error:
        output.stderr().print(f"[bold red]error:[/] {output.escaped(explain(error))}", soft_wrap=True)
        return 1
    except OSError as error:  # of files and directories; calls have errors of ours
        where = f"{error.filename}: " if error.filename else ""
        output.stderr().print(
            f"[bold red]error:[/] {output.escaped(f'{where}{error.strerror or error}')}", soft_wrap=True
        )
        return 1
    except UnicodeEncodeError as error:
        output.stderr().print(f"[bold red]error:[/] text must be UTF-8, got {ascii(error.object)[:80]}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        output.stderr().print("interrupted")
        return 130
    return 0
