"""The command line: ``python book/builder execute | validate | refresh | publish | pdf``; defaults are the functions' own."""

import os
import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parents[1]
# Python puts the package's own folder first, whose modules have common names.
sys.path[:1] = [str(BOOK), str(BOOK.parent)]

import click

import builder

main = click.Group(help="Execute, validate, refresh, publish and print the book.")
OPTIONS = {
    "names": click.argument("names", metavar="[CHAPTER]...", nargs=-1),
    "profile": click.option("--profile", default="smoke", show_default=True, help="A file of book/profiles."),
    "jobs": click.option("--jobs", type=click.IntRange(1), help="Chapters at once; one a core if left out."),
    "timeout": click.option("--timeout", default=600, show_default=True, help="Limit for one cell, in seconds."),
    "force": click.option("--force", is_flag=True, help="Run fresh chapters too."),
}


def add(function, *options: str) -> None:
    def command(**values):
        try:
            sys.exit(0 if function(**values) else 1)
        except (builder.BookError, OSError) as error:
            print(f"book: error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("book: interrupted; the same command goes on from here", file=sys.stderr)
            os._exit(130)  # chapters that still run end with the process that started them

    for option in options:
        command = OPTIONS[option](command)
    main.command(function.__name__, help=function.__doc__.partition("\n\n")[0])(command)


add(builder.execute, "names", "profile", "jobs", "timeout", "force")
add(builder.validate, "names", "jobs", "timeout")
add(builder.refresh, "names")
add(builder.publish, "profile")
add(builder.pdf)

if __name__ == "__main__":
    main()
