"""What the package index shows: the README with links that hold there, and the project's places.

A hook of hatchling. The README's links are paths in the repository. Where data/publication.toml
says which one that is, they become addresses of its tag; until then they are plain text.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A picture or a link whose target is neither an address nor a place on the page itself.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        told = (root / "data" / "publication.toml").read_text(encoding="utf-8")
        repo, tag = (re.search(rf'^{key} = "(.*)"$', told, re.M)[1] for key in ("repo", "tag"))
        text = page((root / "README.md").read_text(encoding="utf-8"), repo, tag)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = places(repo, tag)


def page(readme: str, repo: str, tag: str) -> str:
    """The README for a reader who is not in the repository."""

    def held(link: re.Match[str]) -> str:
        picture, words, path = link.groups()
        if not repo:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}](https://github.com/{repo}/{kind}/{tag}/{path})"

    return LINK.sub(held, readme)


def places(repo: str, tag: str) -> dict[str, str]:
    """The project's addresses, none where nothing is published."""
    if not repo:
        return {}
    owner, name = repo.split("/")
    return {
        "Homepage": f"https://{owner.lower()}.github.io/{name}/",
        "Repository": f"https://github.com/{repo}",
        "Changelog": f"https://github.com/{repo}/blob/{tag}/CHANGELOG.md",
        "Issues": f"https://github.com/{repo}/issues",
    }
