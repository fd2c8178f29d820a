"""What is behind both protocols."""

import contextlib
from dataclasses import dataclass
from typing import Any

import bnzoo
from bnzoo.serving.server.batcher import Answers
from bnzoo.serving.server.limits import Refused, Traffic
from bnzoo.serving.server.metrics import Metrics
from bnzoo.serving.server.repository import Repository
from bnzoo.serving.server.requests import InferRequest

ABOUT = {
    "name": "bnzoo",
    "version": bnzoo.__version__,
    "extensions": ["binary_tensor_data", "model_repository"],
}


@dataclass
class Service:
    """Answers what clients may ask, whichever protocol they speak.

    Attributes:
        repository: the models.
        traffic: the requests in flight.
        metrics: counts them.
        model_control: whether clients may load and unload models.
    """

    repository: Repository
    traffic: Traffic
    metrics: Metrics
    model_control: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered: models are loaded before, until the server stops."""
        return not self.traffic.stopping

    def is_model_ready(self, name: str, version: str | None) -> bool:
        """Tell whether a model answers, or one of its versions."""
        with contextlib.suppress(Refused):
            return self.is_ready and bool(self.repository.get(name, version))
        return False

    def describe(self, name: str, version: str | None) -> dict[str, Any]:
        """Return a model's metadata: its inputs and outputs are those of every signature.

        Raises:
            Refused: with 404, there is no such model.
        """
        _, model = self.repository.get(name, version)
        return {
            "name": name,
            "versions": self.repository.loaded(name),
            "platform": "tensorflow_savedmodel",
            "inputs": model.inputs,
            "outputs": model.outputs,
        }

    async def infer(
        self, name: str, version: str | None, request: InferRequest, protocol: str
    ) -> tuple[str, Answers]:
        """Return the version that answered, and its answers by name, in the order wanted.

        Raises:
            Refused: there is no such model, or the request does not fit it.
        """
        number, model = self.repository.get(name, version)
        with self.metrics.request(name, number, protocol):
            return number, await model.infer(request)

    async def load(self, name: str) -> None:
        """Load what there is of a model now.

        Raises:
            Refused: models may not be controlled, there is no such model, or it cannot be loaded.
        """
        self._check_control()
        await self.repository.load(name)

    async def unload(self, name: str) -> None:
        """Serve a model no more, until it is loaded again.

        Raises:
            Refused: models may not be controlled, or there is no such model.
        """
        self._check_control()
        await self.repository.unload(name)

    def _check_control(self) -> None:
        if not self.model_control:
            raise Refused(
                403,
                "models are not loaded and unloaded by clients: the server was started without "
                "--model-control. New versions are found without a call.",
            )
