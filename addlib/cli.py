"""The command line: ``addlib generate | prepare | verify | sweep | predict``.

Modules are imported by the command that needs them, so that help is instant. An option that is not given is not passed on:
the function's own default holds. A command returns 0 only if everything that was asked for was done.
"""

import os
import sys
import warnings
from functools import partial
from pathlib import Path

import click

from addlib import __version__


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code: 0 done, 1 not all of it, 2 a wrong command line, 130 interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *about: _say(f"warning: {' '.join(str(message).split())}")
            return commands.main(argv, prog_name="addlib", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; running the same command again goes on from here")
        return 130
    except (OSError, ValueError, RuntimeError, ModuleNotFoundError) as error:
        remedy = "; pip install 'addlib[video,train]'" if isinstance(error, ModuleNotFoundError) else ""
        _say(f"error: {error}{remedy}")
        return 1
    except Exception as error:  # of a file that was edited by hand perhaps
        if "ADDLIB_TRACEBACK" in os.environ:
            raise
        _say(f"error: unexpected {type(error).__name__}: {error}; set ADDLIB_TRACEBACK=1 to see where")
        return 1


def _say(text):
    click.echo(f"addlib: {text}", err=True)


def _given(options):
    return {name: value for name, value in options.items() if value is not None and value is not False}


def _output(context, option, file):
    """A file to write, refused now and not after the work."""
    endings = (".csv",) if option.name == "csv" else (".png", ".svg", ".pdf")
    if file and not (Path(file).parent.is_dir() and file.lower().endswith(endings)):
        raise click.BadParameter(f"{file}: expected a name in {' or '.join(endings)}, in a folder that exists")
    return file


def _names(context, option, text):
    if text is None:
        return None
    if not (given := [name.strip() for name in text.split(",") if name.strip()]):
        raise click.BadParameter(f"{text!r} names nothing; expected names with commas between them")
    return given


number = partial(click.option, type=int, metavar="N")
names = partial(click.option, metavar="A,B", callback=_names)
output = partial(click.option, metavar="FILE", callback=_output)
folder = partial(click.argument, type=click.Path(exists=True, file_okay=False))
scheduler = click.option("--scheduler", metavar="ADDRESS", help="Dask, e.g. tcp://host:8786 (default: local).")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="addlib", message="%(prog)s %(version)s")
def commands() -> None:
    """Data, preparation, trainings, and judgement of a video."""


@commands.command()
@click.argument("root")
@number("--people", help="Identities (default: 200).")
@number("--frames", help="Frames of each video (default: 8).")
@number("--seed", type=click.IntRange(0), help="The same seed gives the same bytes (default: 0).")
@number("--workers", help="Processes (default: one per core).")
@click.option("--overwrite", is_flag=True, help="Replace a tree made with other settings.")
def generate(root: str, **options) -> None:
    """Write MiniForensics, a data set of synthetic people, as an FF++ tree of H.264 files to ROOT."""
    from addlib import miniforensics

    miniforensics.generate(root, **_given(options))


@commands.command()
@folder("root")
@click.argument("out")
@names("--manipulations", help="E.g. NeuralTextures (default: all found).")
@names("--qualities", help="Of raw,c23,c40 (default: all three).")
@number("--frames", help="Frames sampled from each video (default: 64).")
@number("--size", help="Edge of a crop in pixels (default: 128).")
@number("--seed", type=click.IntRange(0), help="Seed of frames and of split (default: 0).")
@number("--upsample", help="Doublings of a frame before the search (default: 0).")
@number("--retry", help="More doublings where no face is found (default: 1).")
@number("--search", help="Search frames whose shorter side is longer on a copy of this size (default: 480).")
@click.option("--splits", metavar="FOLDER", help="train.json, val.json, test.json of FF++ (default: seeded).")
@number("--workers", help="Local processes (default: one per core).")
@scheduler
def prepare(root: str, out: str, **options) -> int:
    """Cut aligned face crops from the FF++ tree ROOT into OUT, with a manifest. Interrupted runs go on."""
    from addlib import faceforensics

    manifest = faceforensics.prepare(root, out, **_given(options))
    counts = [f"{int((manifest['status'] == status).sum())} {status}" for status in ("ok", "short", "failed")]
    print(f"{out}: {int(manifest['crops'].sum())} crops from {len(manifest)} videos; {', '.join(counts)}")
    print(f"data hash {faceforensics.data_hash(out)}")
    if noted := int((manifest["note"] != "").sum()):
        print(f"{noted} rows of {out}/manifest.csv say in their note what else is out of the ordinary")
    for row in manifest[manifest["status"] != "ok"].itertuples():
        where = f"{row.manipulation}/{row.quality}/{row.video}"
        print(f"{row.status}: {where}: {row.crops} of {row.asked} crops, {row.reason}")
    return int((manifest["status"] == "failed").any())


@commands.command()
@folder("out")
@click.option("--alignment", is_flag=True, help="Measure that c23 and c40 show the face where raw does.")
def verify(out: str, **options) -> int:
    """Check the folder OUT that prepare wrote against its manifest, byte by byte."""
    from addlib import faceforensics

    problems = faceforensics.verify(out, **_given(options))
    print("\n".join(problems) if problems else f"{out}: all crops are as the manifest says")
    return int(bool(problems))


@commands.command()
@click.argument("grids", nargs=-1, required=True, metavar="GRID...")
@number("--workers", help="Trainings at once (default: one per GPU, or per core).")
@scheduler
@number("--limit", help="At most so many trainings (default: all).")
@click.option("--stale", is_flag=True, help="Retrain what has a row by other code than today's.")
@click.option("--force", is_flag=True, help="Train again what has a row.")
def sweep(grids, **options) -> int:
    """Train what the table of results lacks of each GRID, a YAML file or the stem of one in book/experiments/grids."""
    from addlib.sweep import sweep

    return int(not sweep(*grids, **_given(options)))


@commands.command()
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...", type=click.Path(exists=True))
@click.option("--weights", required=True, multiple=True, metavar="FILE",
              help="data/runs/NAME/weights.safetensors, or NAME alone; again for more networks, which answer together.")
@number("--frames", help="Frames to look at, evenly spread (default: 64).")
@number("--shift", help="Pixels that training took off the crops (default: as the weights say).")
@click.option("--plugin", metavar="FILE", help="Python file that registers a detector of your own.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Fake above this probability.")
@output("--csv", help="Write frame, time, box and probability of every frame.")
@output("--plot", help="Draw the probability over time (.png, .svg or .pdf).")
def predict(clips, weights, plugin, threshold, csv, plot, **options) -> int:
    """Say of each CLIP (video, picture, or folder of pictures) how likely a detector takes it for fake, by its faces."""
    import pandas as pd

    from addlib import judge
    from addlib.detectors import read_detector
    from addlib.files import atomic_write
    from addlib.plugin import load

    if plugin:
        load(plugin)
    detectors, windows = [], set()
    for file in weights:
        detector, about = read_detector(judge.weights_file(file))
        known = [f"{name} {about[name]}" for name in ("manipulation", "quality", "distiller") if name in about]
        print(f"{detector.name}, trained on: {', '.join(known) or 'the file does not say what'}")
        detectors.append(detector)
        shift = about.get("shift", 0) if options["shift"] is None else options["shift"]
        windows.add((shift, about.get("size", 128)))
    print("It judges what is like that: manipulation, compression, kind of people.", end=" ")
    print("About other videos it is no evidence.")
    if len(windows) > 1:
        seen = sorted(windows, key=str)
        raise click.UsageError(f"these networks saw windows (shift, size of the crop) of {seen} pixels; judge with each alone")
    ((options["shift"], options["size"]),) = windows
    found = {}
    for clip in clips:
        try:
            found[clip] = judge.judge(clip, detectors, **_given(options))
            print(f"{judge.shown(clip)}: {found[clip].verdict(threshold)}", flush=True)
        except (OSError, ValueError) as error:
            _say(f"error: {judge.shown(str(error))}")
    if csv and found:
        table = pd.concat([one.frames.assign(clip=clip) for clip, one in found.items()]).to_csv(index=False)
        atomic_write(csv, lambda file: file.write(table.encode(errors="surrogateescape")))  # for names in no UTF-8
    if plot and found:
        judge.plot(found, threshold=threshold).savefig(plot, dpi=150)
    return int(len(found) < len(set(clips)) or not all(one.faces for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
