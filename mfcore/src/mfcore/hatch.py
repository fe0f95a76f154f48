"""A plugin for hatchling, the builder: wheels of packs carry a manifest, made as they are built.

Hatchling finds it through the entry point of its group ``hatch`` and loads it for projects
that name it; MiniFlow itself never imports this module. A project says::

    [tool.hatch.build.targets.wheel.hooks.miniflow]
    enable-by-default = false
    require-runtime-dependencies = true

and its wheels have a manifest where ``HATCH_BUILD_HOOK_ENABLE_MINIFLOW=1`` is set. To make
one, the pack is imported, so that all it requires has to be there: more than an installation
from a checkout should need, hence the switch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig
from hatchling.plugin import hookimpl

from mfcore.discovery import GROUP
from mfcore.manifest import FILE


class ManifestHook(BuildHookInterface[WheelBuilderConfig]):
    """Puts the manifest of a distribution's packs among the metadata of its wheel.

    An editable installation gets none, as the names of a pack change while one works on it.
    """

    PLUGIN_NAME = "miniflow"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the manifest before the wheel is built; end the build where that fails."""
        if self.target_name != "wheel" or version == "editable":
            return
        self._folder = TemporaryDirectory(prefix="miniflow-manifest-")
        file = Path(self._folder.name, FILE)
        file.write_text(self._manifest(), encoding="utf-8")
        build_data["extra_metadata"][str(file)] = FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what ``initialize`` wrote."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _manifest(self) -> str:
        """Let a process of its own describe the packs: this one keeps nothing of them."""
        core = self.metadata.core
        given = {
            "root": self.root,
            "folders": self._folders(),
            "name": core.name,
            "version": self.metadata.version,
            "requires": core.dependencies,
            "packs": core.entry_points.get(GROUP, {}),
        }
        done = subprocess.run(
            [sys.executable, "-P", "-B", "-X", "utf8", "-m", "mfcore.source_manifest"],
            input=json.dumps(given),
            env={k: v for k, v in os.environ.items() if not k.startswith("MINIFLOW_")},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            self.app.abort(
                f"{done.stderr.rstrip()}\n"
                f"No manifest of {core.name} {self.metadata.version} could be made, so nothing "
                f"is built. Making one imports the pack, for which all it requires has to be "
                f"there; HATCH_BUILD_NO_HOOKS=1 builds without."
            )
        return done.stdout

    def _folders(self) -> list[str]:
        """Return the folders that the pack's modules are in, for Python to import from."""
        config = self.build_config
        found = [os.path.dirname(package) for package in config.packages]
        found += [source for source, target in config.sources.items() if not target]
        # The project's own folder, with whatever else is in it, only where nothing is said.
        absolute = (os.path.normpath(os.path.join(self.root, f)) for f in found or [""])
        return list(dict.fromkeys(absolute))


@hookimpl
def hatch_register_build_hook() -> type[ManifestHook]:
    """Tell hatchling of the hook."""
    return ManifestHook
