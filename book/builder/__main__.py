"""The command line: ``python book/builder COMMAND``; an option that is left out has the default of the function."""

import argparse
import os
import sys
from pathlib import Path

# Python puts the package's own folder first, whose modules have common names.
sys.path[:1] = [str(Path(__file__).resolve().parents[place]) for place in (1, 2)]

import builder  # noqa: E402

COMMANDS = {name: getattr(builder, name) for name in ("execute", "validate", "refresh", "publish", "pdf", "rehearse")}
lines = [f"{name}: {function.__doc__.splitlines()[0]}" for name, function in COMMANDS.items()]
parser = argparse.ArgumentParser("builder", None, "\n".join(lines), formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("command", choices=COMMANDS)
parser.add_argument("names", nargs="*", metavar="CHAPTER", help="such as 02-the-data; all if left out (not of publish, pdf)")
parser.add_argument("--profile", help="a file of book/profiles (execute, publish)")
parser.add_argument("--jobs", type=int, help="at once; one a core if left out (execute, validate, rehearse)")
parser.add_argument("--timeout", type=int, help="seconds for one cell (execute, validate, rehearse)")
parser.add_argument("--force", action="store_true", default=None, help="run fresh chapters too (execute)")
options = {name: value for name, value in vars(parser.parse_args()).items() if value}
function = COMMANDS[options.pop("command")]
if unknown := set(options) - set(function.__code__.co_varnames[: function.__code__.co_argcount]):
    parser.error(f"{function.__name__} takes no {', '.join(sorted(unknown))}")
try:
    sys.exit(0 if function(**options) else 1)
except (builder.BookError, OSError) as error:
    sys.exit(f"book: error: {error}")
except KeyboardInterrupt:
    print("book: interrupted; the same command goes on from here", file=sys.stderr)
    os._exit(130)  # chapters that still run end with the process that started them
