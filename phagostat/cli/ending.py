"""How a command ends: its exit code, one sentence for every problem, and signals.

Exit codes: 0 done; 1 ``compare`` found differences; 2 bad usage or input; 3 the output cannot be used or written;
4 done, but a scene has no usable frame; 70 a mistake of phagostat's own; 130 interrupted (143: terminated).
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

from phagostat.model.errors import PhagostatError

EXIT_DIFFERENT, EXIT_NO_USABLE_FRAME, EXIT_OWN_MISTAKE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 4, 70, 130, 143


class Stopped(BaseException):
    """The process was asked to end (Ctrl-C or SIGTERM); no KeyboardInterrupt, which click would turn into its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.word, self.exit_code = {
            signal.SIGINT: ("interrupted", EXIT_INTERRUPTED),
            signal.SIGTERM: ("terminated", EXIT_TERMINATED),
        }[signal.Signals(number)]


def run_command(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; a problem is one sentence, never a traceback."""
    _asked.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    code = EXIT_OWN_MISTAKE
    try:
        code = command.main(args=arguments, prog_name="phagostat", standalone_mode=False) or 0
    except PhagostatError as error:
        code = _say(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        code = _say(error.format_message(), 2, prefix="")
    except click.ClickException as error:
        hint = f"; see '{error.ctx.command_path} --help'" if isinstance(error, click.UsageError) and error.ctx else ""
        code = _say(error.format_message().rstrip(".") + hint, 2)
    except Stopped as stopped:
        name = next((word for word in arguments or sys.argv[1:] if not word.startswith("-")), "")
        left = _GOING_ON if name in _COMMITTING else "nothing half done is left"
        code = _say(f"{stopped.word}: {left}", stopped.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError:
        code = _say("not enough memory; give a smaller execution.block_frames or fewer workers", 3)
    except Exception as error:  # the last net: a mistake of ours is one sentence too, its traceback on request
        if os.environ.get("PHAGOSTAT_TRACEBACK"):
            traceback.print_exc()
        where = "PHAGOSTAT_TRACEBACK=1 shows where"
        code = _say(f"a mistake of phagostat itself: {type(error).__name__}: {error} ({where})", EXIT_OWN_MISTAKE)
    sys.exit(code)


_COMMITTING = frozenset({"run", "watch", "convert"})
_GOING_ON = "what is committed is kept, the same command goes on from there"
_SWALLOWING = frozenset({"__del__", "_gc_callback", "_exitfunc"})
"""Functions that the interpreter calls in passing, where an exception goes nowhere."""
_asked: list[Stopped] = []


def _stop(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)  # once is enough: clean up in peace
    _asked.append(Stopped(number))
    while frame is not None:
        if frame.f_code.co_name in _SWALLOWING:
            return  # what is raised there is printed and lost: the next progress raises it
        frame = frame.f_back
    raise _asked[-1]


def check_stop() -> None:
    """Raise what was asked for, should it have been lost where it was raised."""
    if _asked:
        raise _asked[-1]


def _say(sentence: str, code: int, *, prefix: str = "phagostat: ") -> int:
    click.echo(prefix + sentence, err=True)
    return code
