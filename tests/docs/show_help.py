"""Prints, as one JSON object, the --help texts of the commands named on stdin: ["train sft", ...]."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys


def help_of(command: str) -> str:
    module, *words = command.split()
    sys.argv = [module, *words, "--help"]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit:
            pass
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    return text.getvalue()


if __name__ == "__main__":
    json.dump({command: help_of(command) for command in json.load(sys.stdin)}, sys.stdout)
