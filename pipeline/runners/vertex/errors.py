"""What Google's clients raise, in sentences that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipeline.errors import ConfigError

_NO_CREDENTIALS = (
    "no Google credentials were found; run `gcloud auth application-default login`, or let "
    "GOOGLE_APPLICATION_CREDENTIALS name the file of a service account"
)


@contextlib.contextmanager
def explained(doing: str, project: str, region: str) -> Iterator[None]:
    """Turn errors of credentials, permissions and network into one sentence.

    Args:
        doing: what was tried.
        project: in which project.
        region: where.

    Raises:
        ConfigError: in place of an error of Google's clients.
    """
    import requests
    from google.api_core import exceptions
    from google.auth import exceptions as auth

    try:
        yield
    except auth.DefaultCredentialsError as error:
        raise ConfigError(f"{doing} failed: {_NO_CREDENTIALS}") from error
    except auth.RefreshError as error:
        raise ConfigError(
            f"{doing} failed: the Google credentials have expired or were withdrawn ({_first_line(error)}); run "
            "`gcloud auth application-default login` again, or renew the service account's key"
        ) from error
    except (exceptions.Unauthenticated, exceptions.Unauthorized) as error:
        raise ConfigError(f"{doing} failed: Google doesn't accept the credentials ({_first_line(error)})") from error
    except (exceptions.PermissionDenied, exceptions.Forbidden) as error:
        raise ConfigError(
            f"{doing} failed: permission denied in project {project!r} ({_first_line(error)}); check the project's id, "
            "switch the Vertex AI API on there, and give the account the role roles/aiplatform.user"
        ) from error
    except exceptions.NotFound as error:
        raise ConfigError(
            f"{doing} failed: not found ({_first_line(error)}); check the id of the project {project!r}, the region "
            f"{region!r}, the bucket and the image"
        ) from error
    except (exceptions.InvalidArgument, exceptions.BadRequest, exceptions.FailedPrecondition) as error:
        raise ConfigError(f"{doing} failed: the service refuses the request: {_first_line(error)}") from error
    except exceptions.ResourceExhausted as error:
        raise ConfigError(
            f"{doing} failed: a quota of project {project!r} is used up ({_first_line(error)}); wait, or ask for more"
        ) from error
    except (
        exceptions.ServerError,
        exceptions.RetryError,
        auth.TransportError,
        requests.exceptions.ConnectionError,
        ConnectionError,
    ) as error:
        raise ConfigError(
            f"{doing} failed: {region}-aiplatform.googleapis.com can't be reached ({_first_line(error)}); check the "
            f"network and that {region!r} is a region of Vertex AI, and try again: nothing is started twice"
        ) from error


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text, cut where it gets long."""
    text = (str(error) or type(error).__name__).strip().split("\n", 1)[0]
    return text if len(text) <= 300 else text[:297] + "..."
