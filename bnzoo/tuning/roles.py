"""Which part a process has in a sweep: keras-tuner's variables say so."""

import dataclasses
import os
from collections.abc import Mapping

from bnzoo.errors import InputError

TUNER_ID, ADDRESS, PORT = (
    "KERASTUNER_TUNER_ID",
    "KERASTUNER_ORACLE_IP",
    "KERASTUNER_ORACLE_PORT",
)
EXAMPLE = f"{TUNER_ID}=worker-1 {ADDRESS}=192.168.0.7 {PORT}=8000"


class CrewError(Exception):
    """The work of several processes failed: a message for the person, without a traceback."""


@dataclasses.dataclass(frozen=True)
class Role:
    """A process that is not alone.

    Attributes:
        name: the chief's or the worker's own.
        address: of the chief, as `ip:port`.
    """

    name: str
    address: str

    @property
    def is_chief(self) -> bool:
        """Whether this process answers the workers; keras-tuner asks for `chief` in its name."""
        return "chief" in self.name

    def variables(self) -> dict[str, str]:
        """Return the environment variables that give a process this role."""
        host, _, port = self.address.rpartition(":")
        return {TUNER_ID: self.name, ADDRESS: host, PORT: port}


def role_of(environment: Mapping[str, str] = os.environ) -> Role | None:
    """Return the role that a process has been given; None searches alone.

    Raises:
        InputError: only some of the variables are set, or the port is none.
    """
    found = {name: environment.get(name, "") for name in (TUNER_ID, ADDRESS, PORT)}
    if not found[ADDRESS] and not found[PORT]:
        return None
    missing = [name for name, value in found.items() if not value]
    if missing:
        given = ", ".join(f"{name}={value}" for name, value in found.items() if value)
        raise InputError(
            f"expected all of {TUNER_ID}, {ADDRESS} and {PORT}, or none, got {given} without "
            f"{' and '.join(missing)}. For example {EXAMPLE}."
        )
    if not found[PORT].isdigit() or not 0 < int(found[PORT]) < 2**16:
        raise InputError(
            f"{PORT}: expected a port number from 1 to 65535, got {found[PORT]!r}. "
            f"For example {EXAMPLE}."
        )
    return Role(found[TUNER_ID], f"{found[ADDRESS]}:{found[PORT]}")


def no_chief(role: Role, wait: float) -> InputError:
    """Return the error of a worker that nobody answers.

    Args:
        role: the worker's.
        wait: seconds that it has waited.
    """
    return InputError(
        f"{role.name}: expected a chief at {role.address}, and none has answered for {wait:g} s. "
        f"Start it with {TUNER_ID}=chief and the same command (with --resume if it has been at "
        "work before), or give it more time with --wait."
    )


def no_port(role: Role) -> InputError:
    """Return the error of a chief that cannot listen."""
    return InputError(
        f"{role.name}: expected an address of this machine with a free port, got {role.address}, "
        f"where nothing can listen. Is another chief running? Set {PORT} to another port."
    )
