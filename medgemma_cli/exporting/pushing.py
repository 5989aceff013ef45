"""An export → a repository of the Hugging Face hub. The one place that sends anything there."""

import re
from pathlib import Path

from medgemma_cli.errors import ConfigError, ModelUnavailableError, UsageError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check(repo: str, *, offline: bool) -> None:
    """See, before anything is made, that it may be sent. No network.

    Raises:
        UsageError: 2, that is no name. ModelUnavailableError: 69, offline, or without a token.
    """
    from huggingface_hub import constants, get_token

    if not _REPO.fullmatch(repo):
        raise UsageError("--push-to-hub takes OWNER/NAME.", "Example: --push-to-hub me/my-model.")
    if offline or constants.HF_HUB_OFFLINE:
        raise ModelUnavailableError(
            "Nothing is sent to the hub: offline is on.",
            "Leave out --push-to-hub, or --offline and HF_HUB_OFFLINE.",
        )
    if not get_token():
        raise ModelUnavailableError(
            "Nothing is sent to the hub without a token.",
            "Set HF_TOKEN, or log in: `hf auth login`.",
        )


def push(folder: Path, files: list[str], repo: str, *, private: bool) -> None:
    """Send the files of a folder, and no others, to a repository, made if need be.

    Raises:
        ModelUnavailableError: 69. ConfigError: 78, it is there, and public against the wish.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        # What is there already keeps its visibility, whatever was asked for.
        if private and not api.model_info(repo).private:
            raise ConfigError(
                "The repository is there already, and public.",
                "Give another name, make it private on the hub, or say --public.",
            )
        api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=files, commit_message="medgemma export"
        )
    except ConfigError:
        raise
    except Exception as error:  # whatever the hub client and its HTTP library raise
        # The class alone: hub errors carry addresses and request ids.
        raise ModelUnavailableError(
            f"The export is in its folder, but could not be sent ({type(error).__name__}).",
            "Check the network, the token's right to write, and the name; the same command again "
            "only sends.",
        ) from None
