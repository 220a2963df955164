"""What generated clips are made of: sprite names and their emoji, objects with states, dishes, hazards.

Names are what answers say, so they are plain lower-case words. The sprite sheet in ``assets/`` is rendered
from the emoji here by :mod:`train.synthetic.sprites.scenes.sprite_sheet`.
"""

from __future__ import annotations

ACTORS: dict[str, str] = {
    "cat": "🐈", "dog": "🐕", "horse": "🐎", "cow": "🐄", "pig": "🐖", "sheep": "🐑", "rabbit": "🐇",
    "mouse": "🐁", "elephant": "🐘", "camel": "🐫", "tiger": "🐅", "monkey": "🐒", "rooster": "🐓",
    "duck": "🦆", "eagle": "🦅", "owl": "🦉", "penguin": "🐧", "fish": "🐟", "whale": "🐳", "octopus": "🐙",
    "crab": "🦀", "snail": "🐌", "turtle": "🐢", "snake": "🐍", "frog": "🐸", "bee": "🐝", "butterfly": "🦋",
    "spider": "🕷️", "car": "🚗", "bus": "🚌", "truck": "🚚", "tractor": "🚜", "bicycle": "🚲", "train": "🚂",
    "plane": "✈️", "helicopter": "🚁", "rocket": "🚀", "boat": "⛵", "balloon": "🎈", "ball": "⚽",
    "kite": "🪁", "umbrella": "☂️", "chair": "🪑", "clock": "🕰️", "lamp": "🪔", "guitar": "🎸", "drum": "🥁",
    "camera": "📷", "phone": "📱", "laptop": "💻", "backpack": "🎒", "shoe": "👟", "hat": "🎩", "key": "🔑",
    "hammer": "🔨", "robot": "🤖", "snowman": "⛄", "doll": "🪆", "cactus": "🌵", "mushroom": "🍄",
    "crown": "👑", "trophy": "🏆", "bell": "🔔", "teddy": "🧸",
}  # fmt: skip
"""Actors of every split: 64 names."""

UNSEEN_ACTORS: dict[str, str] = {
    "lion": "🦁", "zebra": "🦓", "giraffe": "🦒", "kangaroo": "🦘", "flamingo": "🦩", "parrot": "🦜",
    "scooter": "🛵", "ambulance": "🚑", "sled": "🛷", "violin": "🎻", "trumpet": "🎺", "compass": "🧭",
    "microscope": "🔬", "scissors": "✂️", "anchor": "⚓", "glasses": "👓",
}  # fmt: skip
"""Actors that only the unseen split shows: 16 names."""

STATEFUL: dict[str, dict[str, str]] = {
    "lock": {"closed": "🔒", "open": "🔓"},
    "egg": {"whole": "🥚", "hatching": "🐣", "hatched": "🐥"},
    "plant": {"a sprout": "🌱", "a herb": "🌿", "a tree": "🌳"},
    "face": {"happy": "😀", "sad": "😢", "angry": "😡", "asleep": "😴"},
    "moon": {"new": "🌑", "half": "🌓", "full": "🌕"},
    "book": {"closed": "📕", "open": "📖"},
    "mailbox": {"empty": "📪", "full": "📬"},
    "light": {"red": "🔴", "green": "🟢", "yellow": "🟡"},
    "battery": {"full": "🔋", "low": "🪫"},
    "sky": {"sunny": "☀️", "rainy": "🌧️", "stormy": "⛈️"},
    "flower": {"fresh": "🌷", "wilted": "🥀"},
    "hand": {"a fist": "✊", "open": "✋", "a thumbs up": "👍"},
    "heart": {"whole": "❤️", "broken": "💔"},
}
"""Objects and the images of their states; an answer says "The lock is now open."."""

ANOMALIES: dict[str, str] = {
    "fire": "🔥", "explosion": "💥", "intruder": "🥷", "leak": "💧", "ghost": "👻", "meteor": "☄️",
    "tornado": "🌪️", "bomb": "💣",
}  # fmt: skip
"""Things that must not be there; an answer says "Alert: fire."."""

FOOD: dict[str, str] = {
    "tomato": "🍅", "carrot": "🥕", "corn": "🌽", "potato": "🥔", "onion": "🧅", "garlic": "🧄",
    "broccoli": "🥦", "pepper": "🌶️", "cheese": "🧀", "bread": "🍞", "meat": "🥩", "shrimp": "🦐",
    "apple": "🍎", "banana": "🍌", "grapes": "🍇", "lemon": "🍋", "strawberry": "🍓", "cherry": "🍒",
    "peach": "🍑", "pineapple": "🍍", "honey": "🍯", "milk": "🥛", "butter": "🧈", "salt": "🧂",
}  # fmt: skip

POT = {"pot": "🍲"}

DISHES: dict[str, tuple[str, ...]] = {
    "soup": ("carrot", "potato", "onion", "salt"),
    "salad": ("tomato", "pepper", "cheese"),
    "stew": ("meat", "potato", "carrot", "garlic"),
    "pizza": ("bread", "tomato", "cheese"),
    "smoothie": ("banana", "strawberry", "milk"),
    "jam": ("strawberry", "lemon", "honey"),
    "gratin": ("potato", "milk", "cheese", "butter"),
    "curry": ("onion", "pepper", "shrimp", "salt"),
    "punch": ("pineapple", "cherry", "lemon"),
    "chowder": ("corn", "shrimp", "milk", "butter"),
    "pie": ("apple", "butter", "honey"),
    "sauce": ("tomato", "garlic", "onion"),
    "compote": ("peach", "apple", "grapes"),
    "toast": ("bread", "butter", "banana"),
    "broth": ("meat", "broccoli", "salt", "garlic"),
    "sundae": ("milk", "cherry", "banana", "honey"),
}
"""What goes into the pot, in order. Goal planning asks the model to know this by heart."""

HAZARDS: tuple[str, ...] = (
    "car", "bus", "truck", "bicycle", "dog", "cow", "chair", "ball", "cactus", "snowman", "robot", "snake",
    "elephant", "train", "drum", "backpack",
)  # fmt: skip
"""Actors that can stand in the way of someone walking."""


def sprite_table() -> dict[str, str]:
    """Every sprite of the sheet: key to emoji. A state's key is ``object/state``."""
    table = {**ACTORS, **UNSEEN_ACTORS, **ANOMALIES, **FOOD, **POT}
    for name, states in STATEFUL.items():
        table.update({f"{name}/{state}": emoji for state, emoji in states.items()})
    return table
