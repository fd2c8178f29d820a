"""The folder that each process of a run writes to: the run's, or one that goes away."""

import contextlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator

from bnzoo.config import Config, dump_config
from bnzoo.errors import InputError
from bnzoo.runs import RunFolder
from bnzoo.training.distribution import Replicas


@contextlib.contextmanager
def opened(
    folder: RunFolder,
    config: Config,
    resume: bool | None,
    replicas: Replicas,
    announce: Callable[[str], None],
) -> Iterator[RunFolder]:
    """Hold the folder of a run, checked, as far as this process has to; all go on, or none.

    Args:
        folder: of the run.
        config: of the run.
        resume: whether it holds a run that is to go on; None: if it holds one.
        replicas: that train it.
        announce: called with lines that say what was mended.

    Yields:
        The folder that this process writes to. Of the chief it is the run's; of another worker one
        that goes away, with what the run's has to resume from.

    Raises:
        FolderHeld: another process is at work on the run.
        InputError: the folder holds something else, here or on another worker; or the workers have
            other configs.
    """
    digest = zlib.crc32(dump_config(config).encode())  # texts have no end, messages have
    replicas.check_same("the configs", f"{digest:08x}")
    resume = folder.config_file.exists() if resume is None else resume
    with contextlib.ExitStack() as stack:

        def open_one() -> RunFolder | None:
            if not replicas.is_chief:
                return None
            stack.enter_context(folder.held())
            if resume:
                folder.resume(config, announce)
                folder.check_replicas(replicas.describe())
            else:
                folder.start(config)
            return folder

        own = replicas.together(open_one)
        # Before the chief goes on to write there.
        yield replicas.together(lambda: own or _copied(folder, config, resume, stack))


def _copied(
    folder: RunFolder, config: Config, resume: bool, stack: contextlib.ExitStack
) -> RunFolder:
    own = RunFolder(stack.enter_context(tempfile.TemporaryDirectory(prefix="bnzoo-worker-")))
    if resume:
        if not folder.config_file.exists():
            raise InputError(
                f"{folder.path}: expected the run folder that the chief resumes, found no "
                "config.yaml. Give all workers one folder on a shared disk."
            )
        ignored = shutil.ignore_patterns(".*", folder.tensorboard.name)
        shutil.copytree(folder.path, own.path, ignore=ignored, dirs_exist_ok=True)
        own.resume(config)
    return own
