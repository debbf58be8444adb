"""The command `rls3`, also `python -m rls3_gym`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is still being imported ends it without a traceback."""
    if sys.getfilesystemencoding() != "utf-8":
        # An ASCII locale and no UTF-8 mode: names and captions could be neither read nor shown.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    here = os.getcwd()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # processes that a command starts: no modules of the current folder
    if sys.path[:1] and sys.path[0] in ("", here):  # `python -m` puts it before everything that is installed
        del sys.path[0]
    try:
        from rls3_gym.cli import app
        from rls3_registry.trust import look_in
    except KeyboardInterrupt:
        print("rls3: interrupted", file=sys.stderr)
        sys.exit(130)
    look_in(here)  # where plugins that are named with --trust may lie
    app.main()


if __name__ == "__main__":
    main()
