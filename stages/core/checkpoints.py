"""Resume state of a long cell, outside the working tree, so that nothing that DVC deletes or copies takes it along.

It lies in SAGE_CHECKPOINTS, or in the user's cache folder, under a name made of the cell and of everything that decides
its outcome: a run with other parameters, inputs or code never finds it. One process has it at a time. It is written
after every epoch and every look at the reserve, every SAGE_CHECKPOINT_MINUTES (10), every SAGE_CHECKPOINT_STEPS steps
where that is set, and before SIGTERM, SIGHUP or Ctrl-C end the run; the state before the last is kept beside it. It is
dropped when the cell has succeeded.
"""

import hashlib
import json
import math
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.core.errors import InputError
from stages.core.files import fresh_file
from stages.core.stage import is_main_process, log

FOLDER, MINUTES, STEPS = "SAGE_CHECKPOINTS", "SAGE_CHECKPOINT_MINUTES", "SAGE_CHECKPOINT_STEPS"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # asked, Ctrl-C, a terminal that is gone
ONE_SIGNAL = 5.0  # seconds within which a second signal is the first: torchrun passes on what its processes got as well

State = tuple[dict[str, Tensor], dict[str, Any]]


class Checkpoint:
    """A file of tensors and small JSON values that is replaced whole, and the one before it."""

    def __init__(self, cell: str, fingerprint: str) -> None:
        """Name the state. Raises InputError where the environment's pace is no number."""
        self.cell = cell
        root = os.environ.get(FOLDER) or Path.home() / ".cache" / "sage" / "checkpoints"
        self.folder = Path(root, f"{cell}-{fingerprint}")
        self.path, self.before = self.folder / "state.safetensors", self.folder / "before.safetensors"
        self._lock, self._owner = FileLock(self.folder / "lock"), self.folder / "owner"
        self._seconds, self._steps = 60 * _pace(MINUTES, 10.0), _pace(STEPS, math.inf)
        self._saved, self._since = time.monotonic(), 0
        self._signal, self._signalled = 0, 0.0

    def claim(self) -> None:
        """Take the state for this process until it ends; until `steps_done`, signals end it between two steps.

        Raises InputError where another process has it, or where its folder cannot be written.
        """
        if is_main_process():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(blocking=False)
                for part in self.folder.glob(f".{self.path.name}-*"):  # of a process that was killed while it wrote
                    part.unlink()
                self._owner.write_text(f"process {os.getpid()} on {socket.gethostname()} in {Path.cwd()}")
            except Timeout as error:
                owner = self._owner.read_text() if self._owner.exists() else "another process"
                raise InputError(
                    f"{self.cell} is being run by {owner}, with the same parameters, inputs and code; wait for it and "
                    "take its result from DVC's cache, or stop it and start again"
                ) from error
            except OSError as error:
                raise InputError(
                    f"{self.folder}: cannot be written ({error.strerror}); make room, or set {FOLDER}"
                ) from error
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # which nohup sets
                signal.signal(number, self._ask_to_stop)

    def steps_done(self) -> None:
        """From now on signals end the process at once: the last state is saved, and no step is left to wait for."""
        for number in STOPPING:
            if signal.getsignal(number) == self._ask_to_stop:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    @property
    def stop_asked(self) -> bool:
        """Whether a signal has asked this process to stop."""
        return self._signal > 0

    def after_step(self, stop: bool, state: Callable[[], State], always: bool = False) -> None:
        """Save the state where it is time to. always: in any case; stop: as well, and end all processes of the run."""
        self._since += 1
        due = self._since >= self._steps or time.monotonic() - self._saved >= self._seconds
        saved = self.save(*state()) if is_main_process() and (due or always or stop) else False
        if stop:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # torchrun ends them all with the first
            where = "here" if saved else "the last state that found room"
            log.warning("stopped; started again with the same parameters, %s goes on from %s", self.cell, where)
            sys.exit(128 + (self._signal or signal.SIGTERM))

    def save(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> bool:
        """Replace the state; whether that went well. Where there is no room, it is said, and the old state stays."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = json.dumps(values)
        try:
            with fresh_file(self.path) as scratch:
                save_file(whole, scratch, {"values": said, "digest": _digest(whole, said)})
                _to_disk(scratch)
                if self.path.exists():
                    self.path.replace(self.before)
            _to_disk(self.folder)
            saved = True
        except (SafetensorError, OSError) as error:
            log.warning("%s: no checkpoint written (%s); make room", self.path, error)
            saved = False
        self._saved, self._since = time.monotonic(), 0
        return saved

    def load(self) -> State | None:
        """The last state that is whole, or None where there is none; what is damaged is said."""
        for path in (self.path, self.before):
            if not path.exists():
                continue
            try:
                found = _read(path)
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                back = "going back to the one before it" if path == self.path and self.before.exists() else "not used"
                log.warning("%s is damaged (%s): %s", path, error, back)
                continue
            if path == self.before:
                self.path.unlink(missing_ok=True)  # or the next state would put it in this one's place
            log.info("resuming from %s", path)
            return found
        return None

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What an earlier start of the run has made, or make it: on another processor it might come out otherwise."""
        path = self.folder / f"{name}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                found: Tensor = file.get_tensor(name)
                return found
        except FileNotFoundError:
            pass
        except (SafetensorError, OSError) as error:
            log.warning("%s is damaged (%s): made again", path, error)
        made = make()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with fresh_file(path) as scratch:
                save_file({name: made.contiguous()}, scratch)
        except (SafetensorError, OSError) as error:
            log.warning("%s: not kept (%s); make room", path, error)
        return made

    def drop(self) -> None:
        """Forget the state: the cell has succeeded."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Leave it to the next end of a step; a second signal, if not of the same moment, ends the process unsaved."""
        now = time.monotonic()
        if self._signal:
            if now - self._signalled > ONE_SIGNAL:
                raise KeyboardInterrupt
            return
        self._signal, self._signalled = number, now
        log.warning("stopping after this step, with a checkpoint; once more to stop at once, without")


def _to_disk(path: Path) -> None:
    """Have the system write a file, or a folder's names, out: what a loss of power leaves is then whole."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pace(name: str, default: float) -> float:
    """A positive number of the environment. It stands in no command: it would be part of DVC's keys."""
    value = os.environ.get(name, "")
    try:
        number = float(value) if value else default
    except ValueError:
        number = 0.0
    if not number > 0:
        raise InputError(f"{name}={value} is no number above 0")
    return number


def _digest(tensors: dict[str, Tensor], said: str) -> str:
    """A hash of everything in a state: damage does not always make a file unreadable."""
    digest = hashlib.sha256(said.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> State:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        said, digest = file.metadata()["values"], file.metadata()["digest"]
    if _digest(tensors, said) != digest:
        raise ValueError("its hash is another")
    return tensors, json.loads(said)


def model_state(prefix: str, model: torch.nn.Module) -> dict[str, Tensor]:
    """The weights that are trained as named tensors, tied ones once; those that are frozen come with the backbone."""
    return {f"{prefix}.{name}": weight for name, weight in model.named_parameters() if weight.requires_grad}


def snapshot(prefix: str, model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the weights, as `model_state` names them."""
    return {name: weight.detach().clone() for name, weight in model_state(prefix, model).items()}


def load_model_state(prefix: str, model: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `model_state` back."""
    with torch.no_grad():
        for name, weight in model_state(prefix, model).items():
            weight.copy_(tensors[name])


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": value for index, own in state.items() for name, value in own.items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `optimizer_state` back into an optimizer over the same parameters."""
    whole = optimizer.state_dict()
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            whole["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(whole)
