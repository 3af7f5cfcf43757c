"""The command line: ``addlib generate | prepare | verify | sweep | predict``.

Modules are imported by the command that needs them, so that help is instant. An option that is not given is not passed on:
the function's own default holds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from addlib import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 only if everything that was asked for was done, 1 if not, 2 for a wrong command line."""
    try:
        done = commands.main(argv, prog_name="addlib", standalone_mode=False)
        return int(not done) if isinstance(done, bool) else done or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted; running the same command again goes on from here", 130)
    except BrokenPipeError:  # whoever read the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        return _say(f"error: {error}; install what all commands need: pip install 'addlib[book]'", 1)
    except OSError as error:
        return _say(f"error: {': '.join(str(part) for part in (error.strerror or error, error.filename) if part)}", 1)
    except (ValueError, RuntimeError) as error:
        return _say(f"error: {error or type(error).__name__}", 1)
    except Exception as error:
        if "--debug" in (sys.argv[1:] if argv is None else argv):
            raise
        return _say(f"error: {type(error).__name__}: {error}; addlib --debug shows where it comes from", 1)


def _say(text, code):
    click.echo(f"addlib: {text}", err=True)
    return code


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="addlib", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def commands(debug: bool) -> None:
    """Data, preparation, trainings, and judgement of a video."""


def _number(name: str, text: str, metavar: str = "N"):
    return click.option(name, type=int, metavar=metavar, help=text)


def _names(context, parameter, value):
    return tuple(name for part in value for name in part.split(",") if name)


def _given(options: dict) -> dict:
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


SCHEDULER = click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786 (default: local).")


@commands.command()
@click.argument("root")
@_number("--people", "Identities (default: 200).")
@_number("--frames", "Frames of each video (default: 8).")
@_number("--seed", "The same seed gives the same bytes (default: 0).")
@_number("--workers", "Processes (default: one per core).")
@click.option("--overwrite", is_flag=True, help="Replace a tree made with other settings.")
def generate(root: str, **options) -> bool:
    """Write MiniForensics, a data set of synthetic people, as an FF++ tree of H.264 files to ROOT."""
    from addlib import miniforensics

    miniforensics.generate(root, **_given(options))
    return True


@commands.command()
@click.argument("root")
@click.argument("out")
@click.option("--manipulations", multiple=True, callback=_names, metavar="A,B", help="E.g. NeuralTextures (default: all found).")
@click.option("--qualities", multiple=True, callback=_names, metavar="Q,Q", help="Of raw,c23,c40 (default: all three).")
@_number("--frames", "Frames sampled from each video (default: 64).")
@_number("--size", "Edge of a crop in pixels (default: 128).", "PIXELS")
@_number("--seed", "Seed of frames and of split (default: 0).")
@_number("--upsample", "Doublings of a frame before the search (default: 0).")
@_number("--retry", "More doublings where no face is found (default: 1).")
@_number("--search", "Shrink larger frames for the search (default: 480).", "PIXELS")
@click.option("--splits", metavar="FOLDER", help="train.json, val.json, test.json of FF++ (default: seeded).")
@_number("--workers", "Local processes (default: one per core).")
@SCHEDULER
def prepare(root: str, out: str, **options) -> bool:
    """Cut aligned face crops from the FF++ tree ROOT into OUT, with a manifest. Interrupted runs go on."""
    from addlib import faceforensics

    manifest = faceforensics.prepare(root, out, **_given(options))
    counts = [f"{int((manifest['status'] == status).sum())} {status}" for status in ("ok", "short", "failed")]
    print(f"{out}: {int(manifest['crops'].sum())} crops from {len(manifest)} videos; {', '.join(counts)}")
    print(f"data hash {faceforensics.data_hash(out)}")
    if noted := int((manifest["note"] != "").sum()) if "note" in manifest else 0:
        print(f"{noted} rows of {out}/manifest.csv say in their note what else is out of the ordinary")
    for row in manifest[manifest["status"] != "ok"].itertuples():
        where = f"{row.manipulation}/{row.quality}/{row.video}"
        print(f"{row.status}: {where}: {row.crops} of {row.asked} crops, {row.reason}")
    return not (manifest["status"] == "failed").any()


@commands.command()
@click.argument("out")
@click.option("--alignment", is_flag=True, help="Measure that c23 and c40 show the face where raw does.")
def verify(out: str, **options) -> bool:
    """Check the folder OUT that prepare wrote against its manifest, byte by byte."""
    from addlib import faceforensics

    problems = faceforensics.verify(out, **_given(options))
    print("\n".join(problems) if problems else f"{out}: all crops are as the manifest says")
    return not problems


@commands.command()
@click.argument("grid")
@_number("--workers", "Trainings at once (default: one per GPU, or per core).")
@SCHEDULER
@_number("--limit", "At most so many trainings (default: all).")
@click.option("--stale", is_flag=True, help="Train again what other code than today's gave.")
@click.option("--force", is_flag=True, help="Train again what has a row.")
def sweep(grid: str, **options) -> bool:
    """Train what the table of results lacks of GRID, a YAML file or the stem of one in book/experiments/grids."""
    from addlib.sweep import sweep

    return sweep(grid, **_given(options))


@commands.command()
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@click.option("--weights", required=True, metavar="FILE", help="Of a training: data/runs/NAME/weights.safetensors, or NAME.")
@_number("--frames", "Frames to look at, evenly spread (default: 64).")
@_number("--shift", "Pixels that training took off the crops (default: as the weights say).")
@click.option("--threshold", type=float, default=0.5, show_default=True, help="Fake above this probability.")
@click.option("--csv", metavar="FILE", help="Write frame, time, box and probability of every frame.")
@click.option("--plot", metavar="FILE", help="Draw the probability over time (.png, .svg or .pdf).")
def predict(clips, weights, threshold, csv, plot, **options) -> bool:
    """Say of each CLIP (video, picture, or folder of pictures) how likely a detector takes it for fake, by its faces."""
    import pandas as pd

    from addlib import judge
    from addlib.detectors import read_detector

    detector, about = read_detector(_weights_file(weights))
    known = ", ".join(f"{name} {about[name]}" for name in ("manipulation", "quality", "distiller") if name in about)
    print(f"{detector.name}, trained on: {known or 'the file does not say what'}")
    print("A verdict holds for videos like those: same manipulation, compression, kind of people. It is no evidence about others.")
    if options["shift"] is None and (shift := judge.shift_of(about)) is None:
        print(f"The weights do not say how many pixels training took off the crops (recipe {about.get('recipe')}): --shift, here 0.")
    else:
        options["shift"] = shift if options["shift"] is None else options["shift"]
    found, complete = {}, True
    for clip in clips:
        try:
            found[clip] = judge.judge(clip, detector, **_given(options))
        except (OSError, ValueError) as error:
            _say(f"error: {error}", 1)
            complete = False
            continue
        print(f"{clip}: {found[clip].verdict(threshold)}", flush=True)
        complete &= found[clip].faces > 0
    if csv and found:
        pd.concat([one.frames.assign(clip=clip) for clip, one in found.items()]).to_csv(csv, index=False)
    if plot and found:
        judge.plot(found).savefig(plot, dpi=150)
    return complete


def _weights_file(name: str) -> Path:
    """The file of weights that is meant by a path, or by the name of a training in data/runs."""
    from addlib.files import project_root

    try:
        runs = project_root() / "data" / "runs"
    except FileNotFoundError:
        runs = Path("data/runs")
    for path in (Path(name), Path(name, "weights.safetensors"), runs / name / "weights.safetensors"):
        if path.is_file():
            return path
    kept = sorted(path.parent.name for path in runs.glob("*/weights.safetensors"))
    if not kept:
        raise FileNotFoundError(f"no weights at {name}, and none in {runs}: train first (chapter 7, or 'addlib sweep table2')")
    raise FileNotFoundError("\n  ".join([f"no weights at {name}; in {runs} there are", *kept]))


if __name__ == "__main__":
    sys.exit(main())
