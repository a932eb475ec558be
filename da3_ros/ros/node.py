"""The ROS 2 lifecycle node ``da3_node``: parameters, transitions, the reset service, and its main function."""

from __future__ import annotations

import functools
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import Trigger

from da3_ros.config import Config
from da3_ros.errors import Da3Error, UnavailableError
from da3_ros.ros.log import bridge_logging, unbridge_logging
from da3_ros.ros.params import NodeParameters
from da3_ros.ros.process import end_process, run
from da3_ros.ros.qos import check_overrides

if TYPE_CHECKING:
    from da3_ros.ros.engine import StepPipeline
    from da3_ros.ros.session import Session

# How long a transition waits for the step in work before it lets go of the inference thread.
_CLOSE_TIMEOUT_S = 10.0


class Da3Node(LifecycleNode):
    """Depth Anything 3 on synchronized cameras. Configure loads the model and warms it up, activate subscribes.

    ``make_pipeline`` makes what computes (``da3_ros.pipeline.Pipeline`` when it is None); other arguments are those
    of LifecycleNode. What a user can mend fails the transition with one line in the log; a bug or a CUDA error is
    raised from the executor, so that the process ends.
    """

    def __init__(self, make_pipeline: Callable[[Config], StepPipeline] | None = None, **kwargs: Any):
        super().__init__("da3_node", **kwargs)
        self._make_pipeline = make_pipeline
        self._session: Session | None = None
        self._failure: BaseException | None = None
        self._log_handler = bridge_logging(self.get_logger())
        # The overrides that rclpy collected; it has no public way to ask for those that nobody declares.
        self._parameter_values = NodeParameters(self, self._parameter_overrides)
        self._failed = self.create_guard_condition(self._raise_failure)
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)
        # Of its own group: it is under way for seconds, while the node's other callbacks go on.
        self._save_map_service = self.create_service(
            Trigger, "~/save_map", self._on_save_map, callback_group=MutuallyExclusiveCallbackGroup()
        )

    def start(self) -> bool:
        """Configure and activate when the parameter ``autostart`` is set; False when that fails."""
        if self.get_parameter("autostart").value:
            return all(
                transition() == TransitionCallbackReturn.SUCCESS
                for transition in (self.trigger_configure, self.trigger_activate)
            )
        self.get_logger().info(
            f"waiting to be configured and activated: `ros2 lifecycle set {self.get_fully_qualified_name()} "
            "configure`, then `activate`, or start with the parameter autostart:=true"
        )
        return True

    def close(self, timeout_s: float) -> bool:
        """Release everything; False when a step is still running after ``timeout_s``."""
        unbridge_logging(self._log_handler)
        return self._release(timeout_s)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load the model and warm it up, create the publishers."""
        return self._try(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers and subscribe to the cameras."""
        return self._try(lambda: self._activate(state))

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and fall silent; the model stays loaded."""
        return self._try(lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model; parameters may change again."""
        return self._try(lambda: self._release(_CLOSE_TIMEOUT_S))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        return self._try(lambda: self._release(_CLOSE_TIMEOUT_S))

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything after a transition that raised; the executor raises what went wrong."""
        self._release(_CLOSE_TIMEOUT_S)
        return TransitionCallbackReturn.FAILURE

    def _configure(self) -> None:
        config = self._parameter_values.config()
        check_overrides(self._parameter_overrides)
        try:
            # Imported here so that the node is up, and can say what is missing, before torch is loaded.
            from da3_ros.pipeline import Pipeline
            from da3_ros.ros.session import Session
        except ImportError as error:
            raise UnavailableError(f"a library that the node needs is missing: {error}") from error
        make_pipeline: Callable[[Config], StepPipeline] = self._make_pipeline or functools.partial(Pipeline, live=True)
        self._session = Session(self, config, make_pipeline, self._fail)
        self._parameter_values.freeze(self._session.update)

    def _activate(self, state: LifecycleState) -> None:
        assert self._session is not None
        self._session.activate(self._parameter_overrides)
        super().on_activate(state)
        self._session.start()

    def _deactivate(self, state: LifecycleState) -> None:
        super().on_deactivate(state)
        if self._session is not None:
            self._session.deactivate()

    def _release(self, timeout_s: float) -> bool:
        session, self._session = self._session, None
        self._parameter_values.thaw()
        return session is None or session.close(timeout_s)

    def _try(self, action: Callable[[], Any]) -> TransitionCallbackReturn:
        try:
            action()
        except Da3Error as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        except BaseException as error:  # rclpy would swallow it without a word
            self._fail(error)
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _fail(self, error: BaseException) -> None:
        """Have the executor raise ``error``; callable from any thread. The first error counts."""
        if self._failure is None:
            self._failure = error
            self.get_logger().fatal("".join(traceback.format_exception_only(error)).strip())
            self._failed.trigger()

    def _raise_failure(self) -> None:
        assert self._failure is not None
        raise self._failure

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._session is not None and self._session.reset("asked for by service")
        response.message = "" if response.success else "the node is not active"
        return response

    async def _on_save_map(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """In a thread, since a large map takes seconds, and the executor has other services and time-outs to see to."""
        saved: Future[Trigger.Response] = Future(executor=self.executor)
        arguments = self._session, response, saved
        threading.Thread(target=self._save_map, args=arguments, name="da3-save", daemon=True).start()
        return await saved

    def _save_map(self, session: Session | None, response: Trigger.Response, saved: Future[Trigger.Response]) -> None:
        """Save the map of ``session``, and complete ``saved`` with ``response`` or with what went wrong."""
        try:
            if session is None:
                raise UnavailableError("the node is not configured: there is no map")
            response.message = session.save_map()
            response.success = True
        except Da3Error as error:
            response.success, response.message = False, str(error)
        except Exception as error:  # a bug, which ends the node
            saved.set_exception(error)
        if not saved.done():
            saved.set_result(response)
        if self.executor is not None:
            self.executor.wake()  # or it would look at the answer with the next timer only


def main(args: list[str] | None = None) -> NoReturn:
    """Run the node and end the process: exit code 0 after SIGINT or SIGTERM, 1 after a failure."""
    end_process(run(Da3Node, args))
