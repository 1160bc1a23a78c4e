from __future__ import annotations

import pytest
from environment import failures
from environment.failures import cause_of, sentence_for

REAL_OUTPUTS = {
    failures.NETWORK: [
        "error: Failed to fetch: `mirror/simple/absl-py/`\n  cause: dns error",
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Cannot connect')'\n"
        "ERROR: No matching distribution found for uv==0.13.9",
        "  cause: error sending request\n  cause: operation timed out",
    ],
    failures.HASH: [
        "error: Failed to download `absl-py==1.4.0`\n  cause: Hash mismatch for `absl-py==1.4.0`",
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
    ],
    failures.SPACE: ["  cause: failed to write to file: No space left on device (os error 28)"],
    failures.CERTIFICATE: ["client error (Connect)\n  cause: invalid peer certificate: UnknownIssuer"],
    failures.RIGHTS: ["error: failed to create directory: Permission denied (os error 13)"],
    failures.COMPILER: ["error: Failed to build `pyfarmhash==0.3.2`\n  cause: error: command 'g++' failed"],
    failures.ABSENT: ["  x No solution found when resolving dependencies"],
    failures.UNKNOWN: ["Downloaded async-timeout==5.0.1 and certifi", ""],
}


@pytest.mark.parametrize(
    ("cause", "output"), [(cause, output) for cause, outputs in REAL_OUTPUTS.items() for output in outputs]
)
def test_the_cause_is_read_from_what_the_tool_printed(cause: str, output: str) -> None:
    assert cause_of(output) == cause


def test_every_cause_but_the_unknown_has_a_sentence_that_says_what_to_do() -> None:
    for cause in REAL_OUTPUTS:
        if cause != failures.UNKNOWN:
            assert ": " in failures.SENTENCES[cause]
            assert "\n" not in failures.SENTENCES[cause]


def test_an_unknown_cause_names_the_step() -> None:
    assert sentence_for("Segmentation fault", "making .venv").startswith("Making .venv failed")
