"""How every command of the benchmarks ends: one line for an error, its kind as the exit status."""

from __future__ import annotations

import sys

import click

from edge_runtime.errors import EdgeError


def run_command(command: click.Command) -> None:
    """Run ``command`` on the process's arguments; end with the exit status of the error, if any."""
    try:
        command(standalone_mode=False)
    except EdgeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        sys.exit(130)
