"""The command line; defaults of functions hold where an option is left out."""

import os
import sys
from pathlib import Path

# Python puts the package's own folder first, whose modules have common names.
sys.path[:1] = [str(Path(__file__).resolve().parents[place]) for place in (1, 2)]

import click  # noqa: E402

import builder  # noqa: E402

main = click.Group(help="Execute, validate, refresh, publish and print the book.")
profile = click.option("--profile", default="smoke", show_default=True, help="A file of book/profiles.")
jobs = click.option("--jobs", type=click.IntRange(1), help="Chapters at once  [default: one a core]")
timeout = click.option("--timeout", default=600, show_default=True, help="Limit for one cell, in seconds.")
force = click.option("--force", is_flag=True, help="Run fresh chapters too.")
names = click.argument("names", metavar="[CHAPTER]...", nargs=-1)


def command(function, *options) -> None:
    def call(**values):
        try:
            sys.exit(0 if function(**values) else 1)
        except (builder.BookError, OSError) as error:
            print(f"book: error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("book: interrupted; the same command goes on from here", file=sys.stderr)
            os._exit(130)  # chapters that still run end with the process that started them

    for option in options:
        call = option(call)
    main.command(function.__name__, help=function.__doc__.partition("\n\n")[0])(call)


command(builder.execute, force, timeout, jobs, profile, names)
command(builder.validate, timeout, jobs, names)
command(builder.refresh, names)
command(builder.publish, profile)
command(builder.pdf)
main()
