"""What GStreamer's Python loader finds: it makes the element `streampro` known to every GStreamer program.

`edge-run plugin install` copies this file into a plugin folder and fills in FOLDERS, because the loader runs
the system's Python, which knows nothing of the environment that StreamPro is installed in. The file's name
must differ from every package it imports. Nothing heavy is imported before a pipeline starts.
"""

import site
import sys

FOLDERS: tuple[str, ...] = ()
"""Where the packages are: the environment's site-packages, and the source tree when it is not installed."""

for folder in FOLDERS:
    if folder not in sys.path:
        site.addsitedir(folder)

from gi.repository import Gst  # noqa: E402

from edge_runtime.command_line.own_packages import OwnPackages, prefer_own_packages  # noqa: E402

# The program around us keeps its own `train` or `export`: the preference lasts for this import alone.
prefer_own_packages()
try:
    from pipelines.element.element import NAME, StreamPro
finally:
    sys.meta_path.remove(OwnPackages)

__gstelementfactory__ = (NAME, int(Gst.Rank.NONE), StreamPro)
