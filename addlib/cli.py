"""The command line: ``addlib generate | prepare | verify | sweep | predict | book``.

Modules are imported by the command that needs them, so that help is instant. Defaults that a function declares are
left to it: options that were not given are not passed on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from addlib import __version__


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 only if everything that was asked for was done, 1 if not, 2 for a wrong command line."""
    arguments = parser().parse_args(argv)
    options = vars(arguments)
    run, debug = options.pop("run"), options.pop("debug")
    try:
        return 0 if run(**options) else 1
    except KeyboardInterrupt:
        print("addlib: interrupted; running the same command again goes on from here", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if debug:
            raise
        message = str(error) or type(error).__name__
        if isinstance(error, ModuleNotFoundError):
            message += "; install the extras of the book: pip install 'addlib[book]'"
        print(f"addlib: error: {message}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="addlib", description="Data, preparation, and the book.")
    top.add_argument("--version", action="version", version=f"addlib {__version__}")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _generate(commands)
    _prepare(commands)
    _verify(commands)
    _sweep(commands)
    _predict(commands)
    _book(commands)
    return top


def _command(commands, name: str, run, summary: str) -> argparse.ArgumentParser:
    # SUPPRESS: an option that was not given is not passed on, so the function's own default holds.
    command = commands.add_parser(name, help=summary, description=summary, argument_default=argparse.SUPPRESS)
    command.set_defaults(run=run)
    return command


def _generate(commands) -> None:
    summary = "Write MiniForensics, a data set of drawn people, as an FF++ tree of H.264 files."
    command = _command(commands, "generate", _run_generate, summary)
    command.add_argument("root", help="folder to write")
    command.add_argument("--people", type=int, metavar="N", help="identities (default: 200)")
    command.add_argument("--frames", type=int, metavar="N", help="frames of each video (default: 8)")
    command.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same bytes (default: 0)")
    command.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    command.add_argument("--overwrite", action="store_true", help="replace a tree made with other settings")


def _prepare(commands) -> None:
    summary = "Cut aligned face crops from an FF++ tree; write them with a manifest. Interrupted runs go on."
    command = _command(commands, "prepare", _run_prepare, summary)
    command.add_argument("root", help="FF++ tree to read")
    command.add_argument("out", help="folder to write")
    command.add_argument("--manipulations", nargs="+", metavar="NAME", help="e.g. NeuralTextures (default: all found)")
    command.add_argument("--qualities", nargs="+", metavar="Q", help="of raw, c23, c40 (default: all three)")
    command.add_argument("--frames", type=int, metavar="N", help="frames sampled from each video (default: 64)")
    command.add_argument("--size", type=int, metavar="PIXELS", help="edge of a crop in pixels (default: 128)")
    command.add_argument("--seed", type=int, metavar="N", help="seed of frames and of split (default: 0)")
    command.add_argument(
        "--upsample", type=int, metavar="N", help="doublings of a frame before the search (default: 0)"
    )
    command.add_argument("--retry", type=int, metavar="N", help="more doublings where no face is found (default: 1)")
    command.add_argument(
        "--search", type=int, metavar="PIXELS", help="shrink larger frames for the search (default: 480)"
    )
    command.add_argument("--splits", metavar="FOLDER", help="train.json, val.json, test.json of FF++ (default: seeded)")
    command.add_argument("--workers", type=int, metavar="N", help="local processes (default: one per core)")
    command.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786 (default: local)")


def _verify(commands) -> None:
    summary = "Check a folder of crops against its manifest, byte by byte."
    command = _command(commands, "verify", _run_verify, summary)
    command.add_argument("out", help="folder that prepare wrote")
    command.add_argument(
        "--alignment", action="store_true", help="measure that c23 and c40 show the face where raw does"
    )


def _sweep(commands) -> None:
    summary = "Train the cells of a grid that have no row in data/results/runs.csv, each as a notebook."
    command = _command(commands, "sweep", _run_sweep, summary)
    command.add_argument("grid", help="YAML file, or the stem of one in book/experiments/grids")
    command.add_argument(
        "--workers", type=int, metavar="N", help="trainings at once (default: one per GPU, or per core)"
    )
    command.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler, e.g. tcp://host:8786 (default: local)")
    command.add_argument("--limit", type=int, metavar="N", help="at most so many cells (default: all)")
    command.add_argument("--force", action="store_true", help="train cells that have a row again")


def _predict(commands) -> None:
    summary = "Say of each video how likely a detector takes it for fake, by its faces."
    command = _command(commands, "predict", _run_predict, summary)
    command.add_argument("videos", nargs="+", metavar="VIDEO", help="file, or folder of images named by frame number")
    command.add_argument(
        "--weights", required=True, metavar="FILE", help="e.g. data/runs/NAME/weights.safetensors, of a training"
    )
    command.add_argument("--frames", type=int, metavar="N", help="frames to look at, evenly spread (default: 64)")
    command.add_argument(
        "--shift",
        type=int,
        metavar="N",
        help="pixels that training took off the crops (default: as the file says, else 0)",
    )
    command.add_argument("--csv", metavar="FILE", help="write frame, time, box and probability of every frame")
    command.add_argument(
        "--plot", metavar="FILE", help="draw the probability over time (.png, .svg or .pdf; one video)"
    )


def _book(commands) -> None:
    book = commands.add_parser("book", help="Execute, validate, refresh or publish the book.")
    steps = book.add_subparsers(required=True, metavar="STEP")
    execute = _command(steps, "execute", _run_execute, "Run stale chapters with papermill into book/_build/executed.")
    validate = _command(steps, "validate", _run_validate, "Run chapters with nbval, compare with tests/book/expected.")
    refresh = _command(steps, "refresh", _run_refresh, "Write tests/book/expected from the executed chapters.")
    publish = _command(steps, "publish", _run_publish, "Build the site of the executed chapters into book/_build/html.")
    pdf = _command(steps, "pdf", _run_pdf, "Print the published site into one PDF; needs Chromium or Chrome.")
    archive = _command(steps, "zip", _run_zip, "Pack the published site, to be read without a network.")
    for step, kind in ((pdf, "pdf"), (archive, "zip")):
        step.add_argument("--output", metavar="FILE", help=f"default: book/_build/seeing-through-compression.{kind}")
    for step in (execute, validate, refresh, publish):
        step.add_argument("--profile", metavar="NAME", help="file of book/profiles (default: smoke)")
    for step in (execute, validate, refresh):
        step.add_argument("names", nargs="*", metavar="CHAPTER", help="stems, e.g. 02-the-data (default: all)")
    for step in (execute, validate):
        step.add_argument("--jobs", type=int, metavar="N", help="chapters at once (default: 2)")
        step.add_argument("--timeout", type=int, metavar="SECONDS", help="limit for one cell (default: 600 s)")
    execute.add_argument("--force", action="store_true", help="run fresh chapters too")


def _run_sweep(grid: str, **options) -> bool:
    from addlib import experiments

    return experiments.sweep(grid, **options)


def _run_predict(videos: list, weights: str, csv: str | None = None, plot: str | None = None, **options) -> bool:
    import pandas as pd

    from addlib import judging
    from addlib.detectors import read_detector
    from addlib.training import Recipe

    if plot and len(videos) > 1:
        raise ValueError(f"--plot is for one video, there are {len(videos)}")
    detector, about = read_detector(weights)
    if about:
        options.setdefault("shift", Recipe.named(about["recipe"], **about["changes"]).shift)
    known = ", ".join(f"{name} {about[name]}" for name in ("manipulation", "quality", "distiller") if name in about)
    print(f"{detector.name}, trained on: {known or 'the file does not say what'}")
    print("A probability holds for videos like those of the training; it is no evidence about others.")
    tables, complete = [], True
    for video in videos:
        try:
            found = judging.judge(video, detector, **options)
        except (OSError, ValueError) as error:
            print(f"{video}: {error}", file=sys.stderr)
            complete = False
            continue
        tables.append(found.frames.assign(video=video))
        looked = f"a face in {found.faces} of {len(found.frames)} frames"
        print(f"{video}: {f'fake with probability {found.probability:.3f}' if found.faces else 'not judged'}, {looked}")
        complete &= found.faces > 0
        if plot:
            judging.plot(found, title=Path(video).name).savefig(plot, dpi=150)
    if csv and tables:
        pd.concat(tables).to_csv(csv, index=False)
    return complete


def _run_generate(root: str, **options) -> bool:
    from addlib import miniforensics

    miniforensics.generate(root, **options)
    return True


def _run_prepare(root: str, out: str, **options) -> bool:
    from addlib import faceforensics

    if "qualities" in options:
        options["qualities"] = tuple(options["qualities"])
    manifest = faceforensics.prepare(root, out, **options)
    counts = manifest["status"].value_counts()
    print(
        f"{out}: {int(manifest['crops'].sum())} crops from {len(manifest)} videos; "
        + ", ".join(f"{int(counts.get(status, 0))} {status}" for status in ("ok", "short", "failed"))
    )
    print(f"data hash {faceforensics.data_hash(out)}")
    noted = int((manifest["note"] != "").sum()) if "note" in manifest else 0
    if noted:
        print(f"{noted} rows of {out}/manifest.csv say in their note what else is out of the ordinary")
    for row in manifest[manifest["status"] != "ok"].itertuples():
        where = f"{row.manipulation}/{row.quality}/{row.video}"
        print(f"{row.status}: {where}: {row.crops} of {row.asked} crops, {row.reason}")
    return not (manifest["status"] == "failed").any()


def _run_verify(out: str, **options) -> bool:
    from addlib import faceforensics

    problems = faceforensics.verify(out, **options)
    print("\n".join(problems) if problems else f"{out}: all crops are as the manifest says")
    return not problems


def _names(options: dict) -> dict:
    """argparse gives an empty list where no chapter was named."""
    return {**options, "names": options.get("names") or None}


def _run_execute(**options) -> bool:
    from addlib import book

    return book.execute(**_names(options))


def _run_validate(**options) -> bool:
    from addlib import book

    return book.validate(**_names(options))


def _run_refresh(**options) -> bool:
    from addlib import book

    return book.refresh(**_names(options))


def _run_publish(**options) -> bool:
    from addlib import book

    return book.publish(**options)


def _run_pdf(**options) -> bool:
    from addlib import book

    return book.pdf(**options).is_file()


def _run_zip(**options) -> bool:
    from addlib import book

    return book.archive(**options).is_file()


if __name__ == "__main__":
    sys.exit(main())
