"""Renders the sprite sheet from an emoji font. Needed only when the catalog changes; the sheet is shipped.

python -m train.synthetic.sprites.scenes.sprite_sheet NotoColorEmoji.ttf
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import click
from PIL import Image, ImageDraw, ImageFont

from train.synthetic.sprites.scenes.catalog import sprite_table

CELL = 96
COLUMNS = 16
ASSETS = Path(__file__).with_name("assets")


def render_sprite(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji, cropped to its ink and centred in a CELL x CELL transparent square."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), emoji, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no glyph for {emoji!r}")
    ink = canvas.crop(box)
    scale = CELL / max(ink.size)
    ink = ink.resize(
        (max(1, round(ink.width * scale)), max(1, round(ink.height * scale))), Image.Resampling.LANCZOS
    )
    sprite = Image.new("RGBA", (CELL, CELL))
    sprite.paste(ink, ((CELL - ink.width) // 2, (CELL - ink.height) // 2))
    return sprite


@click.command()
@click.argument("font_path", metavar="FONT.ttf", type=click.Path(exists=True, dir_okay=False))
def main(font_path: str) -> None:
    """Render the sprites of the catalog from an emoji font into train/synthetic/sprites/scenes/assets."""
    font = ImageFont.truetype(font_path, 109)  # the only size bitmap emoji fonts hold
    table = sprite_table()
    sheet = Image.new("RGBA", (COLUMNS * CELL, math.ceil(len(table) / COLUMNS) * CELL))
    for i, emoji in enumerate(table.values()):
        sheet.paste(render_sprite(emoji, font), (i % COLUMNS * CELL, i // COLUMNS * CELL))
    sheet.quantize(255, method=Image.Quantize.FASTOCTREE).save(ASSETS / "sprites.png", optimize=True)
    index = {"cell": CELL, "columns": COLUMNS, "names": list(table)}
    (ASSETS / "sprites.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    print(f"{len(table)} sprites written to {ASSETS}")


if __name__ == "__main__":
    main()
