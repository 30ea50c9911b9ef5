"""The command `podium`. `podium --help` lists what it can; each command takes --help, and --json for scripts.

Exit codes: 0 done · 1 it failed · 2 the command or a field is wrong · 3 no valid token, or not allowed · 4 no such thing ·
5 what was started failed or was cancelled · 6 not within the timeout · 7 the server cannot be reached · 130 interrupted.
"""

import sys
from collections.abc import Mapping

from podium_client.errors import (
    JobFailed,
    NotAllowed,
    NotFound,
    NotSignedIn,
    PodiumError,
    Refused,
    SettingsError,
    Unreachable,
    WaitedTooLong,
)

from .commands import app
from .output import clean

CODES: Mapping[type[PodiumError], int] = {
    Refused: 2,
    SettingsError: 3,
    NotSignedIn: 3,
    NotAllowed: 3,
    NotFound: 4,
    JobFailed: 5,
    WaitedTooLong: 6,
    Unreachable: 7,
}


def main() -> None:
    try:
        app(prog_name="podium")
    except PodiumError as error:
        print(clean(f"podium: {error}"), file=sys.stderr)
        sys.exit(next((code for kind, code in CODES.items() if isinstance(error, kind)), 1))
    except (OSError, UnicodeError) as error:
        print(clean(f"podium: {error}"), file=sys.stderr)
        sys.exit(1)
