"""What whoever runs the service may do to it while it runs: start it, change its artifact and keys, let it go.

start -> ready -> reload (SIGHUP) or swap (POST /admin/artifact), any number of times
          -> leave -> cut_off, if it takes too long -> stop
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from service.access import Access, read_keys
from service.deployment import Deployment
from service.errors import NotReadyError, ServiceError, UnusableArtifactError
from service.live_model import LiveModel
from service.operations_metrics import OperationsMetrics
from service.readiness import Readiness
from service.settings import InvalidSettingsError, Settings
from service.siblings import SWAP_TIMEOUT_S, Peers, SiblingError

logger = logging.getLogger(__name__)


class Control:
    """The handle of one app."""

    def __init__(
        self,
        settings: Settings,
        readiness: Readiness,
        deployment: Deployment,
        access: Access,
        operations: OperationsMetrics,
    ) -> None:
        self._siblings: Peers | None = None
        self._prepared: LiveModel | None = None
        self._settled = asyncio.Event()
        self._forgetting: asyncio.Task[None] | None = None
        self._render: Callable[[], bytes] = bytes
        self._tell_pair: Callable[[str], str] = str
        self._settings = settings
        self._readiness = readiness
        self._deployment = deployment
        self._access = access
        self._operations = operations
        self._reloading: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._on_ready: Callable[[], None] | None = None
        self._tell(deployment.current)

    @property
    def readiness(self) -> Readiness:
        """How far the service is."""
        return self._readiness

    @property
    def num_waiting_tokens(self) -> int:
        """Tokens of documents that wait for the engine."""
        return self._deployment.num_waiting_tokens

    def join(self, siblings: Peers | None, render: Callable[[], bytes], tell_pair: Callable[[str], str] = str) -> None:
        """Be one of several workers, if there are several.

        `render` is this one's exposition, `tell_pair` its texts behind a handle, by their digest.
        """
        self._siblings, self._render, self._tell_pair = siblings, render, tell_pair

    async def settle(self) -> None:
        """Among several workers, take requests only when ready: the others take them until then."""
        if self._siblings is not None:
            await self._siblings.listen(self._answer_sibling)
            await self._settled.wait()

    def start(self, on_ready: Callable[[], None], on_fatal: Callable[[BaseException], None]) -> None:
        """Start the engine on the running loop; `service.app.ProcessHooks` says when which function is called."""
        self._on_ready = on_ready

        def ready() -> None:
            self._readiness.enter("ready", "self-test passed")
            self._settled.set()
            on_ready()

        def end(error: BaseException) -> None:
            self._readiness.enter("failed", f"{type(error).__name__}: {error}")
            logger.critical("engine_ended", exc_info=error)
            on_fatal(error)
            self._settled.set()

        self._deployment.start(ready, end)

    async def swap(self, folder: Path) -> tuple[LiveModel, LiveModel]:
        """Serve the artifact in `folder`, in every worker or in none; the old model and the new one.

        Raises:
            ServiceError: what `Deployment.prepare` raises, or a worker that refused; the old one serves on.
        """
        if not self._readiness.is_ready:
            raise NotReadyError(f"the service is not ready: {self._readiness.status.stage}")
        try:
            model = await self._deployment.prepare(folder)
            await self._prepare_siblings(folder, model)
        except UnusableArtifactError:
            self._operations.count_swap("refused")
            raise
        old = self._commit(model)
        if self._siblings is not None:
            self._siblings.remember_artifact(folder)
            answers = await self._siblings.ask_all("commit", str(folder), SWAP_TIMEOUT_S)
            behind = [index for index, answer in answers.items() if answer != model.artifact.hash]
            if behind:  # they died meanwhile; started anew, they serve what is remembered
                logger.error("workers_behind", extra={"fields": {"workers": behind}})
        return old, model

    async def _prepare_siblings(self, folder: Path, model: LiveModel) -> None:
        if self._siblings is None:
            return
        try:
            answers = await self._siblings.ask_all("prepare", str(folder), SWAP_TIMEOUT_S)
            refusals = [str(answer) for answer in answers.values() if isinstance(answer, SiblingError)]
            if refusals:
                raise UnusableArtifactError("; ".join(refusals))
        except BaseException:
            await self._siblings.ask_all("abandon", str(folder), SWAP_TIMEOUT_S)
            await self._deployment.abandon(model)
            raise

    async def _answer_sibling(self, what: str, argument: str) -> str:
        """What another worker asks of this one."""
        if what == "metrics":
            return self._render().decode()
        if what == "pair":
            return self._tell_pair(argument)
        if what == "prepare":
            if not self._readiness.is_ready:
                raise NotReadyError(f"not ready: {self._readiness.status.stage}")
            self._prepared = prepared = await self._deployment.prepare(Path(argument))
            asyncio.get_running_loop().call_later(SWAP_TIMEOUT_S, self._forget, prepared)
            return prepared.artifact.hash
        waiting, self._prepared = self._prepared, None
        if waiting is not None and what == "commit":
            self._commit(waiting)
        elif waiting is not None and what == "abandon":
            await self._deployment.abandon(waiting)
        return self._deployment.current.artifact.hash

    def _forget(self, prepared: LiveModel) -> None:
        """Abandon what another worker asked for and, having died meanwhile, never decided on."""
        if self._prepared is prepared:
            self._prepared = None
            self._forgetting = asyncio.get_running_loop().create_task(self._deployment.abandon(prepared))

    def _commit(self, model: LiveModel) -> LiveModel:
        old = self._deployment.commit(model)
        self._operations.count_swap("unchanged" if model is old else "ok")
        if model is not old:
            self._tell(model)
            if self._on_ready is not None:
                self._on_ready()
        return old

    async def render_metrics(self) -> bytes:
        """The exposition text of /metrics, of every worker."""
        own = self._render()
        return own if self._siblings is None else await self._siblings.render(own)

    def _tell(self, model: LiveModel) -> None:
        manifest = model.artifact.manifest
        self._operations.tell_artifact(manifest.name, model.artifact.hash, manifest.precision)

    def request_reload(self) -> None:
        """Read the API keys and the configured artifact again; what cannot be used is logged and changes nothing."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        settings = self._settings
        try:
            keys = read_keys(settings.api_keys_file, settings.api_keys.get_secret_value())
            self._access.replace_keys(keys)
            if self._siblings is None or self._siblings.index == 0:  # it asks the others
                await self.swap(settings.artifact)
            logger.info("reloaded", extra={"fields": {"num_keys": len(keys)}})
        except (InvalidSettingsError, ServiceError) as error:
            logger.error("reload_refused", extra={"fields": {"reason": str(error)}})

    def leave(self) -> None:
        """Ask for no more traffic: /readyz is 503 from here on, what comes is still answered."""
        if self._readiness.is_ready:
            self._readiness.enter("draining", "the service is shutting down")

    def cut_off(self) -> None:
        """Make an end of what is still under way: what waits for an engine fails as not ready."""
        self._cutting = asyncio.get_running_loop().create_task(self.stop())

    @property
    def is_leaving(self) -> bool:
        """Whether callers should go elsewhere."""
        return self._readiness.status.stage == "draining"

    async def stop(self) -> None:
        """End it; whatever still waits fails as not ready."""
        self._readiness.enter("stopping", "the service is shutting down")
        if self._reloading is not None:
            self._reloading.cancel()
        if self._siblings is not None:
            await self._siblings.close()
        await self._deployment.close()
