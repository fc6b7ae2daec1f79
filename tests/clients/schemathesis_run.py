#!/usr/bin/env python3
"""Holds a running patgate against its own OpenAPI document with schemathesis.

    python3 tests/clients/schemathesis_run.py PATGATE [SCHEMATHESIS] [-- FURTHER ARGUMENTS OF SCHEMATHESIS]

PATGATE is the binary; SCHEMATHESIS the command, `schemathesis` if nothing is said. A server of its own is started on the
loopback interface, with data that is gone afterwards, and asked three times: as an administrator, as a contributor, and
without a credential. No answer may be a fault of the server, have a status that the document does not know, or be other
than the document says. At the end the server must still answer, and its log must hold no secret and no panic.

PATGATE_SCHEMATHESIS_EXAMPLES is the number of requests that are made up for each operation (30), and
PATGATE_SCHEMATHESIS_SEED what they are made up from (1).
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

PASSWORD = "correct horse battery staple"

# A document says neither that a name has to exist nor that a moment must have passed, so what fits it may be refused;
# and whoever fails to prove who it is too often hears 429, which is why that is not tried here.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
]

# Without a credential a method that there is not is challenged like everything else.
CHECKS_WITH_TOKEN = [*CHECKS, "unsupported_method"]

# What can end the very token that it is asked with, because schemathesis sends what other answers told it.
ENDS_TOKENS = "token-admin\\.(revoke|revoke-all-tokens|create-rule)(\\..*)?$"

# The limits of a minute would end the run; that they hold is shown elsewhere.
SETTINGS = """
[limits]
rest-token-per-minute = 1000000
rest-address-per-minute = 1000000
"""


class Server:
    """A server of its own in a folder that is gone afterwards."""

    def __init__(self, patgate: str, folder: Path):
        self.patgate = patgate
        self.folder = folder
        self.secrets = [PASSWORD]
        (folder / "patgate.toml").write_text(SETTINGS)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PATGATE_")}
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            self.env.pop(name, None)
        self.log: list[str] = []

    def cli(self, *args: str, stdin: str = "") -> str:
        """Runs a command on the server's data."""
        done = subprocess.run(
            [self.patgate, *args], cwd=self.folder, env=self.env, input=stdin, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"schemathesis_run: patgate {' '.join(args)} failed: {done.stderr}")
        return done.stdout.strip()

    def account(self, name: str, *flags: str) -> None:
        """Makes an account."""
        self.cli("user", "add", name, *flags, "--password-stdin", stdin=PASSWORD + "\n")

    def token(self, user: str, scope: str) -> str:
        """Makes a token."""
        token = self.cli("token", "create", "--user", user, "--name", "test", "--scope", scope, "--expires", "30d")
        self.secrets.append(token)
        return token

    def start(self) -> None:
        """Starts it, and waits until it accepts connections."""
        self.process = subprocess.Popen(
            [self.patgate, "serve", "--plain-http", "--listen", "127.0.0.1:0", "--no-sample"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        )
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.kill()
            sys.exit(f"schemathesis_run: the server did not start: {line}{''.join(self.log)}")
        self.base = line.removeprefix("listening on ").strip()
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def get(self, path: str, token: str) -> bytes:
        """Asks for something with a token."""
        basic = base64.b64encode(f":{token}".encode()).decode()
        request = urllib.request.Request(self.base + path, headers={"Authorization": f"Basic {basic}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return answer.read()

    def stop(self) -> list[str]:
        """Ends it, and says what is wrong with how it went."""
        self.process.terminate()
        wrong = []
        if self.process.wait(timeout=60) != 0:
            wrong.append(f"the server ended with {self.process.returncode}")
        log = "".join(self.log)
        for word in ("panicked", "status=500", "ERROR"):
            found = [line.strip() for line in self.log if word in line]
            wrong += [f"the log has {word}: {line}" for line in found[:5]]
        # What the first start prints is for the administrator, and none of it is in this list.
        wrong += ["the log has a secret" for secret in self.secrets if secret in log]
        return wrong


def main() -> int:
    args = sys.argv[1:]
    further: list[str] = []
    if "--" in args:
        at = args.index("--")
        args, further = args[:at], args[at + 1 :]
    if not 1 <= len(args) <= 2:
        sys.exit(__doc__)
    patgate = str(Path(args[0]).resolve())
    schemathesis = args[1] if len(args) == 2 else "schemathesis"
    with tempfile.TemporaryDirectory(prefix="patgate-schemathesis-") as folder:
        return run(Server(patgate, Path(folder)), schemathesis, further)


def run(server: Server, schemathesis: str, further: list[str]) -> int:
    server.account("root", "--admin")
    server.account("anna")
    server.cli("access", "grant", "anna", "contributor")
    server.cli("repo", "create", "Fab/Web/Shop")
    root = server.token("root", "app_token")
    anna = server.token("anna", "vso.code_write")
    server.start()
    wrong = []
    try:
        document = server.folder / "openapi.json"
        document.write_bytes(server.get("/_apis/openapi.json", root))
        operations = sum(len(path) for path in json.loads(document.read_bytes())["paths"].values())
        rest, ends = ["--exclude-operation-id-regex", ENDS_TOKENS], ["--include-operation-id-regex", ENDS_TOKENS]
        for name, token, which in (
            ("an administrator", root, rest),
            ("a contributor", anna, []),
            ("nobody", None, []),
            ("an administrator who ends tokens", root, ends),
        ):
            print(f"== {operations} operations, asked by {name}", flush=True)
            checks = CHECKS if token is None else CHECKS_WITH_TOKEN
            command = [
                schemathesis,
                "run",
                str(document),
                "--url",
                server.base,
                "--checks",
                ",".join(checks),
                "--max-examples",
                os.environ.get("PATGATE_SCHEMATHESIS_EXAMPLES", "30"),
                "--seed",
                os.environ.get("PATGATE_SCHEMATHESIS_SEED", "1"),
                "--generation-database",
                "none",
                "--warnings",
                "off",
                "--no-color",
                "--continue-on-failure",
                *which,
                *further,
            ]
            if token is not None:
                command += ["--auth", f"x:{token}"]
            done = subprocess.run(command, cwd=server.folder, env=server.env)
            if done.returncode != 0:
                wrong.append(f"schemathesis found something as {name}")
            # A run whose token has ended showed nothing.
            if token is not None and which is not ends:
                try:
                    server.get("/_apis/connectionData", token)
                except OSError as error:
                    wrong.append(f"the token opens nothing after the run as {name}: {error}")
    finally:
        wrong += server.stop()
    for line in wrong:
        print(f"schemathesis_run: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
