"""The command `rls3`, also `python -m rls3_gym`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C while it is still being imported ends it without a traceback."""
    try:
        from rls3_gym.cli import app
    except KeyboardInterrupt:
        print("rls3: interrupted", file=sys.stderr)
        sys.exit(130)
    sys.path.append(os.getcwd())  # where a user's own agents, adapters and backends lie
    app.main()


if __name__ == "__main__":
    main()
