"""Getting a W&B run, or doing without: no question asked, no long wait, no fault passed on."""

import contextlib
import logging
import netrc
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from visavis.config import TrackingConfig

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "off"]

ANSWER_SECONDS = 5
"""A server that does not answer within this is taken for unreachable."""
INIT_SECONDS = 10
FINISH_SECONDS = 10


def mode(config: TrackingConfig) -> Mode:
    """What `auto` comes to on this machine; `online` without a key comes to `offline`."""
    by_environment: dict[str, Mode] = {
        "disabled": "off",
        "offline": "offline",
        "dryrun": "offline",
    }
    wanted: Mode
    if config.wandb == "auto":
        wanted = by_environment.get(os.environ.get("WANDB_MODE", ""), "online")
    else:
        wanted = config.wandb
    if wanted == "online" and not _has_key():
        if config.wandb == "online":
            log.warning("W&B: no API key is set, so this run is kept offline; see `wandb login`")
        return "offline"
    return wanted


def start(config: TrackingConfig, folder: Path, name: str, group: str) -> Any | None:
    """A W&B run, or None; the first fault leads to offline, the second to none."""
    wanted = mode(config)
    if wanted == "off":
        return None
    try:
        import wandb

        if wanted == "online" and not _answers(_base_url()):
            log.warning("W&B: its server does not answer, so this run is kept offline")
            wanted = "offline"
        settings = wandb.Settings(
            base_url=_base_url(),
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            silent=True,
            console="off",
            symlink=False,
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
    except Exception as error:
        warn("W&B cannot be used here; this run goes without", error)
        return None
    for attempt in dict.fromkeys((wanted, "offline")):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return wandb.init(
                project=config.project,
                name=name,
                group=group,
                dir=folder,
                mode=attempt,
                reinit="create_new",
                settings=settings,
            )
        except Exception as error:
            warn(f"W&B could not start {attempt}", error)
    return None


@contextlib.contextmanager
def confined(folder: Path) -> Iterator[None]:
    """Keep what wandb stages and caches in the experiment folder, and its own telemetry off."""
    place = str((folder / "wandb").absolute())
    ours = {
        "WANDB_DATA_DIR": place,
        "WANDB_CACHE_DIR": place,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update({name: value for name, value in ours.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    paths = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else []
    with contextlib.suppress(RuntimeError):  # no home folder
        paths += [Path.home() / ".netrc", Path.home() / "_netrc"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return False
    try:
        host = urllib.request.Request(_base_url()).host
        return netrc.netrc(path).authenticators(host) is not None
    except Exception:  # an unreadable file or a missing wandb: there is no key to be had
        return False


def _base_url() -> str:
    """The server's address: the environment's, else that of W&B's own settings."""
    import wandb

    return os.environ.get("WANDB_BASE_URL") or wandb.setup().settings.base_url


def _answers(url: str) -> bool:
    """Whether the server at `url` says anything at all, be it an error."""
    try:
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError) as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True


def warn(what: str, error: Exception) -> None:
    """Log one line about a fault, without the API key."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    key = os.environ.get("WANDB_API_KEY")
    log.warning("%s: %s", what, reason.replace(key, "…") if key else reason)
