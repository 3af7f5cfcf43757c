"""Run one notebook with papermill, in a process of its own: ``python -P worker.py job.json``.

Papermill's Python interface takes the parameters as objects; its command line would pass them through YAML, which
turns 1e-05 into text. The file imports nothing of addlib, so that the kernel's copy alone decides what is tested.
"""

import json
import sys
from pathlib import Path


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    import papermill

    try:
        papermill.execute_notebook(
            job["source"],
            job["target"],
            parameters=job["parameters"],
            cwd=job["cwd"],
            kernel_name="python3",
            progress_bar=False,
            start_timeout=120,
            execution_timeout=job["timeout"],
            coalesce_streams=True,  # a busy kernel sends one text in several pieces
        )
    except Exception as error:
        # The notebook holds the traceback of a failing cell; a dead kernel or a timeout is only known here.
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
