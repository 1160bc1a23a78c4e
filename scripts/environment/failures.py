"""What can go wrong while setting up, each told in one sentence: what is missing and what to do.

In comes the output of a tool that failed; out goes the sentence. Called by every step of the set-up.
"""

from __future__ import annotations

import re

NETWORK = "network"
CERTIFICATE = "certificate"
HASH = "hash"
SPACE = "space"
RIGHTS = "rights"
COMPILER = "compiler"
ABSENT = "absent"
UNKNOWN = "unknown"

SENTENCES = {
    NETWORK: (
        "The package index cannot be reached: connect this machine to the network, or point PIP_INDEX_URL "
        "(and HTTPS_PROXY, if there is a proxy) at one that it reaches, and run the same command again"
    ),
    CERTIFICATE: (
        "The certificate of the package index or of a proxy on the way is not trusted here: set PIP_CERT to "
        "the file of the authority that signed it, and run the same command again"
    ),
    HASH: (
        "A downloaded package does not have the SHA-256 that this repository expects and was not installed: "
        "clear the cache with `uv cache clean`, and if it happens again, report the index in use"
    ),
    SPACE: "The disk became full: make room (about 5 GB in all) and run the same command again",
    RIGHTS: "A file or folder may not be written: make the clone and the cache folder writable for this user",
    COMPILER: (
        "A package has to be compiled and that failed: install a C++ compiler (Debian: `apt-get install "
        "g++`) and run the same command again"
    ),
    ABSENT: (
        "The package index in use does not have a package of the lock: point PIP_INDEX_URL at a complete "
        "index and run the same command again"
    ),
}

# In this order: an output that shows several is named by the first, the more certain cause.
SIGNS = (
    (HASH, r"hash mismatch|do not match the hashes|hashes are required"),
    (SPACE, r"no space left on device|disk quota exceeded|errno 28"),
    (CERTIFICATE, r"invalid peer certificate|certificate.?verify|unknownissuer|unable to get local issuer"),
    (
        NETWORK,
        r"dns error|error sending request|failed to lookup address|name or service not known|name resolution|"
        r"could not connect|connection (refused|reset|aborted|broken|error)|tcp connect error|timed out|"
        r"tunnel error|proxy ?error|network is unreachable|no route to host|newconnectionerror|"
        r"max retries exceeded|network connectivity is disabled|request failed after \d+ retries|"
        r"failed to (fetch|download)[^\n]*http|http status (server|client) error|retrying \(retry",
    ),
    (RIGHTS, r"permission denied|read-only file system"),
    (ABSENT, r"no solution found|was not found in the|no matching distribution|no version of"),
    (COMPILER, r"failed to build|could not build wheels|command '?\S*(gcc|g\+\+|c\+\+|cc)'? failed"),
)


class SetupError(ValueError):
    """The set-up cannot go on; the message is one sentence that says what is missing and what to do."""

    exit_code = 2


def cause_of(output: str) -> str:
    """Name the cause that a failed tool's output shows, `UNKNOWN` where it shows none that is known."""
    for cause, pattern in SIGNS:
        if re.search(pattern, output, re.IGNORECASE):
            return cause
    return UNKNOWN


def sentence_for(output: str, doing: str) -> str:
    """Say in one sentence why a step failed.

    Args:
        output: what the tool printed.
        doing: the step, as in "installing the packages".
    """
    sentence = SENTENCES.get(cause_of(output))
    return sentence or f"{doing.capitalize()} failed for a reason that only the log shows"
