"""What `--help` teaches beside the options: examples of each command, and what comes after it.

`app` puts a lesson at the end of each command's help; an error of the command line shows its first example; the
documentation's page of commands is made of them.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any

_WIDTH = 76
_TAG = re.compile(r"(\[[a-zA-Z#/@])")


@dataclass(frozen=True)
class Lesson:
    """Examples of a command and what comes next.

    Attributes:
        examples: pairs of a line to type and what it does.
        then: what people do afterwards.
    """

    examples: tuple[tuple[str, str], ...]
    then: str


START = """\
Start here:
  slipway init path/to/images   looks at them and writes a commented YAML
  slipway run images.yaml       runs what has changed, and says why
  slipway report                one page about the run, to look at and send

Exit codes: 0 done; 1 a bug, with its stack trace; 2 something has to be
changed in what was given, and the message says what; 3 a gate refused data or
model; 99 nothing to do (due, run-node); 130 interrupted.

`slipway COMMAND --help` has examples. `slipway --install-completion` lets
the shell complete commands, settings and runs."""
"""The end of `slipway --help`."""

LESSONS: dict[str, Lesson] = {
    "init": Lesson(
        (
            ("slipway init path/to/images", "looks at the pictures, writes images.yaml here"),
            ("slipway init flowers --out configs/flowers.yaml --force", "elsewhere, replacing what is there"),
        ),
        "slipway run images.yaml",
    ),
    "run": Lesson(
        (
            ("slipway run images.yaml", "executes what has changed, takes the rest from the cache"),
            ("slipway run images.yaml --set train.epochs=30", "with another value for this run"),
            ("slipway run images.yaml --from Trainer --to Evaluator", "a part of it"),
        ),
        "slipway report shows what came out; slipway serve answers requests.",
    ),
    "status": Lesson(
        (
            ("slipway status", "the newest run below runs/"),
            ("slipway status --config images.yaml --json", "the last run of this config, for programs"),
        ),
        "slipway report has the pictures to it; slipway runs list shows earlier runs.",
    ),
    "report": Lesson(
        (
            ("slipway report", "writes the page about the last run and opens it"),
            ("slipway report --compare 2026-11-21 2026-11-22", "two runs side by side, by the beginnings of their ids"),
        ),
        "slipway runs list shows the ids; slipway predict picture.jpg asks the model.",
    ),
    "predict": Lesson(
        (
            ("slipway predict picture.jpg other.png", "the three likeliest classes of each"),
            ("slipway predict --batch folder --out answers.csv", "a whole folder"),
        ),
        "slipway serve answers the same over HTTP and gRPC.",
    ),
    "config show": Lesson(
        (
            ("slipway config show images.yaml", "every setting, its meaning, and where its value comes from"),
            ("slipway config show images.yaml --set train.epochs=3", "as a run with --set would see it"),
        ),
        "change a line of the YAML, then: slipway run images.yaml",
    ),
    "config schema": Lesson(
        (
            ("slipway config schema --out slipway.schema.json", "a file to name in an editor's settings"),
            ("slipway config schema", "the same on the screen"),
        ),
        "put `# yaml-language-server: $schema=slipway.schema.json` into the YAML's first line.",
    ),
    "optimize": Lesson(
        (
            ("slipway optimize images.yaml", "the forms of the YAML, else all that need no training"),
            (
                "slipway optimize images.yaml --set compress.variants=[qat_tflite_int8]",
                "this one, for which it trains",
            ),
        ),
        "slipway versions --of edge lists the mobile bundles.",
    ),
    "export": Lesson(
        (
            (
                "slipway export runs/images/served/1 -f tflite_float16 -o model.tflite",
                "a published version as one TFLite file",
            ),
            (
                "slipway export saved_model -f tflite_int8 -o int8.tflite --data digits",
                "8 bits: its ranges come from pictures",
            ),
        ),
        "slipway benchmark compares it with the model.",
    ),
    "benchmark": Lesson(
        (
            (
                "slipway benchmark runs/images/served/1 model.tflite --data path/to/images",
                "accuracy, agreement, size and CPU time side by side",
            ),
            ("slipway benchmark runs/images", "the forms of the last run once more"),
        ),
        "slipway optimize certifies forms and publishes those that pass.",
    ),
    "edge verify": Lesson(
        (("slipway edge verify runs/images/edge/1", "sums, card, metadata, and the answers to the samples"),),
        "hand the folder to the app's developers; its README has examples in four languages.",
    ),
    "versions": Lesson(
        (
            ("slipway versions", "the SavedModels, and which one is served"),
            ("slipway versions --of edge", "the mobile bundles"),
        ),
        "slipway rollback serves the one before again; slipway runs lineage tells where one comes from.",
    ),
    "rollback": Lesson(
        (
            ("slipway rollback", "back to the version that was served before"),
            ("slipway rollback 3 --of edge", "back to mobile bundle 3"),
        ),
        "slipway versions shows what is served now.",
    ),
    "serve": Lesson(
        (
            ("slipway serve", "what the newest run published: REST on 8501, gRPC on 8500"),
            ("slipway serve images.yaml --rest_api_port=9000", "of this config, on another port"),
            ("slipway serve --rollout=manual", "stays on its version until a canary is promoted"),
        ),
        "slipway gateway puts a web page in front of it.",
    ),
    "gateway": Lesson(
        (
            ("slipway gateway", "a web page and an API on http://127.0.0.1:8080"),
            ("slipway gateway --settings gateway.yaml", "with keys, limits and the rest from a file"),
        ),
        "open the page and drop a picture on it.",
    ),
    "canary start": Lesson(
        (
            ("slipway canary start --server grpc://127.0.0.1:8500", "the newest version, for the first share of users"),
            ("slipway canary start 4 --weight 0.05 --weight 0.5", "version 4, in these steps"),
        ),
        "slipway canary status shows how it does.",
    ),
    "canary status": Lesson(
        (("slipway canary status", "who answers whom, what the guards say"),),
        "slipway canary promote gives it to everybody, slipway canary abort takes it back.",
    ),
    "canary promote": Lesson(
        (("slipway canary promote", "the canary becomes the version for everybody"),),
        "slipway canary rollback, should it be regretted.",
    ),
    "canary abort": Lesson(
        (('slipway canary abort --reason "too slow"', "everybody gets the stable version again"),),
        "slipway canary status has the figures that it left.",
    ),
    "canary rollback": Lesson(
        (("slipway canary rollback --to 3", "version 3 becomes the stable one again"),),
        "slipway canary status",
    ),
    "canary watch": Lesson(
        (("slipway canary watch", "advances, promotes and rolls back by itself until Ctrl-C"),),
        "slipway canary status, in another terminal.",
    ),
    "warmup": Lesson(
        (("slipway warmup logs --model images --out warmup_requests", "from what the server has logged"),),
        "copy the file to assets.extra/tf_serving_warmup_requests of a version.",
    ),
    "deploy": Lesson(
        (
            ("slipway deploy --out deployment", "for the model that the newest run published"),
            ("slipway deploy -o deployment --set replicas=3 --set host=models.example.com", "with values of yours"),
        ),
        "read deployment/README.md",
    ),
    "watch": Lesson(
        (
            ("slipway watch images.yaml", "stays, and runs when the section retrain says so"),
            ("slipway watch images.yaml --once", "one look, for cron"),
        ),
        "slipway status shows the run that it made.",
    ),
    "drift": Lesson(
        (("slipway drift --log logs", "requests against training data; exit code 3 if they drifted"),),
        "look at the requests; with labels for some of them, add them to the data and run again.",
    ),
    "due": Lesson(
        (("slipway due images.yaml", "exit code 0 if a run would find something new, 99 if not"),),
        "slipway run images.yaml",
    ),
    "runs list": Lesson(
        (("slipway runs list --limit 5", "the newest five"),), "slipway runs show RUN tells all about one."
    ),
    "runs show": Lesson(
        (("slipway runs show latest", "stages, artifacts and verdicts of the newest run"),),
        "slipway report has the pictures to it.",
    ),
    "runs lineage": Lesson(
        (
            ("slipway runs lineage latest", "what the version in service was made of"),
            ("slipway runs lineage 2 --of edge", "the same for mobile bundle 2"),
        ),
        "slipway runs show RUN tells about the run that made it.",
    ),
    "runs compare": Lesson(
        (("slipway runs compare 2026-11-21 latest", "config, code, data, metrics and times that differ"),),
        "slipway report --compare shows two runs as pictures.",
    ),
    "runs gc": Lesson(
        (
            ("slipway runs gc", "shows what could be removed, and removes nothing"),
            ("slipway runs gc --keep 10 --apply", "removes it, but nothing of the newest ten runs"),
        ),
        "slipway versions: what is published stays.",
    ),
    "compile": Lesson(
        (
            ("slipway compile images.yaml --target airflow --out dags", "one task per stage"),
            (
                "slipway compile images.yaml --target vertex --out build --rehearse",
                "for Vertex AI, and each of its containers run here",
            ),
        ),
        "slipway submit images.yaml --target airflow starts a run there.",
    ),
    "submit": Lesson(
        (
            ("slipway submit images.yaml --target airflow --span 7", "a run on the data up to span 7"),
            ("slipway submit images.yaml --target vertex", "a run, or its schedule, on Vertex AI"),
        ),
        "slipway status, where the work directory is shared; else the orchestrator's own page.",
    ),
    "image": Lesson(
        (("slipway image images.yaml --out image --image example.org/slipway:1", "a complete build folder"),),
        "docker build -t example.org/slipway:1 image",
    ),
    "prepare-run": Lesson(
        (("slipway prepare-run images.yaml --run-id monday", "prints the path of the compiled pipeline"),),
        "slipway run-node ExampleGen --run-id monday --workdir runs/images",
    ),
    "run-node": Lesson(
        (("slipway run-node Trainer --run-id monday --workdir runs/images", "one stage, in this process"),),
        "the stages behind it; at the end slipway finish-run --run-id monday --workdir runs/images",
    ),
    "finish-run": Lesson(
        (("slipway finish-run --run-id monday --workdir runs/images", "says how the run ended"),),
        "slipway status --workdir runs/images",
    ),
    "beam-worker": Lesson(
        (("slipway beam-worker --host 10.0.0.2 --workers 8", "lends eight processes to pipelines elsewhere"),),
        "name 10.0.0.2:50000 in beam.pools of the pipeline's YAML.",
    ),
    "doctor": Lesson(
        (("slipway doctor", "Python, libraries, devices and tools: what works here, what is missing"),),
        "do what its right column says; nothing there means that all is well.",
    ),
}
"""One lesson a command, by its words after `slipway`."""


def text(command: str) -> str:
    """Return a command's lesson as plain text of some lines, or nothing where there is none.

    Args:
        command: its words after `slipway`, such as `runs show`.
    """
    lesson = LESSONS.get(command)
    if lesson is None:
        return ""
    lines = ["Examples:" if len(lesson.examples) > 1 else "Example:"]
    for line, what in lesson.examples:
        lines += [f"  {line}", f"      {what}"]
    return "\n".join([*lines, "", *textwrap.wrap(f"Next: {lesson.then}", _WIDTH, subsequent_indent=" " * 6)])


def teach(app: Any, path: str = "") -> None:
    """Put the lessons at the end of the help of all commands of an application.

    Args:
        app: a `typer.Typer`; its groups are gone through as well.
        path: the words that lead to it.
    """
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        command.epilog = _as_markup(text(f"{path}{name}"))
    for group in app.registered_groups:
        teach(group.typer_instance, f"{path}{group.name} ")


def _as_markup(plain: str) -> str:
    """Return text in which Rich finds no markup of its own."""
    return _TAG.sub(r"\\\1", plain)
