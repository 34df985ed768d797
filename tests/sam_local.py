"""`make sam-local-test`: the functions in real containers, by `sam local`, against a stack of its own.

Invokes each function that asks Claude or a store once with its example event, and asks `sam local start-api` one
question. Prints a line for each. Exits with 0 when nothing failed, or when there is no Docker engine, which it says.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from local.sam_local import PYTHON, NoContainers, SamLocal, find_bridge, sam_local
from local.state import ROOT, StateFolder, is_free
from tests.e2e.stack import PORT_BASE, Stack

STATE = ROOT / ".turnlog" / "sam-local-test"
PORT = PORT_BASE + 3
IMAGE = f"public.ecr.aws/lambda/python:{PYTHON}"
WITHIN_S = 300.0
# What an example event is answered with. An event that no route brings has no status.
STATUS = {"session": 201, "anonymous": 201, "admin": 200}
ASKS_NOTHING = {"console", "models", "authorizer"}  # of Claude or a store; start-api calls the authorizer
NEEDS_ADAPTER = {"stream"}  # AWS's, which is a layer of AWS's own


class Failed(Exception):
    """A function did not do what it should. The message has the answer."""


def folders(template: Path) -> dict[str, str]:
    """The folder of each function that asks Claude or a store, by logical name."""
    resources = yaml.safe_load(template.read_text())["Resources"]
    found = {name: _folder(name) for name, each in resources.items() if each["Type"] == "AWS::Serverless::Function"}
    return {name: folder for name, folder in found.items() if folder not in ASKS_NOTHING | NEEDS_ADAPTER}


def _folder(logical: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", logical.removesuffix("Function")).lower()


def check_invocation(local: SamLocal, stack: Stack, logical: str, folder: str) -> str:
    """Invokes a function with its example event. Returns what it answered, in short."""
    event = json.loads((ROOT / "events" / f"{folder}.json").read_text())
    if folder == "summarize_upload":
        key = f"inbox/{stack.owner}/herons.txt"
        stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"Herons eat fish. They nest near water.")
        event["detail"] |= {"bucket": {"name": stack.bucket}, "object": {"key": key, "size": 38}}
    command = local.command("invoke", logical, "--event", "-", *_image())
    done = subprocess.run(
        command, cwd=ROOT, env=dict(local.environment), input=json.dumps(event), capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Failed(done.stdout + done.stderr) from error
    if done.returncode != 0 or (isinstance(answer, dict) and "errorType" in answer):
        raise Failed(f"{answer}\n{done.stderr}")
    if not (isinstance(answer, dict) and "statusCode" in answer):
        return f"done, {answer}"
    if answer["statusCode"] != STATUS.get(folder, 200):
        raise Failed(f"{answer}\n{done.stderr}")
    return f"{answer['statusCode']}, {str(answer['body'])[:80]}"


def _image() -> list[str]:
    """The option that keeps an image that is there: SAM would ask its registry for a newer one, and fail without it."""
    asked = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)  # noqa: S607
    return ["--skip-pull-image"] if asked.returncode == 0 else []


@contextmanager
def start_api(local: SamLocal) -> Iterator[str]:
    """Runs `sam local start-api` for the block. Yields its address."""
    command = local.command("start-api", "--host", "127.0.0.1", "--port", str(PORT), *_image())
    log = STATE / "start-api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(local.environment), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + WITHIN_S
        while is_free(PORT):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(log.read_text())
            time.sleep(0.2)
        yield f"http://127.0.0.1:{PORT}"
    finally:
        process.terminate()
        process.wait()


def check_api(local: SamLocal, stack: Stack) -> str:
    """Asks a question with a token, and without one, by way of the authorizer. Returns the answer, in short."""
    with start_api(local) as url:
        question: dict[str, Any] = {"json": {"message": "What is a heron?"}, "timeout": WITHIN_S}
        refused = httpx2.post(f"{url}/query", **question)
        answer = httpx2.post(f"{url}/query", headers={"Authorization": f"Bearer {stack.token}"}, **question)
    if (refused.status_code, answer.status_code) != (401, 200):
        raise Failed(f"{refused.status_code} {refused.text}\n{answer.status_code} {answer.text}")
    return f"200, {answer.text[:80]}"


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Runs every check and returns the exit code."""
    try:
        bridge = find_bridge()
    except NoContainers as reason:
        say(f"not tested: `sam local` needs a Docker engine on this machine, and {reason}")
        return 0
    say("left out  StreamFunction: it needs AWS's Lambda Web Adapter, which a stack on one machine goes without")
    stack, failed = Stack(STATE), 0
    stack.start()
    try:
        with sam_local(StateFolder(STATE), bridge) as local:
            for name, folder in [*folders(local.template).items(), ("start-api", "")]:
                try:
                    answer = check_invocation(local, stack, name, folder) if folder else check_api(local, stack)
                    say(f"ok      {name}: {answer}")
                except Failed as error:
                    failed += 1
                    say(f"FAILED  {name}: {error}")
    finally:
        stack.close()
        stack.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
