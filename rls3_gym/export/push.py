"""Uploading an exported folder to the Hugging Face Hub, or saying what would be uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rls3_registry.errors import UserError, first_line

_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Upload:
    """A repository on the Hub, as the place where a folder goes."""

    repository: str
    """`USER/NAME`."""
    contents: Literal["dataset", "model"]

    @classmethod
    def to(cls, repository: str, contents: Literal["dataset", "model"]) -> Upload:
        """Raises `UserError` for a name that the Hub does not take."""
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        try:
            validate_repo_id(repository)
        except HFValidationError as error:
            raise UserError(f"--push {repository}: {first_line(error)}") from error
        if "/" not in repository:
            raise UserError(f"--push {repository}: must look like USER/NAME")
        return cls(repository, contents)

    @property
    def url(self) -> str:
        return f"{_HUB}/{'datasets/' if self.contents == 'dataset' else ''}{self.repository}"

    def plan(self, folder: Path) -> list[str]:
        """What would be uploaded and where, line by line. Needs neither token nor network."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in files)
        lines = [f"would upload {len(files):,} files, {size / 1e6:,.1f} MB, to {self.url} (add --yes to do it):"]
        shown = files if len(files) <= 20 else files[:10]
        lines += [f"  {path.relative_to(folder).as_posix()}  {path.stat().st_size:,} bytes" for path in shown]
        return lines + ([f"  and {len(files) - len(shown):,} more"] if len(shown) < len(files) else [])

    def check_token(self) -> None:
        """Raise `UserError` when this machine has no token. Ask before a long export."""
        from huggingface_hub import get_token

        if not get_token():
            raise UserError(
                f"--push {self.repository} --yes: there is no Hugging Face token; log in with `hf auth login`, or set "
                "HF_TOKEN"
            )

    def upload(self, folder: Path) -> str:
        """Make the repository, private, if it is not there, and upload the folder; returns its address.

        Raises `UserError` without a network, or when the Hub refuses; the folder stays as it is.
        """
        from huggingface_hub import HfApi

        self.check_token()
        api = HfApi()
        try:
            api.create_repo(self.repository, repo_type=self.contents, private=True, exist_ok=True)
            api.upload_folder(repo_id=self.repository, repo_type=self.contents, folder_path=str(folder))
        except Exception as error:  # the Hub's client raises its own errors, its HTTP library's, and OSError
            again = f"hf upload {self.repository} {folder} --repo-type {self.contents}"
            raise UserError(
                f"--push {self.repository}: not uploaded ({type(error).__name__}: {first_line(error)}); the folder is "
                f"complete, try again with: {again}"
            ) from error
        return self.url
