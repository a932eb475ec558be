"""The errors that da3_ros raises on purpose; each message is one sentence: found, wanted, what to change."""


class Da3Error(Exception):
    """Base of all errors that a user of the package can cause and mend."""


class ConfigError(Da3Error):
    """The configuration contradicts itself or the machine; lists every problem found."""


class WeightsError(Da3Error):
    """A checkpoint is missing, damaged or does not fit the chosen variant."""


class InputError(Da3Error):
    """An argument, image or recording has the wrong shape, type, size or content."""


class FrameError(InputError):
    """One camera message cannot be used: it is dropped and counted, and the node goes on.

    ``reason`` is a short stable key for counting (for example ``encoding``), ``camera`` the camera's name.
    """

    def __init__(self, camera: str, reason: str, message: str):
        super().__init__(f"camera '{camera}': {message}")
        self.camera = camera
        self.reason = reason


class UnavailableError(Da3Error):
    """Something that the machine should provide (a library, a device, a topic) is not there."""
