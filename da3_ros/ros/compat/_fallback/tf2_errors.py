"""What a transform lookup can fail with, by the names of tf2."""


class TransformException(Exception):
    """Base of all failures of the transform buffer."""


class LookupException(TransformException):
    """A frame is not known, or the tree has a loop."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms connects them."""


class ExtrapolationException(TransformException):
    """The chain exists, but a link of it has no data at the time that was asked for."""


class InvalidArgumentException(TransformException):
    """A frame name is empty or starts with a slash."""
