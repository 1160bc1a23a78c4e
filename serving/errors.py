"""The error tree of the serving room.

Raised by every module here; the command line turns `exit_code` into that of the process.
"""

from __future__ import annotations


class ServingError(ValueError):
    """What the user gave cannot be loaded, run, verified or published; the message says how to fix it."""

    exit_code: int = 2


class Refused(ServingError):
    """A gate looked at the model and turned it down."""

    exit_code = 3


class ModelLoadError(ServingError):
    """A directory does not hold a SavedModel that TensorFlow Serving's loader would accept."""


class SignatureError(ServingError):
    """A call does not fit the model: unknown signature, or inputs with other names, dtypes or shapes."""


class RunError(ServingError):
    """The graph itself failed while it ran.

    Attributes:
        code: Canonical status code of TensorFlow and gRPC, such as 3 (INVALID_ARGUMENT) or 9
            (FAILED_PRECONDITION).
    """

    def __init__(self, message: str, code: int) -> None:
        """Keep the status code beside the message."""
        super().__init__(message)
        self.code = code


class ManifestError(ServingError):
    """A manifest is missing, damaged, hostile, or does not agree with the files beside it."""


class PublishError(ServingError):
    """A version could not be published or rolled back; what is served is untouched."""


class ConversionError(ServingError):
    """A model cannot be converted to a form, or the request to convert it makes no sense."""


class UnavailableError(ConversionError):
    """This machine lacks what a form needs: a package, a GPU, a library. The form is skipped, not failed."""


class BundleError(ServingError):
    """What is given is no bundle for phones or servers, or cannot be made into one."""
