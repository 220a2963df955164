"""``python -m train init-backbone``: a pretrained model as the checkpoint that training starts from."""

from __future__ import annotations

import click

from train.models.registry import BACKBONES


class _Backbones(click.Group):
    """A subcommand for each backbone that has one, with options of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in BACKBONES.names() if BACKBONES.find(name).init is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return BACKBONES.find(cmd_name).init if cmd_name in BACKBONES.names() else None


@click.command("init-backbone", cls=_Backbones)
def init_backbone() -> None:
    """Add the decision tokens to a pretrained model and write it as a checkpoint to start from."""
