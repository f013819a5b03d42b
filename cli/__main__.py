"""The program `modelpilot`, and `python -m cli`, with which the supervisor starts each role."""

import os
import sys
from typing import NoReturn


def program() -> NoReturn:
    """Run the command line and exit.

    A command that failed with Temporal's library loaded ends without Python's own clearing up: that library's threads
    may ask for the interpreter just then, and the process would abort with a page about it.
    """
    try:
        from cli.main import EXIT_INTERRUPTED, main
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        main()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as ended:
        code = int(ended.code or 0)
    if code and "temporalio" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    program()
