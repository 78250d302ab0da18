"""What the trackers are told once, and what they are told of each call; both travel to workers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from amltk.exceptions import InvalidOptionError

#: Where runs go, as wandb names it.
Mode = Literal["online", "offline", "disabled"]

_MODES = ("online", "offline", "disabled")

#: Of the time for opening and for finishing, wandb itself is given so much, so that it is wandb
#: who says what took so long.
_SHARE = 0.8

#: What wandb notes of the machine and the code, unless it is wanted.
_NO_METADATA: Mapping[str, Any] = {
    "disable_git": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_save_requirements": False,
    "label_disable": True,
}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How runs are opened; the same for all runs of a plugin."""

    project: str
    mode: Mode | None
    dir: str
    entity: str | None
    group: str | None
    tags: tuple[str, ...]
    stats: bool
    metadata: bool
    init_timeout: float
    call_timeout: float
    finish_timeout: float
    #: The process that the plugin was made in. All others start a service of their own.
    driver_pid: int = field(default_factory=os.getpid, repr=False)

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is tracked at all."""
        return self.mode == "disabled"

    def init_arguments(self, fields: Iterable[str]) -> dict[str, Any]:
        """Return what all runs are opened with.

        Args:
            fields: The settings that this version of wandb has.
        """
        known = frozenset(fields)
        settings: dict[str, Any] = {
            "silent": True,
            "console": "off",
            "symlink": False,  # to the latest run, which workers would take from each other
            "init_timeout": self.init_timeout * _SHARE,
            "finish_timeout": self.finish_timeout * _SHARE,
            "finish_timeout_raises": True,
            "x_disable_stats": not self.stats,
            **({} if self.metadata else _NO_METADATA),
        }
        return {
            "project": self.project,
            "entity": self.entity,
            "dir": self.dir,
            "tags": self.tags,
            "mode": self.mode,
            # The default hands out the run of another call of this process.
            "reinit": "create_new",
            "settings": {name: value for name, value in settings.items() if name in known},
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """One run that is to be: which one, and of which arguments."""

    id: str
    name: str
    group: str
    job_type: str
    #: How many positional arguments the call was given, and which by name; other plugins add some.
    n_args: int = 0
    names: tuple[str, ...] = ()
    #: Why it is not to be opened, if it is not.
    problem: str | None = None


def mode_of(mode: str | None) -> Mode | None:
    """Return the mode that is asked for, by option or environment.

    Raises:
        InvalidOptionError: When there is no such mode.
    """
    asked = mode if mode is not None else os.environ.get("WANDB_MODE") or None
    if asked == "dryrun":  # an older word that wandb still reads in the environment
        return "offline"
    for known in _MODES:
        if asked == known:
            return known  # type: ignore[return-value] # one of the tuple
    if asked is None:
        return None
    message = f"mode={asked!r} is not possible; give one of {', '.join(_MODES)}"
    raise InvalidOptionError(message, option="mode", value=asked)


def seconds_of(option: str, value: float) -> float:
    """Return a number of seconds.

    Raises:
        InvalidOptionError: When it is none.
    """
    given: object = value
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given < float("inf")
    ):
        message = f"{option}={value!r} is not possible; give a number of seconds above 0"
        raise InvalidOptionError(message, option=option, value=value)
    return float(value)


def text_of(option: str, value: str | None) -> str | None:
    """Return a text that is not empty, or ``None``.

    Raises:
        InvalidOptionError: When it is something else.
    """
    given: object = value
    if given is not None and not (isinstance(given, str) and given.strip()):
        message = f"{option}={value!r} is not possible; give a text that is not empty"
        raise InvalidOptionError(message, option=option, value=value)
    return value


def tags_of(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as a tuple.

    Raises:
        InvalidOptionError: When they are a single text, or not texts.
    """
    found = () if isinstance(tags, str) else tuple(tags)
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in found):
        message = f"tags={tags!r} is not possible; give a list of texts such as ['baseline']"
        raise InvalidOptionError(message, option="tags", value=tags)
    return found


def folder_of(folder: str | os.PathLike[str] | None, *, check: bool) -> str:
    """Return the folder of the runs' files as workers in other folders find it.

    wandb itself would write to the system's temporary folder if it cannot write here.

    Raises:
        InvalidOptionError: When it cannot be made, or not be written to.
    """
    asked = folder if folder is not None else os.environ.get("WANDB_DIR") or "."
    path = Path(asked).expanduser().absolute()
    if not check:
        return str(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        message = f"dir={str(asked)!r} cannot be written to ({error}); give another folder"
        raise InvalidOptionError(message, option="dir", value=folder) from error
    return str(path)
